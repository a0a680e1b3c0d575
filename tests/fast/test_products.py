"""Matmuls of the fast path with dropout masks, against NumPy in float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.fast import products

K, B = 3, 7


@pytest.mark.parametrize('may_be_cut', [True, False])
@pytest.mark.parametrize('num_masks', [0, 1, 3])
@pytest.mark.parametrize(('D', 'G'), [(4, 18), (6, 6), (9, 6)])
def test_product_and_its_gradients(D, G, num_masks, may_be_cut, monkeypatch):
  monkeypatch.setattr(products, 'may_be_cut', lambda: may_be_cut)
  rng = np.random.default_rng(0)
  x, d = rng.standard_normal((K, B, D)), rng.standard_normal((K, B, G))
  kernel = rng.standard_normal((D, G))
  shape = {0: (1, 1, 1), 1: (1, B, D), 3: (3, B, D)}[num_masks]
  masks = np.ones(shape) if num_masks == 0 else rng.integers(0, 2, shape) / 0.5
  mask = {0: None, 1: masks[0], 3: masks}[num_masks]

  gates = d.reshape(K, B, len(masks), -1)
  kernels = kernel.reshape(D, len(masks), -1)
  masked = x * masks[:, None]
  expected = np.einsum('nkbd,kbng->dng', masked, gates).reshape(D, G)
  expected_x = np.einsum(
    'kbng,dng,nbd->kbd', gates, kernels, np.broadcast_to(masks, (len(masks), B, D))
  )
  p = products.make_product(
    jnp.float32(kernel), None if mask is None else jnp.float32(mask)
  )
  x, d = jnp.float32(x), jnp.float32(d)
  expected_z = np.einsum('nkbd,dng->kbng', masked, kernels).reshape(K, B, G)
  z = products.product(p, x, d.dtype)
  np.testing.assert_allclose(z, expected_z, rtol=0, atol=1e-5 * np.abs(z).max())
  of_step = products.product(p, x[0], d.dtype)
  np.testing.assert_allclose(
    of_step.reshape(B, G), z[0], rtol=0, atol=1e-5 * np.abs(z).max()
  )
  sums = products.no_sums(p, d.dtype)
  for k in range(0, K, 2):  # chunks of two steps and of one
    sums = sums + products.product_to_kernel(p, x[k : k + 2], d[k : k + 2])
  actual = products.kernel_gradient(p, sums)
  np.testing.assert_allclose(
    actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max()
  )
  np.testing.assert_allclose(
    products.product_to_x(p, d),
    expected_x,
    rtol=0,
    atol=1e-5 * np.abs(expected_x).max(),
  )
