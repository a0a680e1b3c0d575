"""Imports point to a lower rank and in no circle; each part imports what it may."""

import ast
import functools
import pathlib
import subprocess
import sys
import tomllib

import pytest

_ROOT = pathlib.Path(__file__).parent.parent
_RANKS = {
  'types': 0,
  'files': 1,
  'cells': 1,
  'dropout': 1,
  'config': 2,
  'ragged': 1,
  'text': 2,
  'scan': 2,
  'data': 3,
  'fast': 3,
  'layers': 4,
  'interop': 6,
  'models': 5,
  'seq2seq': 5,
  'decoding': 6,
  'generation': 6,
  'nnx': 5,
  'cluster': 6,
  'serving': 6,
  'parallel': 7,
  'workdir': 7,
  'training': 8,
  'view': 9,
  'loop': 10,
  'train': 11,
  'fitting': 12,
}
# Rooms of experiments/, and what all share; its other files are commands, above them.
_EXPERIMENTS = {
  'experiment': 0,
  'layer_flags': 0,
  'suites': 0,
  'prediction': 1,
  'texts': 2,
  'reviews': 3,
  'sequences': 3,
  'series': 3,
  'weather': 4,
}
_COMMAND = 5
_OF_COMMANDS = {'classify_explore': 'classify'}  # looks at the data of that command
# Who alone may import a package: a room, or a file in it.
_OWNERS = {
  'orbax': {'workdir/storage'},
  'tensorflow_datasets': {'data'},
  'matplotlib': {'view/plots', 'view/comparisons', 'view/time_plots'},
  'absl.flags': {'config'},
  'h5py': {'interop/keras'},
  'torch': {'interop/torch'},
  'safetensors': {'interop/torch'},
  'onnx': {'interop/onnx'},
  'sacrebleu': {'text/bleu'},
}
_NEVER = {
  'jax': {'text', 'data', 'files', 'config', 'types'},
  'flax': {'cells', 'dropout', 'scan', 'fast', 'text', 'data', 'files'},
  'experiments': set(_RANKS),
  'benchmarks': set(_RANKS),
  'tensorflow': set(_RANKS),
}
_FILES = sorted((_ROOT / 'seqjax').rglob('*.py'))
_MODULES = {
  '.'.join(path.relative_to(_ROOT).with_suffix('').parts).removesuffix(
    '.__init__'
  ): path
  for path in (*_FILES, *sorted((_ROOT / 'experiments').rglob('*.py')))
}


def _rooms(path: pathlib.Path) -> list[str]:
  """data/series/jena.py -> data, data/series, data/series/jena."""
  parts = path.relative_to(_ROOT / 'seqjax').with_suffix('').parts
  return ['/'.join(parts[: n + 1]) for n in range(len(parts))]


@functools.cache
def _imported(module: str) -> set[str]:
  """The modules of this repository that one imports, in functions too."""
  found = set()
  for name in _imports(_MODULES[module]):
    while name and name not in _MODULES:
      name = name.rpartition('.')[0]
    found.add(name)
  return found - {'', module}


def _circle(edges: dict[str, set[str]]) -> list[str]:
  """Names each of which imports the next, and the last the first; or none."""
  left = {name: set(others) for name, others in edges.items()}
  while ends := {name for name in left if not left[name] & set(left)}:
    left = {name: others for name, others in left.items() if name not in ends}
  path = list(left)[:1]
  while path and path[-1] not in path[:-1]:
    path.append(min(left[path[-1]] & set(left)))
  return path[path.index(path[-1]) :] if path else []


@functools.cache
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
  rooms = _rooms(path)
  part = rooms[0]
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
        assert owners & set(rooms), f'{rooms[-1]} imports {package}'
    for package, parts in _NEVER.items():
      if (name + '.').startswith(package + '.'):
        assert part not in parts, f'{part} imports {package}'


def test_no_module_imports_itself_by_way_of_others():
  assert not _circle({module: _imported(module) for module in _MODULES})


_FOLDERS = sorted({module.rpartition('.')[0] for module in _MODULES} - {''})


