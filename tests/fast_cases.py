"""Random runs for the tests of the fast path: cells, shapes, options, masks."""

import dataclasses
import functools
from typing import Any
from unittest import mock

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import numpy_rnn
import parity

from seqjax import cells, dropout, fast
from seqjax.scan import Lookup, Options, Sequence
from seqjax.types import Array, PyTree

CELLS = {
  'simple_rnn': cells.simple_rnn(),
  'simple_rnn_relu': cells.simple_rnn(jax.nn.relu),
  'simple_rnn_sigmoid': cells.simple_rnn(jax.nn.sigmoid),
  'lstm': cells.lstm(),
  'lstm_hard': cells.lstm(recurrent_activation=jax.nn.hard_sigmoid),
  'gru': cells.gru(),
  'gru_relu': cells.gru(jax.nn.relu),
  'gru_hard': cells.gru(recurrent_activation=cells.hard_sigmoid_keras2),
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
  padding: str = 'none'
  dropout: float = 0.0
  recurrent_dropout: float = 0.0
  shared: bool = False  # one dropout mask for all gates
  use_bias: bool = True
  carry: bool = True  # one is given
  options: tuple[str, ...] = ()  # of go_backwards, time_first, zero_output_for_mask
  return_sequences: bool = True
  bptt_steps: int | None = None
  remat_chunk: int | None = 3  # how long a chunk of the kernels is
  resets: bool = False  # start anew before some steps
  vocab_size: int = 0  # the inputs are rows of an embedding of so many; 0: they are not
  alike: int = 0  # steps of processing in front at which all rows look up row 0
  seed: int = 0


def cases() -> st.SearchStrategy[Case]:
  sizes = st.integers(1, 6)
  # Around a vector of 16 numbers, around a panel of two, and around tiles of rows.
  units = st.one_of(sizes, st.sampled_from([15, 16, 17, 31, 32, 33, 40]))
  return st.builds(
    Case,
    cell=st.sampled_from(list(CELLS)),
    batch=st.one_of(
      st.tuples(sizes),
      st.tuples(),
      st.tuples(sizes, sizes),
      st.tuples(st.sampled_from([9, 13, 37])),
    ),
    T=st.integers(1, 14),
    D=units,
    H=units,
    padding=st.sampled_from(PADDINGS),
    dropout=st.sampled_from([0.0, 0.3]),
    recurrent_dropout=st.sampled_from([0.0, 0.4]),
    shared=st.booleans(),
    use_bias=st.booleans(),
    carry=st.booleans(),
    return_sequences=st.booleans(),
    bptt_steps=st.sampled_from([None, None, 1, 3]),
    remat_chunk=st.sampled_from([None, 1, 2, 3, 5, 20]),
    options=st.sets(
      st.sampled_from(['go_backwards', 'time_first', 'zero_output_for_mask'])
    ).map(lambda names: tuple(sorted(names))),
    resets=st.booleans(),
    vocab_size=st.sampled_from([0, 0, 3, 30]),
    alike=st.sampled_from([0, 0, 1, 6]),
    seed=st.integers(0, 2**31 - 1),
  )


def make(
  case: Case, dtype: Any = jnp.float32
) -> tuple[cells.Cell, PyTree, Sequence, Options]:
  """The arguments of `recur`, x as it is given or as the embedding to look up in."""
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
    normal(0.5 / case.D**0.5, case.D, G),
    normal(0.5 / case.H**0.5, case.H, G),
    normal(0.3, *bias_shape) if case.use_bias else None,
  )
  x: Any = normal(1, *case.batch, case.T, case.D)
  if case.vocab_size:
    ids = rng.integers(0, case.vocab_size, (*case.batch, case.T))
    last = 'go_backwards' in case.options
    ids[..., case.T - case.alike if last else 0 : None if last else case.alike] = 0
    x = Lookup(jnp.asarray(ids), normal(1, case.vocab_size, case.D))
  carry = cell.carry(*(normal(1, *case.batch, case.H) for _ in cell.carry._fields))
  x_mask, h_mask = _dropout_masks(case, cell.num_gates)
  reset = None
  if case.resets:
    reset = jnp.asarray(rng.random((*case.batch, case.T)) < 0.3)
  mask = _padding(case, rng)
  sequence = Sequence(x, carry if case.carry else None, mask, reset, x_mask, h_mask)
  options = Options(
    return_sequences=case.return_sequences,
    bptt_steps=case.bptt_steps,
    remat_chunk=case.remat_chunk,
    **dict.fromkeys(case.options, True),
  )
  return cell, params, sequence, options


