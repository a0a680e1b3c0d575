"""The recurrent cells once more, slowly: NumPy float64, one row and one step at a time.

Written from the equations, with a matmul for each gate, so that it shares neither code
nor layout tricks with `seqjax.cells`. With `xp=jnp` the same loop can be differentiated
by JAX (in float64, under `jax.enable_x64`).
"""

import functools

import numpy as np

NUM_GATES = {'simple_rnn': 1, 'lstm': 4, 'gru': 3, 'gru_reset_before': 3}


ACTIVATIONS = {
  'tanh': lambda xp, x: xp.tanh(x),
  'relu': lambda xp, x: xp.maximum(x, 0),
  'sigmoid': lambda xp, x: 1 / (1 + xp.exp(-x)),
  'hard_sigmoid': lambda xp, x: xp.minimum(xp.maximum(x + 3, 0), 6) / 6,
  'linear': lambda xp, x: x,
}


def random_params(rng, kind, D, H, use_bias=True):
  """(kernel [D, G], recurrent_kernel [H, G], bias), scaled to keep states apart."""
  G = NUM_GATES[kind] * H
  bias = None
  if use_bias:
    bias = rng.normal(size=(2, G) if kind == 'gru' else (G,)).astype(np.float32)
  kernel = rng.normal(size=(D, G)) / np.sqrt(D)
  recurrent = rng.normal(size=(H, G)) / np.sqrt(H)
  return kernel.astype(np.float32), recurrent.astype(np.float32), bias


def run(
  kind,
  params,
  x,
  *,
  mask=None,
  x_mask=None,
  h_mask=None,
  carry=None,
  reset=None,
  go_backwards=False,
  zero_output_for_mask=False,
  activation='tanh',
  recurrent_activation='sigmoid',
  xp=np,
):
  """x [B, T, D] -> (h [B, H], c [B, H] (zeros but for the LSTM), ys [B, T, H]).

  `x_mask` [n, B, D] and `h_mask` [n, B, H] have a slice for each gate; `carry` is
  (h, c) before the first step; where `reset` [B, T] is set, the state is first zeroed.
  """
  kernel, recurrent, bias = (
    None if p is None else xp.asarray(p, np.float64) for p in params
  )
  B, T, _ = x.shape
  H, n = recurrent.shape[0], NUM_GATES[kind]
  act = functools.partial(ACTIVATIONS[activation], xp)
  gate = functools.partial(ACTIVATIONS[recurrent_activation], xp)
  last_h, last_c, ys = [], [], []
  for b in range(B):
    h, c = xp.zeros(H), xp.zeros(H)
    outputs = []
    if carry is not None:
      h, c = (xp.asarray(field[b], np.float64) for field in (carry[0], carry[-1]))
    times = range(T - 1, -1, -1) if go_backwards else range(T)
    for t in times:
      if reset is not None and reset[b, t]:
        h, c = xp.zeros(H), xp.zeros(H)
      if mask is not None and not mask[b, t]:
        outputs.append(0 * h if zero_output_for_mask else h)
        continue
      a, u = [], []  # input and recurrent part of each gate
      for g in range(n):
        columns = slice(g * H, (g + 1) * H)
        xg = xp.asarray(x[b, t], np.float64) * (1 if x_mask is None else x_mask[g, b])
        hg = h * (1 if h_mask is None else h_mask[g, b])
        a.append(xg @ kernel[:, columns])
        u.append(hg @ recurrent[:, columns])
        if bias is not None:
          a[g] = a[g] + (bias[0, columns] if kind == 'gru' else bias[columns])
          u[g] = u[g] + (bias[1, columns] if kind == 'gru' else 0)
      if kind == 'simple_rnn':
        h = act(a[0] + u[0])
      elif kind == 'lstm':
        i, f, o = (gate(a[g] + u[g]) for g in (0, 1, 3))
        c = f * c + i * act(a[2] + u[2])
        h = o * act(c)
      else:
        z, r = gate(a[0] + u[0]), gate(a[1] + u[1])
        if kind == 'gru':
          candidate = act(a[2] + r * u[2])
        else:
          hg = h * (1 if h_mask is None else h_mask[2, b])
          candidate = act(a[2] + (r * hg) @ recurrent[:, 2 * H :])
        h = z * h + (1 - z) * candidate
      outputs.append(h)
    last_h.append(h)
    last_c.append(c)
    ys.append(xp.stack(outputs))
  return xp.stack(last_h), xp.stack(last_c), xp.stack(ys)


def numeric_gradient(loss, arrays, step=1e-6):
  """d loss / d array for each of `arrays`, by central differences in float64."""
  arrays = [np.array(a, np.float64) for a in arrays]
  gradients = [np.zeros_like(a) for a in arrays]
  for a, gradient in zip(arrays, gradients, strict=True):
    for index in np.ndindex(a.shape):
      value = a[index]
      a[index] = value + step
      above = loss(*arrays)
      a[index] = value - step
      gradient[index] = (above - loss(*arrays)) / (2 * step)
      a[index] = value
  return gradients
