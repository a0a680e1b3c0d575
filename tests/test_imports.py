"""Imports point to a lower rank; each part imports only what it may."""

import ast
import pathlib
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).parent.parent
_RANKS = {
  'types': 0,
  'config': 1,
  'cells': 1,
  'dropout': 1,
  'losses': 1,
  'optim': 1,
  'text': 1,
  'scan': 2,
  'data': 2,
  'fast': 3,
  'gather': 3,
  'layers': 4,
  'interop': 5,
  'models': 5,
  'state': 6,
  'parallel': 6,
  'signals': 6,
  'watchdog': 6,
  'programs': 6,
  'progress': 6,
  'workdir': 6,
  'leaves': 6,
  'integrity': 6,
  'storage': 6,
  'checkpoint': 7,
  'distributed': 7,
  'evaluation': 7,
  'log': 7,
  'console': 7,
  'plots': 7,
  'comparisons': 8,
  'trained': 8,
  'report': 8,
  'time_plots': 8,
  'steps': 8,
  'loop': 9,
}
# Who alone may import a package; the folder or file is named as in _RANKS.
_OWNERS = {
  'orbax': {'storage'},
  'tensorflow_datasets': {'data'},
  'matplotlib': {'plots', 'comparisons', 'time_plots'},
  'tensorboardX': {'log'},
  'absl.flags': {'config'},
  'h5py': {'interop'},
  'torch': {'interop'},
}
_NEVER = {
  'jax': {'text', 'data', 'config', 'types'},
  'flax': {'cells', 'dropout', 'losses', 'scan', 'fast', 'optim', 'text', 'data'},
  'experiments': set(_RANKS),
  'benchmarks': set(_RANKS),
  'tensorflow': set(_RANKS),
}
_FILES = sorted((_ROOT / 'seqjax').rglob('*.py'))


def _part(path: pathlib.Path) -> str:
  return path.relative_to(_ROOT / 'seqjax').parts[0].removesuffix('.py')


def _imports(path: pathlib.Path) -> list[str]:
  """All modules a file imports, those under `if TYPE_CHECKING` left out."""
  tree = ast.parse(path.read_text())
  skipped = {
    id(child)
    for node in ast.walk(tree)
    if isinstance(node, ast.If) and ast.unparse(node.test) == 'TYPE_CHECKING'
    for body in node.body
    for child in ast.walk(body)
  }
  names = []
  for node in ast.walk(tree):
    if id(node) in skipped:
      continue
    if isinstance(node, ast.Import):
      names += [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path}:{node.lineno}: relative import'
      names += [f'{node.module}.{alias.name}' for alias in node.names]
  return names


@pytest.mark.parametrize('path', _FILES, ids=lambda p: str(p.relative_to(_ROOT)))
def test_imports_point_to_a_lower_rank(path):
  part = _part(path)
  if part == '__init__':
    return
  assert part in _RANKS, f'{part} has no rank'
  for name in _imports(path):
    if name.startswith('seqjax.'):
      other = name.split('.')[1]
      allowed = other == part or _RANKS[other] < _RANKS[part]
      assert allowed, f'{part} (rank {_RANKS[part]}) imports {other}'
    for package, owners in _OWNERS.items():
      if (name + '.').startswith(package + '.'):
        assert part in owners, f'{part} imports {package}'
    for package, parts in _NEVER.items():
      if (name + '.').startswith(package + '.'):
        assert part not in parts, f'{part} imports {package}'


def test_import_of_the_package_stays_light():
  code = (
    'import sys, seqjax; heavy = {"tensorflow_datasets", "matplotlib", "keras", '
    '"orbax", "tensorboardX", "torch", "h5py"} & set(sys.modules); '
    'print(sorted(heavy))'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert done.stdout.strip() == '[]'
