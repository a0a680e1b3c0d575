"""What tests of cells share: parameters, masks, and a loop over steps in NumPy."""

import functools

import jax
import numpy as np

B, T, D, H = 3, 6, 4, 5


def drawn(layer, x, seed=1):
  """Parameters, biases too, that differ in all places."""
  init = functools.partial(layer.init, train=False)
  shapes = jax.eval_shape(init, jax.random.key(0), x)
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda s: (0.4 * rng.standard_normal(s.shape)).astype(np.float32), shapes
  )


MASK = np.array([[1, 1, 0, 1, 1, 1], [0, 0, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0]], bool)
RESET = np.array([[0, 0, 1, 0, 1, 0], [0, 0, 0, 1, 0, 0], [1, 0, 0, 0, 0, 1]], bool)


def sigmoid(a):
  return 1 / (1 + np.exp(-a))


def steps(t_order, h, mask, reset, step):
  """A loop in float64 over steps, masked steps carrying the state: outputs in order."""
  ys = []
  for t in t_order:
    h = jax.tree.map(lambda a: np.where(reset[:, t, None], 0.0, a), h)  # noqa: B023
    new = step(t, h)
    h = jax.tree.map(lambda n, o: np.where(mask[:, t, None], n, o), new, h)  # noqa: B023
    ys.append(h[0])
  return np.stack(ys, 1), h
