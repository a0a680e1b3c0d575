"""What JAX and linen do to functions and modules, done to each recurrent layer.

The table is docs/transformations.md. Derivatives are held against differences of the
layer's values in float64, so no other derivative can be wrong in the same way.
"""

import dataclasses
import functools
import pickle

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import seqjax as sj

pytestmark = pytest.mark.usefixtures('quick_programs')

B, T, D, H = 2, 5, 3, 4
LAYERS = {
  'SimpleRNN': lambda **options: sj.SimpleRNN(H, **options),
  'LSTM': lambda **options: sj.LSTM(H, **options),
  'GRU': lambda **options: sj.GRU(H, **options),
  'GRU, reset before': lambda **options: sj.GRU(H, reset_after=False, **options),
  'Bidirectional': lambda **options: sj.Bidirectional(sj.GRU(H, **options)),
  'Stack': lambda **options: sj.Stack(
    [sj.LSTM(H, return_sequences=True, **options), sj.SimpleRNN(H, **options)]
  ),
  'RNN': lambda **options: sj.RNN(sj.LayerCell(sj.GRU(H, **options))),
}
each_layer = pytest.mark.parametrize('kind', LAYERS)
# Second derivatives take a second to compile: all but two in the slow suite.
twice_each_layer = pytest.mark.parametrize(
  'kind',
  [
    k if k in ('GRU', 'RNN') else pytest.param(k, marks=pytest.mark.slow)
    for k in LAYERS
  ],
)


@functools.cache
def _given(kind):
  """A layer, parameters, x, a mask with holes, and a direction to move in."""
  layer, rng = LAYERS[kind](), np.random.default_rng(0)

  def normal(like):
    return rng.standard_normal(like.shape).astype(np.float32)

  x = normal(np.empty((B, T, D)))
  shapes = jax.eval_shape(functools.partial(layer.init, train=False), *_keys(1), x)
  params = jax.tree.map(lambda s: np.float32(0.6) * normal(s), shapes)
  mask = np.array([[1, 0, 1, 1, 1], [0, 1, 1, 1, 0]], bool)
  return layer, params, x, mask, jax.tree.map(normal, (params, x))


def _keys(n):
  return jax.random.split(jax.random.key(0), n)


def _value(layer, params, x, mask):
  """A number that all outputs change."""
  y = layer.apply(params, x, train=False, mask=mask)
  return jnp.sum(y * jnp.arange(1.0, 1 + y.size).reshape(y.shape) / y.size)


def _along(kind, layer=None):
  """t -> the value at parameters and inputs moved t in the direction."""
  own, *places, mask, direction = _given(kind)

  def value(t):
    moved = jax.tree.map(
      lambda a, d: a + t.astype(a.dtype) * d, tuple(places), direction
    )
    return _value(layer or own, *moved, mask)

  return value


@functools.cache
def _differences(kind):
  """The value and its first two derivatives along the direction, in float64."""
  _, params, x, mask, direction = _given(kind)
  h = 1e-3
  with jax.enable_x64(True):
    wide = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), (params, x, direction))
    params, x, direction = wide

    def value(t):
      moved = jax.tree.map(lambda a, d: a + t * d, (params, x), direction)
      return _value(LAYERS[kind](), *moved, mask)

    a, b, c, d, e = map(float, jax.jit(jax.vmap(value))(h * jnp.arange(-2.0, 3.0)))
  first, second = (a - e + 8 * (d - b)) / 12, (16 * (b + d) - 30 * c - a - e) / 12
  return c, first / h, second / h**2


def _close(actual, expected, tolerance=1e-5):
  for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
    e = np.asarray(e, np.float64)
    np.testing.assert_allclose(a, e, rtol=0, atol=tolerance * max(1, np.abs(e).max()))


def _dot(a, b):
  return sum(jax.tree.leaves(jax.tree.map(lambda a, b: jnp.sum(a * b), a, b)))


