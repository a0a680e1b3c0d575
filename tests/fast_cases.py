"""Random runs for the tests of the fast path: cells, shapes, options, masks."""

import dataclasses
from typing import Any

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np

from seqjax import cells, dropout
from seqjax.types import Array, PyTree

CELLS = {
  'simple_rnn': cells.simple_rnn(),
  'simple_rnn_relu': cells.simple_rnn(jax.nn.relu),
  'lstm': cells.lstm(),
  'gru': cells.gru(),
  'gru_relu': cells.gru(jax.nn.relu),
  'gru_reset_before': cells.gru(reset_after=False),
  'gru_reset_before_linear': cells.gru(cells.linear, reset_after=False),
}
PADDINGS = ('none', 'pre', 'post', 'scattered', 'nothing real')


@dataclasses.dataclass(frozen=True)
class Case:
  """One run; `str` of it in a failing test says all that is needed to repeat it."""

  cell: str = 'lstm'
  batch: tuple[int, ...] = (3,)
  T: int = 7
  D: int = 4
  H: int = 5
  chunk: int = 3  # steps
  padding: str = 'none'
  dropout: float = 0.0
  recurrent_dropout: float = 0.0
  use_bias: bool = True
  options: tuple[str, ...] = ()  # of go_backwards, zero_output_for_mask
  resets: bool = False  # start anew before some steps
  vocab_size: int = 0  # the inputs are rows of an embedding of so many; 0: they are not
  seed: int = 0


def cases() -> st.SearchStrategy[Case]:
  sizes = st.integers(1, 6)
  return st.builds(
    Case,
    cell=st.sampled_from(list(CELLS)),
    batch=st.one_of(st.tuples(sizes), st.tuples(), st.tuples(sizes, sizes)),
    T=st.integers(1, 14),
    D=sizes,
    H=sizes,
    chunk=st.sampled_from([1, 2, 3, 5, 20]),
    padding=st.sampled_from(PADDINGS),
    dropout=st.sampled_from([0.0, 0.3]),
    recurrent_dropout=st.sampled_from([0.0, 0.4]),
    use_bias=st.booleans(),
    options=st.sets(st.sampled_from(['go_backwards', 'zero_output_for_mask'])).map(
      lambda names: tuple(sorted(names))
    ),
    resets=st.booleans(),
    vocab_size=st.sampled_from([0, 0, 3, 30]),
    seed=st.integers(0, 2**31 - 1),
  )


def make(
  case: Case, dtype: Any = jnp.float32
) -> tuple[cells.Cell, PyTree, Array, PyTree, dict[str, Any]]:
  """(cell, params, x, carry, keywords of recur) of a case."""
  rng = np.random.default_rng(case.seed)
  cell = CELLS[case.cell]
  G = cell.num_gates * case.H

  def normal(scale: float, *shape: int) -> Array:
    return jnp.asarray(scale * rng.standard_normal(shape), dtype)

  bias_shape = (2, G) if cell.name == 'gru' else (G,)
  params = {
    'simple_rnn': cells.SimpleRNNParams,
    'lstm': cells.LSTMParams,
  }.get(cell.name, cells.GRUParams)(
    normal(0.5, case.D, G),
    normal(0.5 / case.H**0.5, case.H, G),
    normal(0.3, *bias_shape) if case.use_bias else None,
  )
  x = normal(1, *case.batch, case.T, case.D)
  carry = cell.carry(*(normal(1, *case.batch, case.H) for _ in cell.carry._fields))
  with jax.enable_x64(False):  # else the draws are others in float64
    x_mask, h_mask = dropout.recurrent_masks(
      jax.random.key(case.seed),
      dropout=case.dropout,
      recurrent_dropout=case.recurrent_dropout,
      batch_shape=case.batch,
      input_size=case.D,
      features=case.H,
      num_gates=cell.num_gates,
    )
  keywords = {name: True for name in case.options}
  keywords |= {'x_mask': x_mask, 'h_mask': h_mask, 'mask': _padding(case, rng)}
  keywords['reset'] = None
  if case.resets:
    keywords['reset'] = jnp.asarray(rng.random((*case.batch, case.T)) < 0.3)
  return cell, params, x, carry, keywords


def _padding(case: Case, rng: np.random.Generator) -> Array | None:
  """A mask [*batch, T], or None; rows differ, and some have no real step."""
  if case.padding == 'none':
    return None
  if case.padding == 'nothing real':
    return jnp.zeros((*case.batch, case.T), bool)
  steps = np.arange(case.T)
  lengths = rng.integers(0, case.T + 1, (*case.batch, 1))
  real = {
    'pre': steps >= case.T - lengths,
    'post': steps < lengths,
    'scattered': rng.random((*case.batch, case.T)) < 0.6,
  }[case.padding]
  return jnp.asarray(real)


def assert_close(actual, expected, tolerance=1e-5):
  """Equal to `tolerance` of the largest entry of each array."""
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
    assert a.dtype == e.dtype
    a, e = np.asarray(a, np.float64), np.asarray(e, np.float64)
    np.testing.assert_allclose(a, e, rtol=0, atol=tolerance * np.abs(e).max())
