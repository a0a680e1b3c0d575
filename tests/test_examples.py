"""The reference has every public name, and an example of each that is right."""

import ast
import doctest
import importlib
import inspect
import json
import pathlib
import re
import tempfile
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import seqjax as sj
from seqjax import text

_ROOT = pathlib.Path(__file__).parent.parent
_DIRECTIVE = re.compile(
  r'^\.\. (currentmodule|auto\w+):: ([\w.]+)\n((?:   :.*\n)*)', re.M
)
# What is shown needs the files of the real reviews; the options of all layers are told
# by theirs.
_WITHOUT = {
  'seqjax.data.reviews.imdb.load_texts',
  'seqjax.layers.RecurrentLayer',
  'seqjax.layers.recurrence.Recurrence',
}
_NEEDS = {'seqjax.interop.onnx': 'onnx'}
_GLOBALS = {
  'jax': jax,
  'jnp': jnp,
  'nn': nn,
  'np': np,
  'optax': optax,
  'sj': sj,
  'tempfile': tempfile,
  'text': text,
}


def _found(name):
  """The object of a dotted name, and that of the first part that is no module."""
  parts, thing = name.split('.'), None
  for n, part in enumerate(parts):
    if thing is None or isinstance(thing, types.ModuleType):
      try:
        thing = getattr(thing, part) if thing else importlib.import_module(part)
      except AttributeError:
        thing = importlib.import_module('.'.join(parts[: n + 1]))
  return thing


def _reference():
  """Names as the reference has them -> the names of what each of them shows."""
  shown = {}
  for page in sorted((_ROOT / 'docs' / 'reference').glob('*.md')):
    module = ''
    for kind, name, options in _DIRECTIVE.findall(page.read_text()):
      if kind == 'currentmodule':
        module = f'{name}.'
        continue
      name = name if name.startswith('seqjax.') else module + name
      shown[name] = [name]
      if kind == 'automodule':
        members = re.search(r':members:(.*)', options)[1].replace(',', ' ').split()
        shown[name] += [f'{name}.{m}' for m in members or _members(name, options)]
  return shown


def _members(name, options):
  """What Sphinx takes of a module, which names no members."""
  module = _found(name)
  if ':imported-members:' in options:
    return module.__all__
  own = [n for n, v in vars(module).items() if getattr(v, '__module__', '') == name]
  return [n for n in own if n[0] != '_']


_REFERENCE = _reference()
_SHOWN = {name for names in _REFERENCE.values() for name in names}
_TOLD = sorted(n for n in _SHOWN if '>>>' in (inspect.getdoc(_found(n)) or ''))


def test_the_reference_has_every_public_name():
  public = [getattr(sj, name) for name in sj.__all__ if name != '__version__']
  public += [getattr(text, name) for name in text.__all__]
  shown = [id(_found(name)) for name in _SHOWN]
  assert [thing for thing in public if id(thing) not in shown] == []


def _used(page):
  """Names of this package that the code of a page of the documentation has."""
  if page.suffix == '.md':
    code = '\n'.join(re.findall(r'```python\n(.*?)```', page.read_text(), re.S))
  else:
    cells = json.loads(page.read_text())['cells']
    code = '\n'.join(''.join(c['source']) for c in cells if c['cell_type'] == 'code')
  tree, names = ast.parse(code), {'sj': 'seqjax'}
  for node in ast.walk(tree):
    if isinstance(node, ast.ImportFrom) and node.module.startswith('seqjax'):
      for alias in node.names:
        names[alias.asname or alias.name] = f'{node.module}.{alias.name}'
  for node in ast.walk(tree):
    parts = []
    while isinstance(node, ast.Attribute):
      parts, node = [node.attr, *parts], node.value
    if isinstance(node, ast.Name) and node.id in names:
      yield '.'.join([names[node.id], *parts])


def test_the_reference_has_every_name_that_pages_use():
  pages = [_ROOT / 'README.md', *_ROOT.glob('docs/**/*.md')]
  pages += _ROOT.glob('docs/**/*.ipynb')
  used = {name for page in pages if '_build' not in page.parts for name in _used(page)}
  assert len(used) > 90
  shown = [id(_found(name)) for name in _SHOWN]
  things = {name: _found(name) for name in used}
  assert [
    name
    for name, thing in things.items()
    if (inspect.isclass(thing) or callable(thing)) and id(thing) not in shown
  ] == []


def test_what_the_reference_has_has_an_example():
  """A module has one, or each of its functions and classes."""
  bare = []
  for name, shown in _REFERENCE.items():
    if name not in _TOLD:
      inside = [n for n in shown[1:] if callable(_found(n))]
      bare += [n for n in inside or [name] if n not in _TOLD]
  assert set(bare) == _WITHOUT


@pytest.mark.parametrize('name', _TOLD)
def test_the_example_says_what_comes_of_it(name, tmp_path, monkeypatch, capsys):
  if name in _NEEDS:
    pytest.importorskip(_NEEDS[name])
  monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
  example = doctest.DocTestParser().get_doctest(
    inspect.getdoc(_found(name)), dict(_GLOBALS), name, None, 0
  )
  with jax.numpy_rank_promotion('allow'):  # what a reader has
    found = doctest.DocTestRunner().run(example)
  assert found.attempted > 0
  assert not found.failed, capsys.readouterr().out
