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
from fast_cases import Case, assert_close, make

from seqjax import fast, layers, scan
from seqjax.fast.cpu import build, library

pytestmark = pytest.mark.usefixtures('quick_programs')

_ROOT = pathlib.Path(__file__).parents[2]
_ALL = {'padding': 'pre', 'resets': True, 'dropout': 0.3, 'recurrent_dropout': 0.3}


def _shape(*shape):
  return jax.ShapeDtypeStruct(shape, jnp.float32)


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


@pytest.mark.slow
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
    monkeypatch.setattr(build, 'FOLDER', tmp_path)
    reason = r'the CPU kernels in .* cannot be loaded: .*; delete it and run `.*build'
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


@pytest.mark.parametrize('implementation', ['fast', 'reference'])
@pytest.mark.parametrize('batch', [(3,), (2, 3)])
@pytest.mark.parametrize('name', ['h', 'c', 'mask', 'reset', 'x_mask', 'h_mask'])
def test_what_does_not_fit_is_an_error_that_names_it(name, batch, implementation):
  cell, params, sequence, options = make(Case('lstm', batch, **_ALL))
  given = sequence.carry if name in 'hc' else sequence
  for cut in (np.s_[..., :-1], np.s_[..., :1, :]):  # and no other is repeated
    changed = given._replace(**{name: getattr(given, name)[cut]})
    changed = sequence._replace(carry=changed) if name in 'hc' else changed
    with pytest.raises(ValueError, match=f'^{name} does not fit: .*, expected'):
      fast.recur(cell, params, changed, options, implementation)


@pytest.mark.parametrize('implementation', ['fast', 'reference'])
@pytest.mark.parametrize('name', ['bptt_steps', 'remat_chunk'])
def test_a_length_of_no_step_is_an_error_that_names_it(name, implementation):
  cell, params, sequence, options = make(Case('lstm', **_ALL))
  options = options._replace(**{name: 0})
  with pytest.raises(ValueError, match=f'{name} must be at least 1, got 0'):
    fast.recur(cell, params, sequence, options, implementation)


@pytest.mark.parametrize('dtype', [bool, jnp.int32, jnp.bfloat16])
def test_dropout_masks_of_any_dtype_are_those_of_numbers(dtype):
  cell, params, sequence, options = make(Case('gru', **_ALL))
  masks = {k: getattr(sequence, k) != 0 for k in ('x_mask', 'h_mask')}
  numbers = sequence._replace(**{k: m.astype(jnp.float32) for k, m in masks.items()})
  given = sequence._replace(**{k: m.astype(dtype) for k, m in masks.items()})
  found = fast.recur(cell, params, given, options, 'fast')
  jax.tree.map(
    np.testing.assert_array_equal,
    found, fast.recur(cell, params, numbers, options, 'fast'),
  )  # fmt: skip


@pytest.mark.parametrize('name', ['kernel', 'recurrent_kernel', 'bias'])
def test_weights_that_do_not_fit_reach_no_kernel(name):
  cell, params, sequence, options = make(Case('lstm', **_ALL))
  params = params._replace(**{name: getattr(params, name)[..., :-1]})
  with pytest.raises(ValueError, match=f'^{name} does not fit: .*, expected'):
    fast.recur(cell, params, sequence, options, 'fast')


@pytest.mark.parametrize('shared', [True, False])
def test_vmap_over_no_models_gives_none(shared):
  cell, params, sequence, options = make(Case('gru', padding='pre', vocab_size=3))
  axes = (0, None if shared else 0)

  def gradients(params, carry):
    def loss(params, carry):
      outputs = fast.recur(
        cell, params, sequence._replace(carry=carry), options, 'fast'
      )
      return sum(jnp.sum(y) for y in jax.tree.leaves(outputs))

    return jax.grad(loss, (0, 1))(params, carry)

  def none(tree, axis):
    return tree if axis is None else jax.tree.map(lambda a: jnp.stack([a])[:0], tree)

  given = [none(*pair) for pair in zip((params, sequence.carry), axes, strict=True)]
  found = jax.jit(jax.vmap(gradients, axes))(*given)
  shapes = jax.tree.map(lambda a: (0, *a.shape), (params, sequence.carry))
  assert jax.tree.map(jnp.shape, found) == shapes


@pytest.mark.slow
@pytest.mark.parametrize('cell', ['lstm', 'gru'])
def test_forward_over_reverse_of_a_vector(cell):
  """And that a program with many cotangents at once is exported."""
  cell, params, sequence, options = make(Case(cell, (2,), T=3, D=2, H=2))

  def second(run):
    def outputs(x):
      return run(cell, params, sequence._replace(x=x), options)[1]

    return jax.jit(jax.jacfwd(jax.jacrev(outputs))), jax.jit(jax.jacrev(outputs))

  by_kernels = second(functools.partial(fast.recur, implementation='fast'))
  for ours, reference in zip(by_kernels, second(scan.recur), strict=True):
    want = reference(sequence.x)
    assert_close(ours(sequence.x), want)
    exported = jax.export.export(ours)(sequence.x)
    assert_close(exported.call(sequence.x), want)


@pytest.mark.parametrize(
  ('layer', 'x', 'path', 'reason'),
  [
    (layers.LSTM(32), _shape(8, 50, 16), 'cpu', 'kernels for '),
    (layers.GRU(3), fast.Lookup(_shape(8, 5), _shape(7, 2)), 'cpu', 'kernels for '),
    (
      layers.GRU(3, dtype=jnp.bfloat16),
      np.zeros((2, 5, 4), int),
      'cpu',
      'kernels for ',
    ),
    (layers.GRU(3, param_dtype=complex), _shape(8, 5, 4), 'reference', 'complex64'),
    (layers.GRU(3, jnp.sin), _shape(8, 5, 4), 'reference', 'the activation'),
    (layers.LSTM(3), _shape(0, 5, 4), 'reference', 'is empty'),
  ],
)
def test_the_path_of_a_layer_and_why(layer, x, path, reason):
  got = fast.path_of(layer, x)
  assert got[0] == path
  assert reason in got[1]
  forced = fast.path_of(layer.clone(implementation='reference'), x)
  assert forced == ('reference', "implementation='reference'")


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
