"""Builds the CPU kernels: `python seqjax/fast/cpu/build.py [--zig]`.

Takes the compiler that $CXX names, g++, clang++, or zig from the package ziglang, which
is 100 MB and needs nothing else of the system; with --zig that is installed if there is
no other. Imports nothing beyond the standard library: setup.py runs it too.
"""

import argparse
import importlib.util
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile

FOLDER = pathlib.Path(__file__).resolve().parent
# The builds for a kind of processor, the fastest first.
_X86, _ARM = ('x86-64-v4', 'x86-64-v3'), ('aarch64',)
_BUILDS = {'x86_64': _X86, 'amd64': _X86, 'aarch64': _ARM, 'arm64': _ARM}


def builds(machine: str = '') -> tuple[str, ...]:
  """Names of the builds for a kind of processor, this one's by default."""
  return _BUILDS.get((machine or platform.machine()).lower(), ())


def file_name(name: str) -> str:
  """The library of a build."""
  return f'libseqjax-{name}.so'


def compiler() -> list[str] | None:
  """The command of a C++ compiler, or None."""
  if named := os.environ.get('CXX'):
    return named.split()
  found = shutil.which('g++') or shutil.which('clang++')
  return [found] if found else _zig()


def build(folder: pathlib.Path = FOLDER) -> list[pathlib.Path]:
  """Compiles the builds that are older than their source, each whole or not at all.

  $SEQJAX_TARGET is zig's name of another system to build for.

  Args:
    folder: Where to put them.

  Returns:
    The files.

  Raises:
    RuntimeError: There is no compiler, no jaxlib for its headers, or it fails.
  """
  target = os.environ.get('SEQJAX_TARGET', '')
  command = _zig() if target else compiler()
  if command is None:
    raise RuntimeError('no C++ compiler: there is no g++, no clang++ and no ziglang')
  names = builds(target.partition('-')[0])
  libraries = {name: folder / file_name(name) for name in names}
  sources = [*FOLDER.glob('*.cc'), *FOLDER.glob('*.h'), *FOLDER.parent.glob('*.h')]
  newest = max(path.stat().st_mtime for path in sources)
  for name, library in libraries.items():
    if library.exists() and library.stat().st_mtime > newest:
      continue
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
      unfinished = pathlib.Path(scratch, library.name)
      _run([*command, *_flags(name, command, target), '-o', str(unfinished)])
      unfinished.replace(library)
  return list(libraries.values())


def _flags(name: str, command: list[str], target: str) -> list[str]:
  flags = ['-std=gnu++17', '-O3', '-shared', '-fvisibility=hidden', '-w']
  if name.startswith('x86'):
    zig = 'ziglang' in command
    flags += [f'-march={name.replace("-", "_") if zig else name}']
    flags += ['-mprefer-vector-width=512'] * name.endswith('v4')
  flags += ['-target', target] if target else []
  flags += [] if 'windows' in target or sys.platform == 'win32' else ['-fPIC']
  return [*flags, '-isystem', str(_headers()), str(FOLDER / 'kernels.cc')]


def _headers() -> pathlib.Path:
  """jaxlib's, found without importing it."""
  spec = importlib.util.find_spec('jaxlib')
  if spec is None or spec.origin is None:
    raise RuntimeError('the package jaxlib, whose headers are needed, is missing')
  return pathlib.Path(spec.origin).parent / 'include'


def _zig() -> list[str] | None:
  spec = importlib.util.find_spec('ziglang')
  return [sys.executable, '-m', 'ziglang', 'c++'] if spec else None


def _run(command: list[str]) -> None:
  done = subprocess.run(command, capture_output=True, text=True)
  if done.returncode:
    raise RuntimeError(f'{" ".join(command)} failed:\n{done.stderr[-2000:]}')


def main() -> int:
  """Builds, and says what came of it; 1 if nothing did."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--zig', action='store_true', help='install ziglang if need be')
  arguments = parser.parse_args()
  try:
    if compiler() is None and arguments.zig:
      _run([sys.executable, '-m', 'pip', 'install', '--quiet', 'ziglang==0.15.1'])
      importlib.invalidate_caches()
    for path in build():
      print(f'kernels: {path}')
  except RuntimeError as error:
    print(f'{error}\nwithout its CPU kernels seqjax takes the slower reference path')
    return 1
  return 0


if __name__ == '__main__':
  sys.exit(main())