def _dropout_masks(case: Case, num_gates: int) -> tuple[Array | None, Array | None]:
  """As the layers have them, but drawn by NumPy: nothing is compiled for a shape."""
  draw = functools.partial(
    dropout.recurrent_masks,
    jax.random.key(0),
    dropout=case.dropout,
    recurrent_dropout=case.recurrent_dropout,
    batch_shape=case.batch,
    input_size=case.D,
    features=case.H,
    num_gates=1 if case.shared else num_gates,
  )
  with jax.enable_x64(False):  # float32 in any case
    x_like, h_like = jax.eval_shape(draw)
  rng = np.random.default_rng(case.seed)

  def drawn(like, rate):
    if like is None:
      return None
    return jnp.asarray((rng.random(like.shape) >= rate) / (1 - rate), like.dtype)

  return drawn(x_like, case.dropout), drawn(h_like, case.recurrent_dropout)


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


@functools.cache
def gradients(recur, cell, options, *, quick=True):
  """One program for all arrays of a shape: outputs, and gradients of a sum of them.

  Returns:
    (params, x or the embedding, carry, sequence) -> ((sum, outputs), gradients of the
    sum by the first three, which stand for the sequence's own).
  """

  def loss(params, values, carry, sequence):
    x = sequence.x
    x = x._replace(embedding=values) if isinstance(x, Lookup) else values
    out = recur(cell, params, sequence._replace(x=x, carry=carry), options)
    outputs, rng = jax.tree.leaves(out), np.random.default_rng(1)
    factors = [jnp.asarray(rng.standard_normal(y.shape), values.dtype) for y in outputs]
    terms = [jnp.sum(jnp.sin(y) * f) for y, f in zip(outputs, factors, strict=True)]
    return sum(terms), outputs

  both = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)
  return jax.jit(both, compiler_options=parity.QUICK if quick else None)


def assert_close(actual, expected, tolerance=1e-5):
  """Equal to `tolerance` of the largest entry of each array.

  Where all entries are small, they are sums of larger terms: of 0.01 at least.
  """
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
    assert a.dtype == e.dtype
    a, e = np.asarray(a, np.float64), np.asarray(e, np.float64)
    np.testing.assert_allclose(
      a, e, rtol=0, atol=tolerance * max(np.abs(e).max(), 0.01)
    )


def check_values(*some):
  """Against a loop of NumPy in float64, which shares no code with either path.

  The kernels run all of `some` in one program, which is compiled sooner than many.
  """
  some = [dataclasses.replace(case, batch=(3, *case.batch)[-1:]) for case in some]
  made = [make(case) for case in some]

  def run(given):
    return [
      fast.recur(cell, *arrays, options, 'fast')
      for (cell, _, _, options), arrays in zip(made, given, strict=True)
    ]

  run = jax.jit(run, compiler_options=parity.QUICK)
  found = run([(params, sequence) for _, params, sequence, _ in made])
  for case, (cell, *arrays, _), got in zip(some, made, found, strict=True):
    _check_values(case, cell, *jax.tree.map(np.asarray, arrays), got)


def _check_values(case, cell, params, sequence, got):
  last, ys = got
  names = {function: name for name, function in cells.ACTIVATIONS.items()}
  names[cells.hard_sigmoid_keras2] = 'hard_sigmoid_keras2'
  x = sequence.x
  if case.vocab_size:
    x = x.embedding[x.ids]
  masks = (sequence.x_mask, sequence.h_mask)
  n = cell.num_gates
  hard = {'hard_sigmoid_keras2': lambda xp, x: xp.clip(0.2 * x + 0.5, 0, 1)}
  with mock.patch.dict(numpy_rnn.ACTIVATIONS, hard):
    want_h, want_c, want_ys = numpy_rnn.run(
      cell.name,
      params,
      x,
      **dict(zip(('x_mask', 'h_mask'), (_a_gate(m, n) for m in masks), strict=True)),
      mask=sequence.mask,
      reset=sequence.reset,
      carry=sequence.carry,
      activation=names[cell.activation],
      recurrent_activation=names.get(cell.recurrent_activation, 'sigmoid'),
      **{name: True for name in case.options if name != 'time_first'},
    )
  pairs = [(last.h, want_h)] + ([(last.c, want_c)] if cell.name == 'lstm' else [])
  for got, want in pairs + ([] if ys is None else [(ys, want_ys)]):
    np.testing.assert_allclose(
      got, want, rtol=0, atol=1e-5 * max(1, np.abs(want).max()), err_msg=str(case)
    )


def _a_gate(mask, n):
  """[n, B, .] of a mask that may be shared."""
  if mask is None:
    return None
  return np.broadcast_to(mask, (n, *mask.shape[-2:]))