def _gradients(layer, params, x, mask):
  return jax.grad(lambda *places: _value(layer, *places, mask), (0, 1))(params, x)


@functools.cache
def _run(kind):
  """The gradients of params and x, jitted once."""
  return jax.jit(functools.partial(_gradients, _given(kind)[0]))


def _expected_gradients(kind):
  _, *args, _ = _given(kind)
  return _run(kind)(*args)


def _one(tree, i):
  return jax.tree.map(lambda a: a[i], tree)


@each_layer
def test_jit(kind):
  layer, *args, _ = _given(kind)
  _close(jax.jit(functools.partial(_value, layer))(*args), _differences(kind)[0])


@each_layer
def test_grad(kind):
  *_, direction = _given(kind)
  _close(_dot(_expected_gradients(kind), direction), _differences(kind)[1])


@each_layer
def test_vmap(kind):
  layer, *args, _ = _given(kind)
  gradients = functools.partial(_gradients, layer)
  ways = [(0, None, None), (None, 0, 0), (0, 0, 0)]
  many = [jax.tree.map(_three, a) for a in args]

  @jax.jit
  def mapped(args, many):
    return [
      jax.vmap(gradients, axes)(
        *(b if axis == 0 else a for a, b, axis in zip(args, many, axes, strict=True))
      )
      for axes in ways
    ]

  for axes, found in zip(ways, jax.device_get(mapped(args, many)), strict=True):
    for i in range(3):
      own = [
        _one(b, i) if axis == 0 else a
        for a, b, axis in zip(args, many, axes, strict=True)
      ]
      _close(_one(found, i), _run(kind)(*own))


def _three(a):
  if a.dtype == bool:
    return np.stack([a, ~a, np.roll(a, 1, -1)])
  return np.stack([np.float32(factor) * a for factor in (1, -0.5, 0.3)])


@each_layer
def test_jvp_and_jacfwd(kind):
  layer, params, x, mask, direction = _given(kind)
  value = functools.partial(_value, layer, mask=mask)

  @jax.jit
  def run(places, direction):
    jacobian = jax.jacfwd(functools.partial(value, places[0]))(places[1])
    return jax.jvp(value, places, direction), jacobian

  found, jacobian = run((params, x), direction)
  _close(found, _differences(kind)[:2])
  _close(jacobian, _expected_gradients(kind)[1])


@twice_each_layer
def test_hessian(kind):
  _close(
    jax.jit(jax.hessian(_along(kind)))(jnp.float32(0)), _differences(kind)[2], 1e-4
  )


@twice_each_layer
def test_reverse_over_reverse(kind):
  twice = jax.grad(jax.grad(_along(kind)))
  _close(jax.jit(twice)(jnp.float32(0)), _differences(kind)[2], 1e-4)


@twice_each_layer
def test_reverse_over_forward(kind):
  value = _along(kind)

  def change(t):
    return jax.jvp(value, (t,), (jnp.ones_like(t),))[1]

  twice = jax.jit(jax.grad(change))
  _close(twice(jnp.float32(0)), _differences(kind)[2], 1e-4)


@each_layer
def test_checkpoint(kind):
  layer, params, x, mask, _ = _given(kind)
  value = jax.checkpoint(lambda *places: _value(layer, *places, mask))
  _close(jax.jit(jax.grad(value, (0, 1)))(params, x), _expected_gradients(kind))


def _lifted(lift, layer):
  """The layer as one of the class that `lift` makes of its class."""
  names = [
    f.name for f in dataclasses.fields(layer) if f.name not in ('parent', 'name')
  ]
  return lift(type(layer))(**{k: getattr(layer, k) for k in names} | {'train': False})


