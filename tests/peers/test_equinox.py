"""The pure cells as a part of an equinox model, as the recipe front_ends has it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax import cells, fast

eqx = pytest.importorskip('equinox')

B, T, D, H = 2, 5, 3, 4


class Encoder(eqx.Module):
  cell: cells.LSTMParams
  head: eqx.nn.Linear

  def __init__(self, key):
    layer, x = sj.LSTM(H), jnp.zeros((1, 1, D))
    params = layer.init(key, x, train=False)['params']
    self.cell = cells.LSTMParams(**params)
    self.head = eqx.nn.Linear(H, 2, key=key)

  def __call__(self, x, mask=None):
    last, _ = fast.recur(cells.lstm(), self.cell, fast.Sequence(x, mask=mask))
    return jax.vmap(self.head)(last.h)


def test_an_equinox_model_of_a_pure_cell_is_the_linen_layer():
  model, x = Encoder(jax.random.key(0)), jax.random.normal(jax.random.key(1), (B, T, D))
  mask = jnp.arange(T)[None] < jnp.asarray([[3], [5]])

  @eqx.filter_jit
  @eqx.filter_value_and_grad
  def loss(model):
    return jnp.sum(model(x, mask) ** 2)

  def expected(params):
    h = sj.LSTM(H).apply({'params': params}, x, train=False, mask=mask)
    return jnp.sum(jax.vmap(model.head)(h) ** 2)

  value, gradients = loss(model)
  wanted, dparams = jax.jit(jax.value_and_grad(expected))(model.cell._asdict())
  np.testing.assert_allclose(value, wanted, rtol=1e-6)
  for name, gradient in dparams.items():
    np.testing.assert_allclose(getattr(gradients.cell, name), gradient, atol=1e-5)
