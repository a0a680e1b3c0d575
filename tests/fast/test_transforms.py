"""The fast path under vmap, second derivatives, shardings, and in memory."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_cases import Case, assert_close, make
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from seqjax import cells, fast, scan
from seqjax.fast import plan as plan_lib

pytestmark = pytest.mark.slow  # each compiles programs of its own


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
  monkeypatch.setattr(plan_lib, 'chunk_length', lambda *_: 3)


def _gradients(recur, cell, keywords):
  """Gradients of the squares of all outputs, of params, x, carry."""

  def loss(params, x, carry, mask):
    outputs = recur(cell, params, x, carry, mask=mask, **keywords)
    return sum(jnp.sum(y**2) for y in jax.tree.leaves(outputs))

  return jax.grad(loss, (0, 1, 2))


@pytest.mark.parametrize('cell', ['simple_rnn', 'lstm', 'gru'])
@pytest.mark.parametrize('mapped', [(0, None, None, None), (None, 0, 0, 0)])
def test_vmap_over_params_or_data(cell, mapped):
  case = Case(cell, T=11, padding='pre', recurrent_dropout=0.4)
  cell, params, x, carry, keywords = make(case)
  args = (params, x, carry, keywords.pop('mask'))

  def stacked(tree, axis):
    def both(a):
      return jnp.stack([a, ~a if a.dtype == bool else 0.5 * a])

    return tree if axis is None else jax.tree.map(both, tree)

  args = [stacked(arg, axis) for arg, axis in zip(args, mapped, strict=True)]

  def run(recur):
    gradients = _gradients(recur, cell, keywords)
    return jax.jit(jax.vmap(gradients, in_axes=mapped))(*args)

  assert_close(run(fast.recur), run(scan.recur))


@pytest.mark.parametrize('cell', ['simple_rnn', 'lstm', 'gru', 'gru_reset_before'])
def test_second_derivative(cell):
  case = Case(cell, T=8, padding='scattered', recurrent_dropout=0.4)
  cell, params, x, carry, keywords = make(case)
  mask = keywords.pop('mask')

  def run(recur):
    gradients = _gradients(recur, cell, keywords)

    def norm(*args):
      return sum(jnp.sum(g**2) for g in jax.tree.leaves(gradients(*args, mask)))

    return jax.jit(jax.grad(norm, (0, 1, 2)))(params, x, carry)

  assert_close(run(fast.recur), run(scan.recur))


def test_forward_mode_asks_for_the_reference_path():
  cell, params, x, carry, _ = make(Case())
  with pytest.raises(TypeError, match='forward-mode'):
    jax.jvp(lambda x: fast.recur(cell, params, x, carry)[1], (x,), (x,))


def _two_devices():
  mesh = jax.make_mesh((2,), ('data',), (AxisType.Auto,), devices=jax.devices()[:2])
  whole = NamedSharding(mesh, PartitionSpec())
  return mesh, whole, NamedSharding(mesh, PartitionSpec('data'))


@pytest.mark.parametrize(
  ('cell', 'D'), [('lstm', 4), ('gru', 4), ('simple_rnn', 4), ('simple_rnn', 6)]
)
def test_a_batch_cut_over_devices_stays_cut(cell, D):
  case = Case(cell, batch=(14,), T=11, D=D, recurrent_dropout=0.4)
  cell, params, x, _, keywords = make(case)
  h_mask = keywords.pop('h_mask')
  _, whole, split = _two_devices()
  a_gate = NamedSharding(split.mesh, PartitionSpec(None, 'data'))

  def loss(params, x, h_mask):
    carry = cells.zero_carry(cell, (14, case.H))
    carry, ys = fast.recur(cell, params, x, carry, h_mask=h_mask)
    return jnp.sum(carry.h**2) + jnp.sum(ys**2)

  shardings = (whole, split, a_gate if h_mask.ndim == 3 else split)
  gradients = jax.grad(loss, (0, 1))
  cut = jax.jit(gradients, in_shardings=shardings, out_shardings=(whole, split))
  assert_close(cut(params, x, h_mask), jax.jit(gradients)(params, x, h_mask))
  hlo = cut.lower(params, x, h_mask).compile().as_text()
  # Half of the batch everywhere, and one sum over devices, of the weights' gradients.
  assert re.search(rf'f32\[\d+,7,{case.H}\]', hlo)
  assert not re.search(r'f32\[(\d+,)*14(,\d+)*\]', hlo)
  assert not re.search('all-gather|all-to-all|collective-permute', hlo)
  assert hlo.count(' all-reduce(') == 1


@pytest.mark.parametrize('check_vma', [True, False])
def test_shard_map(check_vma):
  case = Case('lstm', batch=(6,), T=11, padding='pre')
  cell, params, x, _, keywords = make(case)
  mesh, _, _ = _two_devices()
  spec = PartitionSpec('data')

  def loss(recur, params, x, mask):
    carry = cells.zero_carry(cell, (len(x), case.H))
    return jnp.sum(recur(cell, params, x, carry, mask=mask)[0].h ** 2)

  def share(params, x, mask):
    return jax.lax.psum(loss(fast.recur, params, x, mask), 'data')

  total = jax.shard_map(
    share,
    mesh=mesh,
    in_specs=(PartitionSpec(), spec, spec),
    out_specs=PartitionSpec(),
    check_vma=check_vma,
  )
  args = params, x, keywords['mask']
  expected = jax.jit(jax.grad(lambda *a: loss(scan.recur, *a)))(*args)
  assert_close(jax.jit(jax.grad(total))(*args), expected)


@pytest.mark.parametrize(
  ('cell', 'recurrent_dropout'), [('gru', 0.0), ('simple_rnn', 0.0), ('lstm', 0.4)]
)
def test_bfloat16_weights_with_a_float32_carry(cell, recurrent_dropout):
  case = Case(cell, T=9, H=6, recurrent_dropout=recurrent_dropout)
  cell, params, x, carry, keywords = make(case)
  params, x = jax.tree.map(lambda a: a.astype(jnp.bfloat16), (params, x))

  def run(recur):
    gradients = _gradients(recur, cell, {})
    outputs = recur(cell, params, x, carry, **keywords)
    return outputs, gradients(params, x, carry, None)

  (actual, gradients), expected = jax.jit(lambda: run(fast.recur))(), run(scan.recur)
  assert actual[0].h.dtype == actual[1].dtype == jnp.float32
  assert jax.tree.leaves(gradients)[0].dtype == jnp.bfloat16
  assert_close((actual, gradients), expected, 0.03)


@pytest.mark.parametrize(
  ('cell', 'D', 'width'),
  [('lstm', 3, 16), ('gru', 3, 16), ('simple_rnn', 3, 16 + 3), ('simple_rnn', 17, 16)],
)
def test_memory_of_a_training_step_is_one_h_a_step(cell, D, width, monkeypatch):
  """And narrow inputs of a SimpleRNN in another order: `width` floats in all."""
  monkeypatch.undo()  # chunks as they are
  B, H = 8, 16
  cell, params, _, carry, _ = make(Case(cell, batch=(B,), D=D, H=H))

  def temporary(T):
    x = jax.ShapeDtypeStruct((B, T, D), jnp.float32)

    def loss(params, x):
      carry_out, _ = fast.recur(cell, params, x, carry, return_sequences=False)
      return jnp.sum(carry_out.h)

    compiled = jax.jit(jax.grad(loss)).lower(params, x).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  more = (temporary(4000) - temporary(2000)) / 2000
  # With c of a chunk's start now and then.
  assert 4 * B * width <= more <= 1.1 * 4 * B * width
  np.testing.assert_array_less(temporary(4000), 4000 * 4 * B * width + 16 * 2**20)