@pytest.mark.parametrize('folder', _FOLDERS)
def test_what_lies_side_by_side_has_an_order(folder):
  """Files and folders of a folder, each with all that is in it."""
  edges: dict[str, set[str]] = {}
  depth = len(folder.split('.'))
  for module in _MODULES:
    if module.startswith(folder + '.'):
      names = (o for o in _imported(module) if o.startswith(folder + '.'))
      part = module.split('.')[depth]
      others = {name.split('.')[depth] for name in names} - {part}
      edges[part] = edges.get(part, set()) | others
  assert not _circle(edges)


@pytest.mark.parametrize(
  'module', [m for m in _MODULES if m.startswith('experiments.')]
)
def test_experiments_import_rooms_below_them(module):
  part = module.split('.')[1]
  rank = _EXPERIMENTS.get(part, _COMMAND)
  assert (part in _EXPERIMENTS) or module.count('.') == 1, f'{part} has no rank'
  for name in _imported(module):
    if name.startswith('experiments.'):
      other = name.split('.')[1]
      below = _EXPERIMENTS.get(other, _COMMAND) < rank
      assert other in (part, _OF_COMMANDS.get(part)) or below, (
        f'{part} (rank {rank}) imports {other}'
      )


def test_text_and_data_start_no_jax():
  names = [
    '.'.join(('seqjax', *path.relative_to(_ROOT / 'seqjax').with_suffix('').parts))
    for path in _FILES
    if _rooms(path)[0] in ('text', 'data', 'files')
    and not path.name.endswith('_builder.py')
  ]
  code = (
    f'import sys, importlib; [importlib.import_module(name) for name in {names}]; '
    'print(sorted({"jax", "jaxlib", "flax"} & set(sys.modules)))'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert len(names) > 20
  assert done.stdout.strip() == '[]'


_OLD_NAME = """
import sys, warnings
for way in 'import seqjax.parallel', 'from seqjax import parallel', 'import seqjax':
  for name in [name for name in sys.modules if name.partition('.')[0] == 'seqjax']:
    del sys.modules[name]  # as in a process of its own
  with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter('always')
    exec(way + '; import seqjax; old = seqjax.parallel')
  places = {w.filename for w in told if 'seqjax.parallel is' in str(w.message)}
  assert places == {'<string>'}, (way, places)
  from seqjax.cluster import mesh
  assert old is mesh
"""


def test_what_was_public_is_found_under_its_old_name():
  subprocess.run([sys.executable, '-c', _OLD_NAME], check=True)


# What a save, a picture, a download or another library needs, and no first step.
_LATER = {
  *('tensorflow_datasets', 'matplotlib', 'orbax', 'tensorstore', 'keras', 'h5py'),
  *('tensorboardX', 'torch', 'safetensors', 'onnx'),
}


def test_import_of_the_package_stays_light():
  code = (
    'import sys, seqjax; [getattr(seqjax, name) for name in seqjax.__all__]; '
    f'print(sorted({_LATER} & set(sys.modules)))'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert done.stdout.strip() == '[]'


def test_a_command_gets_to_its_first_step_without_what_is_needed_later(tmp_path):
  code = f"""
import os, runpy, sys
from seqjax.workdir import log

def first_step(self, step, **values):
  print(step, sorted({_LATER} & set(sys.modules)), flush=True)
  os._exit(0)

log.RunLog.write_timing = first_step
runpy.run_module('experiments.imdb_lstm', run_name='__main__', alter_sys=True)
"""
  flags = ['--dataset=synthetic', '--synthetic_size=80', '--batch_size=8', '--length=9']
  flags += ['--features=4', '--embed_size=4', '--log_every=1', f'--workdir={tmp_path}']
  done = subprocess.run(
    [sys.executable, '-c', code, *flags], cwd=_ROOT, capture_output=True, text=True
  )
  assert done.stdout.splitlines()[-1:] == ['1 []'], done.stderr


def test_a_wheel_holds_the_whole_of_seqjax_and_nothing_else():
  """`experiments` at the top of site-packages could be anybody's."""
  setuptools = pytest.importorskip('setuptools')
  settings = tomllib.loads((_ROOT / 'pyproject.toml').read_text())
  wanted = settings['tool']['setuptools']['packages']['find']
  folders = {path.parent.relative_to(_ROOT) for path in _FILES}
  found = setuptools.find_packages(str(_ROOT), **wanted)
  assert sorted(found) == sorted('.'.join(folder.parts) for folder in folders)
