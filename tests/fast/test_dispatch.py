"""The kernels against the reference path: values and gradients."""

from collections import Counter
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest
from fast_cases import (
  CELLS,
  PADDINGS,
  Case,
  assert_close,
  cases,
  check_values,
  gradients,
  make,
)

from seqjax import fast, scan

pytestmark = pytest.mark.usefixtures('quick_programs')

SEEDS, EACH = range(4), 105  # 400 cases and some that come twice, in parts side by side


def _maker(recur, case):
  """dtype -> (params, values, carry) -> outputs, and their gradients."""

  def make_run(dtype):
    cell, _, sequence, options = make(case, dtype)
    if recur is scan.recur:
      options = options._replace(remat_chunk=None)

    def run(arguments):
      arguments = jax.tree.map(lambda a: jnp.asarray(a, dtype), arguments)
      (_, outputs), grads = gradients(recur, cell, options)(*arguments, sequence)
      return [np.asarray(a) for a in jax.tree.leaves((outputs, grads))]

    return run

  return make_run


def _by_kernels(*arguments):
  """`fast.recur`, which has to take the kernels; in float64 they have no part."""
  if jax.config.jax_enable_x64:
    return scan.recur(*arguments)
  return fast.recur(*arguments, 'fast')


def _check(case, *, in_float64=False):
  _, params, sequence, _ = make(case)
  arguments = jax.tree.map(np.asarray, (params, sequence.values, sequence.carry))
  ours, reference = _maker(_by_kernels, case), _maker(scan.recur, case)
  return parity.check(ours, reference, arguments, in_float64=in_float64)


def test_equals_the_reference_path():
  parity.for_all(cases(), 0, 12, _check)


@pytest.mark.slow
@pytest.mark.parametrize('seed', SEEDS)
def test_equals_the_reference_path_400_times(seed):
  parity.check_all(cases(), seed, EACH, _check)


def test_the_400_are_cases_of_every_kind():
  found = []
  for seed in SEEDS:
    parity.for_all(cases(), seed, EACH, found.append)
  assert len(set(found)) >= 400
  for name, values in {
    'cell': CELLS, 'padding': PADDINGS, 'dropout': (0.0, 0.3), 'T': range(1, 15),
    'recurrent_dropout': (0.0, 0.4), 'shared': (True, False), 'carry': (True, False),
    'use_bias': (True, False), 'resets': (True, False), 'vocab_size': (0, 3, 30),
    'return_sequences': (True, False), 'bptt_steps': (None, 1, 3),
    'remat_chunk': (None, 1, 2, 3, 5, 20),
  }.items():  # fmt: skip
    counts = Counter(getattr(case, name) for case in found)
    assert counts.keys() == set(values)
    assert min(counts.values()) >= 2, counts
  assert {len(case.batch) for case in found} == {0, 1, 2}
  assert {case.H for case in found} == {*range(1, 7), 15, 16, 17, 31, 32, 33, 40}


BASE = ('simple_rnn', 'lstm', 'gru', 'gru_reset_before')
RUNS = [
  Case(T=11, padding='scattered', dropout=0.3, recurrent_dropout=0.4, seed=1),
  Case(T=8, batch=(2, 3), options=('go_backwards',), recurrent_dropout=0.4),
  Case(T=7, batch=(41,), D=19, H=35, resets=True, bptt_steps=3),
]


@pytest.mark.parametrize(
  ('cell', 'case'),
  [
    (cell, case)
    for number, cell in enumerate(CELLS)
    # Those that differ in activations alone take one each, by turns.
    for case in (RUNS if cell in BASE else [RUNS[number % 3]])
  ],
)
def test_every_cell(cell, case):
  _check(Case(**{**vars(case), 'cell': cell}))


def _check_values(seed, count):
  found = []
  parity.for_all(cases(), seed, count, found.append)
  for i in range(0, len(found), 10):
    check_values(*found[i : i + 10])


def test_values_equal_a_loop_in_float64():
  _check_values(5, 40)


SIZES = [(80, True), (256, False), (272, True)]


