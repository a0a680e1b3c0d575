"""The tests that docs/semantics.md and docs/features.md name exist, for every point."""

import ast
import pathlib
import re

import pytest

_ROOT = pathlib.Path(__file__).parent.parent
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
