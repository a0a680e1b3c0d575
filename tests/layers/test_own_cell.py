"""The cell that docs/guides/own_cell.md shows, against its equations."""

import functools
import pathlib
import re

import flax.linen as nn
import jax
import numpy as np
from masked_loop import drawn

import seqjax as sj
from seqjax.interop import gates, linen

B, T, D, H = 2, 5, 3, 4
_ROOT = pathlib.Path(__file__).parent.parent.parent


def shown():
  """The names that the example makes."""
  text = (_ROOT / 'docs/guides/own_cell.md').read_text()
  (code,) = re.findall(r'```python\n(.*?)```', text, re.S)
  names = {}
  exec(compile(code, 'own_cell.md', 'exec'), names)
  return names


def loop(params, x, mask, reset):
  """h of all steps, in float64, a row and a step at a time."""
  W, U, b = (np.float64(params[k]) for k in ('kernel', 'recurrent_kernel', 'bias'))
  y = np.zeros((*x.shape[:2], H))
  for row in range(len(x)):
    h = np.zeros(H)
    for t in range(x.shape[1]):
      h = 0 * h if reset[row, t] else h
      if mask[row, t]:
        a = x[row, t] @ W + b
        f = 1 / (1 + np.exp(-(a[:H] + h @ U[:, :H])))
        h = (1 - f) * h + f * np.tanh(a[H:] + (f * h) @ U[:, H:])
      y[row, t] = h
  return y


def test_the_cell_of_the_guide_is_its_equations():
  names, rng = shown(), np.random.default_rng(0)
  x = rng.normal(size=(B, T, D)).astype(np.float32)
  mask, reset = rng.uniform(size=(B, T)) < 0.7, rng.uniform(size=(B, T)) < 0.3
  layer = sj.RNN(names['MGUCell'](H), return_sequences=True)
  variables = drawn(layer, x)
  params = variables['params']['cell']
  assert {k: v.shape for k, v in params.items()} == {
    'kernel': (D, 2 * H),
    'recurrent_kernel': (H, 2 * H),
    'bias': (2 * H,),
  }
  run = functools.partial(layer.apply, train=False, mask=mask, reset=reset)
  y = jax.jit(run)(variables, x)
  np.testing.assert_allclose(y, loop(params, x, mask, reset), rtol=1e-5, atol=1e-6)


def test_a_line_in_each_table_brings_weights_of_linen(monkeypatch):
  monkeypatch.setitem(gates.GATES, 'MGU', 2)
  monkeypatch.setitem(linen._CELLS, 'MGU', ('fn', {'if', 'in'}))
  x = np.zeros((B, T, D), np.float32)
  peer = nn.RNN(nn.MGUCell(H, reset_gate=False))
  theirs = jax.device_get(jax.jit(peer.init)(jax.random.key(0), x)['params'])
  ours = drawn(sj.RNN(shown()['MGUCell'](H)), x)['params']
  loaded = linen.load_into(ours, theirs)
  cell = theirs['cell']
  for name, parts in (('kernel', ('if', 'in')), ('recurrent_kernel', ('hf', 'hn'))):
    expected = np.concatenate([cell[part]['kernel'] for part in parts], 1)
    np.testing.assert_array_equal(loaded['cell'][name], expected)
  jax.tree.map(np.testing.assert_array_equal, linen.from_params(loaded, theirs), theirs)


def test_the_layer_of_the_guide_goes_both_ways():
  x = np.random.default_rng(0).normal(size=(B, T, D)).astype(np.float32)
  layer = shown()['layer']
  init = functools.partial(layer.init_with_output, train=False)
  y, _ = jax.jit(init)(jax.random.key(0), x)
  assert y.shape == (B, T, 64)
  assert np.isfinite(y).all()