@each_layer
def test_nn_remat(kind):
  layer, params, x, mask, _ = _given(kind)
  remat = _lifted(nn.remat, layer)

  def value(params, x):
    y = remat.apply(params, x, mask=mask)
    return jnp.sum(y * jnp.arange(1.0, 1 + y.size).reshape(y.shape) / y.size)

  gradients = jax.jit(jax.grad(value, (0, 1)))(params, x)
  _close(gradients, _expected_gradients(kind))


class _Block(nn.Module):
  """A layer around which there is a connection, for one on the other."""

  layer: nn.Module

  def __call__(self, x, mask):
    y = self.layer(x, False, mask=mask)
    return x + jnp.tile(y[..., :1], x.shape[-1]), None


@each_layer
def test_nn_scan_over_layers(kind):
  _, _, x, mask, _ = _given(kind)
  apply = jax.jit(_Block(_sequences(kind)).apply)
  scanned = nn.scan(
    _Block,
    variable_axes={'params': 0},
    split_rngs={'params': True},
    in_axes=nn.broadcast,
    length=3,
  )(_sequences(kind))
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda s: (0.6 * rng.standard_normal(s.shape)).astype(np.float32),
    jax.eval_shape(scanned.init, *_keys(1), x, mask),
  )
  y, _ = jax.jit(scanned.apply)(params, x, mask)
  for i in range(3):
    x, _ = apply(_one(params, i), x, mask)
  _close(y, x)


def _sequences(kind):
  """A layer of that kind which returns outputs of all steps."""
  if kind == 'Stack':
    return sj.Stack([sj.LSTM(H, return_sequences=True)] * 1)
  if kind == 'RNN':
    return LAYERS[kind]().clone(return_sequences=True)
  return LAYERS[kind](return_sequences=True)


@each_layer
def test_nn_vmap(kind):
  layer, params, x, _, _ = _given(kind)
  vmapped = _lifted(
    lambda cls: nn.vmap(
      cls, {'params': 0}, {'params': True}, in_axes=None, axis_size=2
    ),
    layer,
  )
  own = jax.tree.map(lambda a: np.stack([a, -a]), params)
  y = jax.jit(vmapped.apply)(own, x)
  apply = jax.jit(functools.partial(layer.apply, train=False))
  for i in range(2):
    _close(y[i], apply(_one(own, i), x))


@each_layer
def test_nn_tabulate(kind):
  layer, params, x, _, _ = _given(kind)
  table = layer.tabulate(*_keys(1), x, train=False, console_kwargs={'width': 200})
  total = sum(a.size for a in jax.tree.leaves(params))
  assert f'Total Parameters: {total:,}' in table


@each_layer
def test_shard_map(kind):
  layer, params, x, mask, _ = _given(kind)
  mesh = jax.make_mesh((2,), ('rows',), (AxisType.Auto,), devices=jax.devices()[:2])
  rows, whole = PartitionSpec('rows'), PartitionSpec()

  @functools.partial(
    jax.shard_map, mesh=mesh, in_specs=(whole, rows, rows), out_specs=rows
  )
  def run(params, x, mask):
    return layer.apply(params, x, train=False, mask=mask)

  def value(params, x):
    y = run(params, x, mask)
    return jnp.sum(y * jnp.arange(1.0, 1 + y.size).reshape(y.shape) / y.size)

  found = jax.jit(jax.grad(value, (0, 1)))(params, x)
  _close(found, _expected_gradients(kind))


@each_layer
def test_pmap(kind):
  layer, params, x, mask, _ = _given(kind)
  split = _three(x)[:2], _three(mask)[:2]  # a batch for each device
  run = jax.pmap(
    functools.partial(_gradients, layer),
    in_axes=(None, 0, 0),
    devices=jax.devices()[:2],
  )
  found = jax.device_get(run(params, *split))
  for i in range(2):
    _close(_one(found, i), _run(kind)(params, *_one(split, i)))


