"""The kernels under vmap, second derivatives, shardings, export, and in memory."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_cases import Case, assert_close, make
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from seqjax import cells, fast, scan
from seqjax.fast import kernels
from seqjax.fast.problem import Static

pytestmark = pytest.mark.usefixtures('quick_programs')

BY_KERNELS = functools.partial(fast.recur, implementation='fast')


def _gradients(recur, cell, sequence, options):
  """Gradients of the squares of all outputs, of params, x, carry; given a mask too."""

  def loss(params, x, carry, mask):
    given = sequence._replace(x=x, carry=carry, mask=mask)
    outputs = recur(cell, params, given, options)
    return sum(jnp.sum(y**2) for y in jax.tree.leaves(outputs))

  return jax.grad(loss, (0, 1, 2))


@pytest.mark.parametrize('cell', ['simple_rnn', 'lstm', 'gru', 'gru_reset_before'])
def test_vmap_over_params_or_data(cell):
  case = Case(cell, T=11, padding='pre', recurrent_dropout=0.4)
  cell, params, sequence, options = make(case)
  args = jax.tree.map(np.asarray, (params, sequence.x, sequence.carry, sequence.mask))
  gradients = (_gradients(r, cell, sequence, options) for r in (BY_KERNELS, scan.recur))
  ours, reference = gradients
  each_its_own = jax.jit(jax.vmap(reference))  # one program for what is mapped or not

  def three(a):
    if a.dtype == bool:
      return np.stack([a, ~a, np.roll(a, 1, -1)])
    return np.stack([np.float32(factor) * a for factor in (1, 0.5, -0.3)])

  def alike(a):
    return np.stack([a] * 3)

  for mapped in (
    (0, None, None, None), (None, 0, 0, 0), (0, 0, 0, None), (0, 0, None, 0)
  ):  # fmt: skip
    given, whole = [], []
    for arg, axis in zip(args, mapped, strict=True):
      whole.append(jax.tree.map(alike if axis is None else three, arg))
      given.append(arg if axis is None else whole[-1])
    found = jax.jit(jax.vmap(ours, in_axes=mapped))(*given)
    assert_close(found, each_its_own(*whole))


def test_many_models_are_one_call_and_vmap_may_be_nested():
  cell, params, sequence, options = make(Case('gru', T=5, recurrent_dropout=0.4))
  args = (params, sequence.x, sequence.carry)
  args = jax.tree.map(lambda a: jnp.stack([a, 0.5 * a, -a]), args)
  keys = jnp.arange(2.0)

  def run(recur):
    gradients = _gradients(recur, cell, sequence, options)

    def one(factor, params, x, carry):
      return gradients(params, x * factor, carry, None)

    inner = jax.vmap(one, in_axes=(None, 0, 0, 0))
    return jax.jit(jax.vmap(inner, in_axes=(0, None, None, None)))

  mapped = run(BY_KERNELS)
  assert_close(mapped(keys, *args), run(scan.recur)(keys, *args))
  text = mapped.lower(keys, *args).as_text()
  assert text.count('@SeqjaxForward') == text.count('@SeqjaxBackward') == 1


@pytest.mark.slow
@pytest.mark.parametrize('cell', ['simple_rnn', 'lstm', 'gru', 'gru_reset_before'])
def test_second_derivative(cell):
  case = Case(cell, T=8, padding='scattered', recurrent_dropout=0.4)
  cell, params, sequence, options = make(case)

  def run(recur):
    gradients = _gradients(recur, cell, sequence, options)

    def norm(*args):
      found = gradients(*args, sequence.mask)
      return sum(jnp.sum(g**2) for g in jax.tree.leaves(found))

    return jax.jit(jax.grad(norm, (0, 1, 2)))(params, sequence.x, sequence.carry)

  assert_close(run(BY_KERNELS), run(scan.recur))


@pytest.mark.parametrize('cell', ['simple_rnn', 'lstm', 'gru', 'gru_reset_before'])
def test_forward_mode(cell):
  case = Case(cell, T=8, padding='scattered', recurrent_dropout=0.4, vocab_size=5)
  cell, params, sequence, options = make(case)

  def run(recur):
    def outputs(params, embedding, carry):
      x = sequence.x._replace(embedding=embedding)
      return recur(cell, params, sequence._replace(x=x, carry=carry), options)

    args = params, sequence.x.embedding, sequence.carry
    return jax.jit(lambda: jax.jvp(outputs, args, jax.tree.map(jnp.cos, args)))()

  assert_close(run(BY_KERNELS), run(scan.recur))


def test_scan_remat_and_a_loop_around_it():
  cell, params, sequence, options = make(Case('lstm', T=6, recurrent_dropout=0.4))

  def loss(recur, params):
    def body(carry, x):
      given = sequence._replace(x=x, carry=carry)
      return jax.checkpoint(lambda: recur(cell, params, given, options))()

    carry, ys = jax.lax.scan(body, sequence.carry, jnp.stack([sequence.x] * 3))
    return jnp.sum(carry.h**2) + jnp.sum(ys**2)

  actual, expected = (
    jax.jit(jax.value_and_grad(functools.partial(loss, recur)))(params)
    for recur in (BY_KERNELS, scan.recur)
  )
  assert_close(actual, expected)


def test_an_exported_program_holds_the_reference():
  cell, params, sequence, options = make(Case('gru', padding='pre'))
  given = sequence._replace(reset=None)

  def gradients(params, x):
    def loss(params, x):
      last, ys = BY_KERNELS(cell, params, given._replace(x=x), options)
      return jnp.sum(last.h**2) + jnp.sum(ys**2)

    return jax.grad(loss, (0, 1))(params, x)

  exported = jax.export.export(jax.jit(gradients))(params, sequence.x)
  assert 'Seqjax' not in exported.mlir_module()
  found = exported.call(params, sequence.x)
  assert_close(found, jax.jit(gradients)(params, sequence.x))


def test_sizes_without_a_number_take_the_reference():
  cell, params, _, _ = make(Case('lstm', D=4))
  (B,) = jax.export.symbolic_shape('B')
  x = jax.ShapeDtypeStruct((B, 7, 4), jnp.float32)

  def last(x):
    return fast.recur(cell, params, scan.Sequence(x))[0].h

  exported = jax.export.export(jax.jit(last))(x)
  x = jnp.ones((3, 7, 4))
  np.testing.assert_allclose(exported.call(x), last(x), atol=1e-6)


def _two_devices():
  mesh = jax.make_mesh((2,), ('data',), (AxisType.Auto,), devices=jax.devices()[:2])
  whole = NamedSharding(mesh, PartitionSpec())
  return mesh, whole, NamedSharding(mesh, PartitionSpec('data'))


@pytest.mark.parametrize('cell', ['lstm', 'gru', 'simple_rnn'])
def test_a_batch_that_xla_cuts(cell):
  """Without a mesh that is set, XLA gathers what it had cut: right, if not fast."""
  cell, params, sequence, options = make(Case(cell, (14,), T=11, recurrent_dropout=0.4))
  _, whole, split = _two_devices()

  def loss(params, x):
    outputs = BY_KERNELS(cell, params, sequence._replace(x=x), options)
    return sum(jnp.sum(y**2) for y in jax.tree.leaves(outputs))

  gradients = jax.grad(loss, (0, 1))
  shardings = {'in_shardings': (whole, split), 'out_shardings': (whole, split)}
  cut = jax.jit(gradients, **shardings)(params, sequence.x)
  assert_close(cut, jax.jit(gradients)(params, sequence.x))


@pytest.mark.parametrize('check_vma', [True, False])
@pytest.mark.parametrize('vocab_size', [0, 5])
def test_shard_map(check_vma, vocab_size):
  case = Case('lstm', batch=(6,), T=11, padding='pre', vocab_size=vocab_size)
  cell, params, sequence, _ = make(case)
  mesh, _, _ = _two_devices()
  spec, whole = PartitionSpec('data'), PartitionSpec()

  def loss(recur, params, x, mask):
    sequence = scan.Sequence(x, mask=mask)
    return jnp.sum(recur(cell, params, sequence)[0].h ** 2)

  def share(params, x, mask):
    return jax.lax.psum(loss(BY_KERNELS, params, x, mask), 'data')

  total = jax.shard_map(
    share,
    mesh=mesh,
    in_specs=(whole, fast.Lookup(spec, whole) if vocab_size else spec, spec),
    out_specs=whole,
    check_vma=check_vma,
  )
  args = params, sequence.x, sequence.mask
  gradient = functools.partial(jax.grad, allow_int=True)
  expected = jax.jit(gradient(lambda *a: loss(scan.recur, *a)))(*args)
  assert_close(jax.jit(gradient(total))(*args), expected)


@pytest.mark.parametrize(
  ('cell', 'recurrent_dropout'), [('gru', 0.0), ('simple_rnn', 0.0), ('lstm', 0.4)]
)
def test_bfloat16_weights_with_a_float32_carry(cell, recurrent_dropout):
  case = Case(cell, T=9, H=6, recurrent_dropout=recurrent_dropout)
  cell, params, sequence, options = make(case)
  params, x = jax.tree.map(lambda a: a.astype(jnp.bfloat16), (params, sequence.x))
  given = sequence._replace(x=x)

  def run(recur):
    gradients = _gradients(recur, cell, sequence, options)
    outputs = recur(cell, params, given, options)
    return outputs, gradients(params, x, sequence.carry, None)

  (actual, gradients), expected = jax.jit(lambda: run(BY_KERNELS))(), run(scan.recur)
  assert actual[0].h.dtype == actual[1].dtype == jnp.float32
  assert jax.tree.leaves(gradients)[0].dtype == jnp.bfloat16
  assert_close((actual, gradients), expected, 0.03)


@pytest.mark.parametrize('cell', ['lstm', 'gru', 'simple_rnn'])
@pytest.mark.parametrize('T', [2000, 4000])
def test_memory_of_a_training_step_is_what_is_said(cell, T):
  B, D, H = 8, 3, 16
  cell, params, _, _ = make(Case(cell, batch=(B,), D=D, H=H))
  x = jax.ShapeDtypeStruct((B, T, D), jnp.float32)

  def loss(params, x):
    options = fast.Options(return_sequences=False)
    return jnp.sum(BY_KERNELS(cell, params, scan.Sequence(x), options)[0].h)

  compiled = jax.jit(jax.grad(loss)).lower(params, x).compile()
  temporary = compiled.memory_analysis().temp_size_in_bytes
  arrays = {
    'x': jax.ShapeDtypeStruct((1, *x.shape), x.dtype),
    'recurrent_kernel': params.recurrent_kernel[None],
  }
  sizes = kernels.sizes_of(Static(cell, fast.Options()), arrays)
  states = len(cell.carry._fields)
  said = 4 * states * B * H * (1 + sizes.chunks)
  # And a few arrays of the size of the weights and of a step.
  assert said <= temporary <= said + 2**17
  assert said < B * T * 4 * states * H / 8


def test_a_layer_called_again_is_not_compiled_again():
  import logging

  layer_cell, params, sequence, options = make(Case('lstm', (8,), T=50, D=16, H=32))
  for recur in (BY_KERNELS, scan.recur):
    recur(layer_cell, params, sequence, options)
    with jax.log_compiles(), _Records(logging.getLogger('jax')) as records:
      recur(cells.lstm(), params, sequence, fast.Options(*options))
    assert not [r for r in records if re.search('[Cc]ompil', r)]


class _Records:
  """The messages of a logger while it is entered."""

  def __init__(self, logger):
    self.logger, self.messages = logger, []

  def __enter__(self):
    import logging

    class Handler(logging.Handler):
      def emit(handler, record):  # noqa: N805
        self.messages.append(record.getMessage())

    self.handler = Handler()
    self.logger.addHandler(self.handler)
    return self.messages

  def __exit__(self, *_):
    self.logger.removeHandler(self.handler)
