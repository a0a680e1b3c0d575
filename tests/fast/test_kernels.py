"""The kernels' library: who may run it, what it refuses, and what sanitizers find."""

import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_cases import Case, make

from seqjax import fast, layers, scan
from seqjax.fast import kernels
from seqjax.fast.cpu import build, library
from seqjax.fast.problem import Static

_ROOT = pathlib.Path(__file__).parents[2]


def test_the_path_and_why():
  cell, params, sequence, options = make(Case())
  build_name, _ = library.loaded()
  assert build_name in build.builds()
  where = ('cpu', f'kernels for {build_name}')
  assert fast.path(cell, params, sequence, options) == where
  assert fast.path(cell, params, sequence, options, 'reference') == (
    'reference',
    "implementation='reference'",
  )
  other = cell._replace(name='mine')
  name, reason = fast.path(other, params, sequence)
  assert (name, reason) == ('reference', "there is no kernel for the cell 'mine'")


_WITHOUT = """
import logging, sys
from seqjax.fast.cpu import build
build.file_name = lambda name: 'none'
import jax.numpy as jnp
import seqjax as sj
layer = sj.LSTM(3)
x = jnp.ones((2, 5, 4))
params = layer.init(__import__('jax').random.key(0), x, train=False)
for _ in range(2):
  print(layer.apply(params, x, train=False).shape)
try:
  layer.clone(implementation='fast').apply(params, x, train=False)
except ValueError as error:
  print(error)
"""


def test_without_kernels_it_says_so_once_and_works():
  reason = 'the CPU kernels are not built: run'
  done = subprocess.run(
    [sys.executable, '-c', _WITHOUT],
    capture_output=True,
    text=True,
    check=True,
    cwd=_ROOT,
  )
  assert done.stdout.count('(2, 3)\n') == 2
  assert f"implementation='fast' can't run: {reason}" in done.stdout
  assert done.stderr.count(reason) == 1
  assert done.stderr.count('\n') == 1


@pytest.mark.parametrize('damaged', [False, True])
def test_every_other_reason_is_said_once_too(damaged, tmp_path, monkeypatch, caplog):
  if damaged:
    for name in build.builds():
      (tmp_path / build.file_name(name)).write_bytes(b'no library')
    monkeypatch.setattr(library, '_FOLDER', tmp_path)
    reason = r'the CPU kernels in .* cannot be loaded: .'
  else:
    monkeypatch.setattr(build, 'builds', lambda: ())
    reason = 'this processor is none that the CPU kernels are built for'
  looking = functools.cache(library.loaded.__wrapped__)
  monkeypatch.setattr(library, 'loaded', looking)  # as in a process that starts
  cell, params, sequence, options = make(Case())
  for _ in range(2):
    found, _ = fast.recur(cell, params, sequence, options)
  wanted, _ = scan.recur(cell, params, sequence, options)
  jax.tree.map(np.testing.assert_array_equal, found, wanted)
  with pytest.raises(ValueError, match=f"implementation='fast' can't run: {reason}"):
    fast.recur(cell, params, sequence, options, 'fast')
  (record,) = caplog.records
  assert record.levelname == 'WARNING'
  assert re.match(reason, record.getMessage())


@pytest.mark.parametrize('name', ['h', 'kernel', 'mask', 'x_mask'])
def test_sizes_that_do_not_fit_are_an_error_that_names_the_array(name):
  """Only who calls the kernels by hand can bring them about."""
  assert library.loaded()[0]
  B, T, D, H = 3, 5, 4, 6
  shapes = {
    'x': (1, B, T, D), 'recurrent_kernel': (1, H, 4 * H), 'kernel': (1, D, 4 * H),
    'h': (1, B, H), 'c': (1, B, H), 'mask': (1, B, T), 'x_mask': (1, 1, B, D),
  }  # fmt: skip
  static = Static(scan_cell(), fast.Options(), tuple(shapes))
  sizes = kernels.sizes_of(static, shapes)
  header = kernels._header(static, sizes)
  arrays = {
    k: jnp.zeros(s, bool if k == 'mask' else jnp.float32) for k, s in shapes.items()
  }
  arrays[name] = arrays[name][..., :-1]
  results = [
    jax.ShapeDtypeStruct(s, jnp.float32) for s in kernels._forward_shapes(static, sizes)
  ]
  call = jax.ffi.ffi_call(library.FORWARD, results)
  with pytest.raises(jax.errors.JaxRuntimeError, match=f'{name} does not fit'):
    jax.block_until_ready(call(*arrays.values(), header=header))