@each_layer
def test_export_with_symbolic_batch_and_time(kind):
  layer, params, x, mask, _ = _given(kind)
  b, t = jax.export.symbolic_shape('b, t')
  like = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), params)
  sequences = jax.ShapeDtypeStruct((b, t, D), jnp.float32)
  real = jax.ShapeDtypeStruct((b, t), bool)

  def run(params, x, mask):
    return layer.apply(params, x, train=False, mask=mask)

  exported = jax.export.export(jax.jit(run))(like, sequences, real)

  @jax.jit
  def both(params, x, mask):
    cut = params, x[:1, :3], mask[:1, :3]
    return [(exported.call(*a), run(*a)) for a in ((params, x, mask), cut)]

  for found, expected in both(params, x, mask):
    _close(found, expected)


@each_layer
def test_float64(kind):
  _, params, x, mask, direction = _given(kind)
  layer = LAYERS[kind]()
  with jax.enable_x64(True):
    args = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), (params, x, direction))
    gradients = jax.jit(functools.partial(_gradients, layer))(*args[:2], mask)
    assert {a.dtype for a in jax.tree.leaves(gradients)} == {np.dtype('float64')}
    _close(_dot(gradients, args[2]), _differences(kind)[1], 1e-8)


@each_layer
def test_bfloat16(kind):
  _, params, x, mask, _ = _given(kind)
  narrow = {} if kind == 'RNN' else {'dtype': jnp.bfloat16}
  if kind == 'RNN':  # its cell computes in the dtypes of what it is given
    params, x = jax.tree.map(lambda a: a.astype(jnp.bfloat16), (params, x))
  layer = LAYERS[kind](**narrow)
  y = jax.eval_shape(functools.partial(layer.apply, train=False), params, x)
  assert y.dtype == (jnp.bfloat16 if narrow else jnp.float32)
  gradients = jax.jit(functools.partial(_gradients, layer))(params, x, mask)
  expected = _expected_gradients(kind)
  _close(gradients, expected, 0.05)
  # Numbers of eight bits were at work.
  assert np.abs(gradients[1].astype(jnp.float32) - expected[1]).max() > 1e-4


@each_layer
def test_debug_nans(kind):
  layer, params, x, mask, _ = _given(kind)
  for size in range(1, 60):  # memory that an operation finds is full of them
    jnp.full(size, jnp.nan).block_until_ready().delete()
  with jax.debug_nans(True):
    _close(_gradients(layer, params, x, mask), _expected_gradients(kind))
    with pytest.raises(FloatingPointError):
      _run(kind)(params, jnp.asarray(x).at[0, 0, 0].set(jnp.nan), mask)


@each_layer
def test_disable_jit(kind):
  layer, params, x, mask, _ = _given(kind)
  with jax.disable_jit():
    _close(_value(layer, params, x, mask), _differences(kind)[0])


@each_layer
def test_donated_arguments(kind):
  layer, params, x, mask, _ = _given(kind)
  given = jax.tree.map(jnp.copy, params)

  @functools.partial(jax.jit, donate_argnums=0)
  def step(params, x, mask):
    gradients, _ = _gradients(layer, params, x, mask)
    return jax.tree.map(lambda p, g: p - g, params, gradients)

  new = step(given, x, mask)
  assert all(a.is_deleted() for a in jax.tree.leaves(given))
  gradients, _ = _expected_gradients(kind)
  _close(new, jax.tree.map(lambda p, g: p - g, params, gradients))


@each_layer
def test_eval_shape(kind):
  layer, params, x, _, _ = _given(kind)
  shape = jax.eval_shape(functools.partial(layer.apply, train=False), params, x)
  y = layer.apply(params, x, train=False)
  assert (shape.shape, shape.dtype) == (y.shape, y.dtype)


@each_layer
def test_pickle(kind):
  layer, params, x, mask, _ = _given(kind)
  again = pickle.loads(pickle.dumps(layer))
  assert again == layer
  found = again.apply(params, x, train=False, mask=mask)
  np.testing.assert_array_equal(found, layer.apply(params, x, train=False, mask=mask))
