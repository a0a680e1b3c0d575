"""Exported programs: any number of rows and steps, three platforms, step by step."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax import serving

V, E, D, T = 11, 5, 3, 6


def of_ids(encoder, **options):
  return sj.SequenceClassifier(V, E, encoder, **options), (T,), 'int32'


def of_rows(encoder, **options):
  return sj.SequenceRegressor(encoder, **options), (T, D), 'float32'


def stack():
  return sj.Stack([sj.GRU(4, return_sequences=True), sj.LSTM(3)])


MODELS = {
  'classifier': of_ids(sj.LSTM(4)),
  'masked': of_ids(stack(), mask_zero=True),
  'regressor': of_rows(sj.GRU(4)),
  'stack': of_rows(stack()),
  'several numbers': of_rows(sj.LSTM(4), output_shape=(2, 3)),
  'both directions': of_ids(sj.Bidirectional(sj.LSTM(4))),
}


def made(name, rows=7, steps=T):
  """A model, its parameters, and inputs with padding in front."""
  model, shape, dtype = MODELS[name]
  rng = np.random.default_rng(0)
  x = rng.normal(size=(rows, steps, *shape[1:])).astype(np.float32)
  if dtype == 'int32':
    x = rng.integers(1, V, (rows, steps)).astype(np.int32)
    x[:2, :3] = 0
  init = functools.partial(model.init, train=False)
  shapes = jax.eval_shape(init, jax.random.key(1), x)['params']
  params = jax.tree.map(
    lambda s: (0.6 * rng.standard_normal(s.shape)).astype(np.float32), shapes
  )
  return model, params, x, shape, dtype


@pytest.mark.parametrize('name', MODELS)
def test_any_number_of_rows_and_steps(name):
  model, params, x, shape, dtype = made(name)
  exported = serving.export_model(model, params, shape, dtype)
  assert exported.platforms == ('cpu', 'cuda', 'tpu')
  assert 'Seqjax' not in exported.mlir_module()

  @jax.jit
  def both(*parts):
    apply = functools.partial(model.apply, {'params': params}, train=False)
    return [(exported.call(part), apply(part)) for part in parts]

  for found, expected in both(x, x[:1, :4]):
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_time_is_fixed_where_parameters_depend_on_it():
  class Flat(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
      return nn.Dense(1)(x.reshape(x.shape[0], -1))

  params = Flat().init(jax.random.key(0), jnp.zeros((1, T, D)), train=False)['params']
  exported = serving.export_model(Flat(), params, (T, D), 'float32')
  x = np.random.default_rng(0).normal(size=(5, T, D)).astype(np.float32)
  expected = Flat().apply({'params': params}, x, train=False)
  np.testing.assert_allclose(exported.call(x), expected, atol=1e-6)
  assert str(exported.in_avals[0].shape) == f'(b, {T}, {D})'


@pytest.mark.parametrize('name', sorted(MODELS.keys() - {'both directions'}))
def test_steps_are_the_whole(name):
  model, params, x, shape, _ = made(name)
  exported, widths = serving.export_step(model, params, shape[-1])
  call = jax.jit(exported.call)
  carry = [np.zeros((len(x), H), np.float32) for H in widths]
  # All beginnings at once: of each copy of x other steps are real.
  copies = np.concatenate([x] * T)
  mask = np.repeat(np.arange(T) <= np.arange(T)[:, None], len(x), 0)
  if getattr(model, 'mask_zero', False):
    mask &= copies != 0
  run = jax.jit(functools.partial(model.apply, train=False))
  whole = run({'params': params}, copies, mask=mask)
  for t, expected in enumerate(np.split(np.asarray(whole), T)):
    carry, y = call(carry, x[:, t])
    np.testing.assert_allclose(y, expected, atol=1e-6)


@pytest.mark.parametrize(
  ('model', 'message'),
  [
    (MODELS['both directions'][0], 'Bidirectional needs later steps'),
    (sj.SequenceRegressor(sj.GRU(3, go_backwards=True)), 'GRU needs later steps'),
    (sj.LSTM(3), 'no model that reads step by step: LSTM'),
  ],
)
def test_what_has_no_step_says_why(model, message):
  with pytest.raises(ValueError, match=message):
    serving.export_step(model, {}, D)