def scan_cell():
  return make(Case('lstm'))[0]


def test_build_says_what_is_missing(monkeypatch, tmp_path):
  monkeypatch.setenv('PATH', str(tmp_path))
  monkeypatch.delenv('CXX', raising=False)
  monkeypatch.setattr(build, '_zig', lambda: None)
  with pytest.raises(RuntimeError, match=r'no C\+\+ compiler'):
    build.build(tmp_path)
  (tmp_path / 'false').write_text('#!/bin/sh\necho broken >&2\nexit 1\n')
  (tmp_path / 'false').chmod(0o755)
  monkeypatch.setenv('CXX', str(tmp_path / 'false'))
  with pytest.raises(RuntimeError, match='broken'):
    build.build(tmp_path)
  assert not list(tmp_path.glob('*.so'))


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which('g++'), reason='needs g++')
@pytest.mark.parametrize('kind', ['address,undefined', 'thread'])
def test_sanitizers_find_nothing_and_threads_do_not_change_bits(kind, tmp_path):
  program = tmp_path / 'sanitized'
  flags = ['-std=gnu++17', '-O1', '-g', '-w', '-pthread', f'-fsanitize={kind}']
  flags += ['-march=x86-64-v3'] if build.builds()[0].startswith('x86') else []
  source = _ROOT / 'tests' / 'fast' / 'sanitized.cc'
  include = f'-I{_ROOT / "seqjax" / "fast" / "cpu"}'
  command = ['g++', *flags, '-fno-sanitize-recover=all', include, str(source)]
  subprocess.run([*command, '-o', str(program)], check=True)
  done = subprocess.run([str(program), '60'], capture_output=True, text=True)
  assert (done.returncode, done.stdout) == (0, 'all good\n'), done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.usefixtures('own_programs')
@pytest.mark.skipif(not shutil.which('taskset'), reason='needs taskset')
def test_one_core_and_two_give_the_same_digest(tmp_path):
  if len(os.sched_getaffinity(0)) < 2:
    pytest.skip('needs two cores')
  first, second = sorted(os.sched_getaffinity(0))[:2]
  environment = {**os.environ, 'XLA_FLAGS': ''}
  digests = []
  for cores in (f'{first}', f'{first},{second}'):
    workdir = tmp_path / cores
    command = ['taskset', '-c', cores, sys.executable, '-m', 'experiments.imdb_lstm']
    flags = ['--dataset=synthetic', '--synthetic_size=800', '--num_epochs=2']
    flags += ['--length=60', '--dropout=0.2', '--recurrent_dropout=0.2']
    subprocess.run(
      [*command, *flags, f'--workdir={workdir}'],
      check=True, cwd=_ROOT, env=environment, capture_output=True,
    )  # fmt: skip
    digests.append(json.loads((workdir / 'result.json').read_text())['params_sha256'])
  assert digests[0] == digests[1]


def test_an_eager_layer_is_compiled_once():
  layer = layers.GRU(32, return_sequences=True)
  x = np.random.default_rng(0).standard_normal((8, 50, 16), np.float32)
  params = layer.init(jax.random.key(0), x, train=False)
  for implementation in ('fast', 'reference'):
    layer = layer.clone(implementation=implementation)
    layer.apply(params, x, train=False)
    counted = scan._jitted._cache_size()
    layer.apply(params, x, train=False)
    assert scan._jitted._cache_size() == counted


@pytest.mark.parametrize('cell', ['SimpleRNN', 'LSTM', 'GRU'])
def test_a_way_back_that_finds_nothing_left_gives_the_same_bits(cell):
  layer = getattr(layers, cell)(7, return_sequences=True, recurrent_dropout=0.3)
  x = np.random.default_rng(0).standard_normal((5, 30, 3), np.float32)
  variables = layer.init(jax.random.key(0), x, train=False)

  @jax.jit
  def twice(x):
    def run(x):
      return layer.apply(variables, x, train=True, rngs={'dropout': jax.random.key(1)})

    y, pull = jax.vjp(run, x)
    (first,) = pull(y)  # takes what forward left
    (second,) = pull(jax.lax.optimization_barrier((y, first))[0])
    return first, second

  first, second = twice(x)
  np.testing.assert_array_equal(first, second)
  assert np.abs(first).max() > 0
