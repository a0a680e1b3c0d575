"""What the documentation names exists, and the code of its pages runs."""

import ast
import json
import pathlib
import re

import jax
import pytest

import seqjax as sj

_ROOT = pathlib.Path(__file__).parent.parent
_DOCS = _ROOT / 'docs'
_TEST = re.compile(r'`((?:\w+/)*test_\w+)::(test_\w+)`')


def names_in(module):
  """Names of all test functions of a file, those of classes too."""
  tree = ast.parse((_ROOT / 'tests' / f'{module}.py').read_text())
  return {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}


@pytest.mark.parametrize(
  ('name', 'least'),
  [
    ('semantics.md', 15),
    ('features.md', 15),
    ('text.md', 15),
    ('experiments.md', 5),
    ('files.md', 15),
    ('weather.md', 15),
    ('transformations.md', 15),
  ],
)
def test_named_tests_exist(name, least):
  named = _TEST.findall((_ROOT / 'docs' / name).read_text())
  assert len(named) > least
  missing = [f'{m}::{t}' for m, t in named if t not in names_in(m)]
  assert not missing


def test_every_point_of_the_semantics_names_a_test():
  text = (_ROOT / 'docs' / 'semantics.md').read_text()
  points = re.split(r'\n- ', text)[1:]
  assert len(points) > 40
  bare = [p.splitlines()[0] for p in points if not _TEST.search(p.split('\n\n')[0])]
  assert not bare


@pytest.mark.parametrize('name', ['features.md', 'transformations.md'])
def test_every_row_names_a_test_and_fills_every_column(name):
  lines = (_ROOT / 'docs' / name).read_text().splitlines()
  header, _, *rows = [line.strip('|').split('|') for line in lines if line[:1] == '|']
  for row in rows:
    assert len(row) == len(header)
    assert all(cell.strip() for cell in row)
    assert _TEST.search(row[-1])


_PAGES = ['index.md', 'guides/accelerators.md', 'guides/from_keras.md']
_PAGES += ['guides/from_torch.md']
_PAGES += sorted(f'recipes/{path.name}' for path in (_DOCS / 'recipes').glob('*.md'))
_PAGES.remove('recipes/index.md')
_NEEDS = {'guides/from_torch.md': 'torch', 'recipes/serving.md': 'flatbuffers'}


@pytest.mark.slow
@pytest.mark.parametrize('page', _PAGES)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
  if page in _NEEDS:
    pytest.importorskip(_NEEDS[page])
  monkeypatch.chdir(tmp_path)
  blocks = re.findall(r'```python\n(.*?)```', (_DOCS / page).read_text(), re.S)
  assert blocks
  names = {}
  with jax.numpy_rank_promotion('allow'):  # what a reader has
    for block in blocks:
      exec(compile(block, page, 'exec'), names)


def test_every_recipe_is_one_screen():
  for path in (_DOCS / 'recipes').glob('*.md'):
    assert len(path.read_text().splitlines()) <= 66, path


def test_the_reference_has_every_public_name():
  text = ''.join(path.read_text() for path in (_DOCS / 'reference').glob('*.md'))
  listed = set(re.findall(r'auto(?:class|function|module):: (?:[\w.]*\.)?(\w+)', text))
  assert set(sj.__all__) - {'__version__'} <= listed
  assert 'automodule:: seqjax.text\n   :members:' in text


@pytest.mark.parametrize('path', sorted(_DOCS.rglob('*.ipynb')), ids=lambda p: p.stem)
def test_a_notebook_is_kept_without_outputs(path):
  cells = json.loads(path.read_text())['cells']
  code = [cell for cell in cells if cell['cell_type'] == 'code']
  assert len(code) > 3
  for cell in code:
    assert cell['outputs'] == []
    assert cell['execution_count'] is None