@pytest.mark.parametrize(
  ('cell', 'vocab_size', 'H', 'use_bias'),
  [
    (cell, vocab_size, H, use_bias)
    for cell in CELLS
    for vocab_size in (0, 7)
    for H, use_bias in SIZES
    if cell in BASE or (vocab_size, H) == (7, 80)
  ],
)
def test_one_step_of_few_rows(cell, vocab_size, H, use_bias):
  """As in a stream: the weights are not packed; the bits are those of the other way."""
  shape = {
    'T': 1,
    'D': 5,
    'H': H,
    'vocab_size': vocab_size,
    'use_bias': use_bias,
    'seed': 2,
  }
  check_values(*(Case(cell, (rows,), **shape) for rows in (1, 4, 5)))
  cell, params, sequence, options = make(Case(cell, (4,), **shape))

  @jax.jit
  def run(params, *given):
    return [fast.recur(cell, params, each, options, 'fast')[0] for each in given]

  # A mask of ones takes the other way.
  masked = sequence._replace(mask=jnp.ones((4, 1), bool))
  few, whole = run(params, sequence, masked)
  jax.tree.map(np.testing.assert_array_equal, few, whole)


@pytest.mark.slow
@pytest.mark.parametrize('seed', SEEDS)
def test_values_equal_a_loop_in_float64_400_times(seed):
  _check_values(seed, EACH)


@pytest.mark.parametrize('padding', ['pre', 'post', 'nothing real'])
def test_skipped_steps_hand_carry_and_cotangents_on(padding):
  # Two real steps of seventeen in chunks of three: most chunks hold no real step.
  case = Case(T=17, remat_chunk=3, seed=3)
  real = {'pre': slice(15, 17), 'post': slice(0, 2), 'nothing real': slice(0, 0)}
  mask = np.zeros((3, 17), bool)
  mask[:, real[padding]] = True
  with mock.patch('fast_cases._padding', return_value=jnp.asarray(mask)):
    _check(case)


@pytest.mark.parametrize('cell', BASE)
@pytest.mark.parametrize('options', [(), ('go_backwards',)])
def test_steps_that_are_alike_in_all_rows_are_run_once(cell, options):
  """Padding without a mask: values and gradients are those of running each row."""
  for front in (0, 4, 7, 12):
    _check(
      Case(cell, (9,), T=12, D=5, H=6, carry=False, vocab_size=7, options=options,
           alike=front, seed=front)
    )  # fmt: skip


@pytest.mark.parametrize('vocab_size', [3, 500])
@pytest.mark.parametrize('bad', [-1, 10**6, -(2**31)])
def test_ids_outside_the_embedding_are_nan_in_their_rows_alone(vocab_size, bad):
  """With a table of projected rows and without."""
  case = Case('gru', (5,), T=6, vocab_size=vocab_size, carry=False)
  cell, params, sequence, options = make(case)
  ids = sequence.x.ids.at[2, 3].set(bad)

  def loss(embedding):
    lookup = sequence.x._replace(ids=ids, embedding=embedding)
    last, ys = fast.recur(cell, params, scan.Sequence(lookup), options, 'fast')
    return jnp.sum(last.h), (last, ys)

  grad, (last, ys) = jax.grad(loss, has_aux=True)(sequence.x.embedding)
  np.testing.assert_array_equal(
    np.isnan(ys).any(-1),
    np.arange(6)[None] >= np.where(np.arange(5) == 2, 3, 9)[:, None],
  )
  np.testing.assert_array_equal(np.isnan(last.h).any(-1), np.arange(5) == 2)
  untouched = np.setdiff1d(np.arange(vocab_size), np.asarray(sequence.x.ids).ravel())
  np.testing.assert_array_equal(grad[untouched], 0)


def test_nan_in_masked_steps_reaches_nothing():
  case = Case('lstm', (5,), T=6, padding='scattered', seed=2)
  cell, params, sequence, options = make(case)
  x = jnp.where(sequence.mask[..., None], sequence.x, jnp.nan)

  def gradients(x):
    def loss(params, x):
      last, ys = fast.recur(cell, params, sequence._replace(x=x), options, 'fast')
      return jnp.sum(last.h) + jnp.sum(ys**2)

    return jax.value_and_grad(loss, (0, 1))(params, x)

  assert_close(gradients(x), gradients(sequence.x), 0)


def test_gradients_of_inputs_are_not_computed_where_nobody_wants_them():
  cell, params, sequence, options = make(Case('lstm', (6,), T=5))

  def loss(params, x):
    last, _ = fast.recur(cell, params, sequence._replace(x=x), options, 'fast')
    return jnp.sum(last.h)

  def shapes(argnums):
    jaxpr = jax.make_jaxpr(jax.grad(loss, argnums))(params, sequence.x)
    return str(jaxpr).count('f32[1,30,4]')  # the gradient of x, [models, B T, D]

  assert shapes((0,)) == 0
  assert shapes((0, 1)) > 0
