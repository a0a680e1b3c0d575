"""Builds the CPU kernels into the package; all else is in pyproject.toml."""

import importlib.util
import pathlib

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

_CPU = pathlib.Path(__file__).parent / 'seqjax' / 'fast' / 'cpu'
_spec = importlib.util.spec_from_file_location('build_kernels', _CPU / 'build.py')
build = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(build)


class BuildKernels(build_py):
  """build_py, and the kernels: without a compiler the package works, slower."""

  def run(self):
    super().run()
    folder = _CPU if self.editable_mode else pathlib.Path(self.build_lib, *_PARTS)
    try:
      build.build(folder)
    except RuntimeError as error:
      print(f'seqjax: {error}\nthe reference path will be used')


class PlatformWheel(bdist_wheel):
  """One wheel for all Pythons of a platform: the library knows none of them."""

  def get_tag(self):
    return 'py3', 'none', super().get_tag()[2]


class WithLibrary(Distribution):
  """A package that holds a compiled library."""

  def has_ext_modules(self):
    return True


_PARTS = ('seqjax', 'fast', 'cpu')
setup(
  cmdclass={'build_py': BuildKernels, 'bdist_wheel': PlatformWheel},
  distclass=WithLibrary,
)
