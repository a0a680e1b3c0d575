"""The fast path against the reference path: values and gradients."""

from collections import Counter
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest
from fast_cases import CELLS, PADDINGS, Case, cases, make

from seqjax import fast, scan
from seqjax.fast import plan as plan_lib
from seqjax.fast import products

SEEDS, EACH = range(4), 80  # more than 300 cases, in parts side by side


def _maker(recur, case):
  """dtype -> (params, x, carry) -> outputs, and gradients of a function of them all."""
  sequences = bool(case.seed % 2)

  def make_run(dtype):
    cell, *_, keywords = make(case, dtype)
    if recur is fast.recur:
      keywords['return_sequences'] = sequences

    def loss(params, x, carry):
      if case.vocab_size:
        x = fast.Lookup(_ids(case), x)
        x = x if recur is fast.recur else x.embedding[x.ids]
      out = recur(cell, params, x, carry, **keywords)
      outputs = jax.tree.leaves(out if sequences else out[0])
      rng = np.random.default_rng(case.seed + 1)
      factors = [jnp.asarray(rng.standard_normal(y.shape), dtype) for y in outputs]
      terms = [jnp.sum(jnp.sin(y) * f) for y, f in zip(outputs, factors, strict=True)]
      return sum(terms), outputs

    both = jax.jit(
      jax.value_and_grad(loss, (0, 1, 2), has_aux=True), compiler_options=parity.QUICK
    )

    def run(arguments):
      arguments = jax.tree.map(lambda a: jnp.asarray(a, dtype), arguments)
      may_be_cut = case.seed % 3 == 0  # by several devices, as all tests have
      with (
        mock.patch.object(plan_lib, 'chunk_length', return_value=case.chunk),
        mock.patch.object(products, 'may_be_cut', return_value=may_be_cut),
      ):
        (_, outputs), grads = both(*arguments)
      return [np.asarray(a) for a in jax.tree.leaves((outputs, grads))]

    return run

  return make_run


def _ids(case):
  """Rows of an embedding [V, D], which takes the place of x: int [*batch, T]."""
  rng = np.random.default_rng(case.seed + 2)
  return jnp.asarray(rng.integers(0, case.vocab_size, (*case.batch, case.T)))


def _check(case, *, in_float64=False):
  _, params, x, carry, _ = make(case)
  if case.vocab_size:
    rng = np.random.default_rng(case.seed + 3)
    x = rng.standard_normal((case.vocab_size, case.D), np.float32)
  ours, reference = _maker(fast.recur, case), _maker(scan.recur, case)
  arguments = jax.tree.map(np.asarray, (params, x, carry))
  return parity.check(ours, reference, arguments, in_float64=in_float64)


def test_equals_the_reference_path():
  parity.for_all(cases(), 0, 8, _check)


@pytest.mark.slow
@pytest.mark.parametrize('seed', SEEDS)
def test_equals_the_reference_path_300_times(seed):
  parity.check_all(cases(), seed, EACH, _check)


def test_the_300_are_cases_of_every_kind():
  found = []
  for seed in SEEDS:
    parity.for_all(cases(), seed, EACH, found.append)
  assert len(set(found)) >= 300
  for name, values in {
    'cell': CELLS, 'padding': PADDINGS, 'dropout': (0.0, 0.3), 'T': range(1, 15),
    'H': range(1, 7), 'D': range(1, 7), 'recurrent_dropout': (0.0, 0.4),
    'use_bias': (True, False), 'resets': (True, False),
    'vocab_size': (0, 3, 30), 'chunk': (1, 2, 3, 5, 20),
  }.items():  # fmt: skip
    counts = Counter(getattr(case, name) for case in found)
    assert counts.keys() == set(values)
    assert min(counts.values()) >= 2, counts
  assert {len(case.batch) for case in found} == {0, 1, 2}


@pytest.mark.slow
@pytest.mark.parametrize('cell', list(CELLS))
@pytest.mark.parametrize(
  'case',
  [
    Case(T=11, padding='scattered', dropout=0.3, recurrent_dropout=0.4, seed=1),
    Case(T=8, batch=(2, 3), options=('go_backwards',), recurrent_dropout=0.4),
  ],
)
def test_every_cell(cell, case):
  _check(Case(**{**vars(case), 'cell': cell}))


@pytest.mark.parametrize('recurrent_dropout', [0.0, 0.4])
def test_kept_gates(recurrent_dropout):
  case = Case(
    'lstm', T=7, padding='scattered', resets=True, recurrent_dropout=recurrent_dropout
  )
  with mock.patch.object(plan_lib, 'KEEP_GATES_FROM', 1):
    _check(case)


@pytest.mark.parametrize('padding', ['pre', 'post', 'nothing real'])
def test_skipped_chunks_hand_carry_and_cotangents_on(padding):
  # Two real steps of seventeen in chunks of three: most chunks hold no real step.
  case = Case(T=17, chunk=3, seed=3)
  real = {'pre': slice(15, 17), 'post': slice(0, 2), 'nothing real': slice(0, 0)}
  mask = np.zeros((3, 17), bool)
  mask[:, real[padding]] = True
  with mock.patch('fast_cases._padding', return_value=jnp.asarray(mask)):
    _check(case)


@pytest.mark.parametrize('recurrent_dropout', [0.0, 0.4])
@pytest.mark.parametrize(
  ('cell', 'D', 'H'),
  [('simple_rnn', 5, 5), ('simple_rnn', 6, 5), ('lstm', 9, 2), ('gru', 7, 2)],
)
def test_inputs_as_wide_as_the_gates_and_wider(cell, D, H, recurrent_dropout):
  """Where a kernel's gradient is d^T x, and a SimpleRNN's x transposed by chunks."""
  case = Case(cell, T=8, D=D, H=H, recurrent_dropout=recurrent_dropout)
  _check(case)


@pytest.mark.slow
@pytest.mark.parametrize('cell', list(CELLS))
def test_float64_is_exact(cell):
  case = Case(cell, T=9, padding='scattered', recurrent_dropout=0.4)
  _check(case, in_float64=True)


@pytest.mark.parametrize(
  ('B', 'D', 'G', 'H', 'alone', 'K'),
  [
    (128, 32, 128, 32, True, 2),  # 64 KiB a step: as long as other threads are awake
    (32, 0, 128, 32, True, 8),
    (512, 32, 128, 32, True, 8),  # a step takes too long for that: a few at a time
    (8, 32, 1024, 256, True, 32),  # too few rows for that: 1 MiB
    (32, 128, 32, 32, True, 9),  # projecting wide inputs counts
    (128, 128, 32, 32, True, 64),  # two such steps would fit: 1 MiB
    (128, 300, 128, 32, True, 16),  # not one would
    (64, 32, 512, 128, True, 1),  # gates are kept: one step will do
    (64, 32, 128, 32, False, 4),  # 128 KiB
    (256, 32, 512, 128, False, 1),
    (16, 32, 1024, 256, False, 8),  # wide: 128 rows
  ],
)
def test_chunk_length(B, D, G, H, alone, K):
  keeps = G == 4 * H and H >= plan_lib.KEEP_GATES_FROM
  assert plan_lib.chunk_length(B, D, G, H, keeps, alone) == K


@pytest.mark.parametrize(
  ('T', 'K', 'length'),
  [(80, 100, 80), (500, 16, 10), (500, 2, 2), (499, 16, 16), (499, 2, 2), (500, 1, 1)],
)
def test_chunks_divide_the_steps_where_they_can(T, K, length):
  assert plan_lib.divisor_near(T, K) == length
