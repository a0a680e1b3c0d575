"""Outputs and all gradients against torch.nn.RNN, LSTM and GRU, where torch has it.

torch knows no mask, no reset gate before the matmul, no recurrent dropout and no other
activation of an LSTM or GRU. Its gates are in another order, its z is the same, and it
has two biases where only a GRU needs them. Tolerance as in test_keras_parity.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj

torch = pytest.importorskip('torch')

# Where torch has our gates: LSTM i, f, g, o is ours i, f, c, o; GRU r, z, n is z, r, h.
ORDERS = {'RNN': (0,), 'LSTM': (0, 1, 2, 3), 'GRU': (1, 0, 2)}
LAYERS = {'RNN': sj.SimpleRNN, 'LSTM': sj.LSTM, 'GRU': sj.GRU}


def to_ours(kind, w_ih, w_hh, b_ih, b_hh):
  """torch's [G, D], [G, H], [G], [G] in our layout, as numpy."""

  def gates(a):
    blocks = np.split(a, len(ORDERS[kind]), axis=-1)
    return np.concatenate([blocks[i] for i in ORDERS[kind]], axis=-1)

  kernel, recurrent = gates(w_ih.T), gates(w_hh.T)
  apart = kind == 'GRU'
  bias = np.stack([gates(b_ih), gates(b_hh)]) if apart else gates(b_ih + b_hh)
  return {'kernel': kernel, 'recurrent_kernel': recurrent, 'bias': bias}


def grad_to_ours(kind, w_ih, w_hh, b_ih, b_hh):
  """Gradients of the same; the gradient of a sum is that of each of its terms."""
  grads = to_ours(kind, w_ih, w_hh, b_ih, b_hh)
  if kind != 'GRU':
    np.testing.assert_allclose(b_ih, b_hh, rtol=1e-5, atol=1e-6)
    grads['bias'] = to_ours(kind, w_ih, w_hh, b_ih, 0 * b_hh)['bias']
  return grads


def assert_close(got, want):
  """No element further off than 1e-5 of the largest."""
  np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())


def pairs(groups):
  """Parameters of Bidirectional layers, from those of single ones in torch's order."""
  return [
    {'forward_layer': f, 'backward_layer': b}
    for f, b in zip(groups[::2], groups[1::2], strict=True)
  ]


def compare(kind, sizes, layers, bidirectional, nonlinearity='tanh'):
  B, T, D, H = sizes
  rng = np.random.default_rng(0)
  options = {'nonlinearity': nonlinearity} if kind == 'RNN' else {}
  theirs = getattr(torch.nn, kind)(
    D, H, num_layers=layers, bidirectional=bidirectional, batch_first=True, **options
  )
  directions = ('', '_reverse') if bidirectional else ('',)
  names = [
    [f'{w}_l{k}{d}' for w in ('weight_ih', 'weight_hh', 'bias_ih', 'bias_hh')]
    for k, d in itertools.product(range(layers), directions)
  ]
  with torch.no_grad():
    for name in itertools.chain(*names):
      weight = getattr(theirs, name)
      weight.copy_(torch.tensor(rng.normal(size=weight.shape) / np.sqrt(H)))
  x = rng.normal(size=(B, T, D)).astype(np.float32)
  w = rng.normal(size=(B, T, H * len(directions))).astype(np.float32)
  x_torch = torch.tensor(x, requires_grad=True)
  y_torch, last_torch = theirs(x_torch)
  (torch.tensor(w) * y_torch).sum().backward()

  groups = [[getattr(theirs, n) for n in group] for group in names]
  params = [to_ours(kind, *(p.detach().numpy() for p in g)) for g in groups]
  want = [grad_to_ours(kind, *(p.grad.numpy() for p in g)) for g in groups]
  act = {'activation': nonlinearity} if kind == 'RNN' else {}

  def make_layer():
    layer = LAYERS[kind](H, return_sequences=True, return_carry=True, **act)
    return sj.Bidirectional(layer) if bidirectional else layer

  if bidirectional:
    params, want = pairs(params), pairs(want)
  stack = sj.Stack([make_layer() for _ in range(layers)])
  tree = {f'layers_{k}': p for k, p in enumerate(params)}

  @jax.jit
  def run(params, x):
    def loss(params, x):
      carries, y = stack.apply({'params': params}, x, train=False)
      return jnp.sum(w * y), (carries, y)

    return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, x)

  (_, (carries, y)), (grads, grad_x) = run(tree, x)
  assert_close(y, y_torch.detach().numpy())
  assert_close(grad_x, x_torch.grad.numpy())
  for k, expected in enumerate(want):
    jax.tree.map(assert_close, grads[f'layers_{k}'], expected)
  # torch's last states are [layers * directions, B, H], of the LSTM a pair of them.
  fields = last_torch if kind == 'LSTM' else (last_torch,)
  ours = carries if not bidirectional else list(itertools.chain(*carries))
  for field, states in zip(fields, zip(*ours, strict=True), strict=True):
    assert_close(np.stack(states), field.detach().numpy())


@pytest.mark.parametrize('kind', LAYERS)
def test_one_layer_equals_torch(kind):
  compare(kind, (2, 3, 4, 5), layers=1, bidirectional=False)


@pytest.mark.slow
@pytest.mark.parametrize('bidirectional', [False, True])
@pytest.mark.parametrize('layers', [1, 3])
@pytest.mark.parametrize('sizes', [(2, 7, 3, 5), (3, 1, 4, 2), (1, 12, 2, 6)])
@pytest.mark.parametrize('kind', LAYERS)
def test_stacks_and_both_directions_equal_torch(kind, sizes, layers, bidirectional):
  compare(kind, sizes, layers, bidirectional)


@pytest.mark.slow
def test_relu_rnn_equals_torch():
  compare('RNN', (2, 5, 3, 4), layers=2, bidirectional=True, nonlinearity='relu')


@pytest.mark.slow
@pytest.mark.parametrize('kind', LAYERS)
def test_a_post_padding_mask_equals_packed_sequences(kind):
  """What torch has instead of masks: the last state of each length is the same."""
  B, T, D, H = 3, 6, 2, 4
  rng = np.random.default_rng(1)
  theirs = getattr(torch.nn, kind)(D, H, batch_first=True)
  weights = [p.detach().numpy() for p in theirs.parameters()]
  x = rng.normal(size=(B, T, D)).astype(np.float32)
  lengths = np.array([6, 1, 4])
  packed = torch.nn.utils.rnn.pack_padded_sequence(
    torch.tensor(x), torch.tensor(lengths), batch_first=True, enforce_sorted=False
  )
  with torch.no_grad():
    ys, last = theirs(packed)
    ys, _ = torch.nn.utils.rnn.pad_packed_sequence(ys, batch_first=True)
  h = last[0] if kind == 'LSTM' else last
  layer = LAYERS[kind](H, return_sequences=True, zero_output_for_mask=True)
  mask = np.arange(T) < lengths[:, None]
  variables = {'params': to_ours(kind, *weights)}
  y = layer.apply(variables, x, train=False, mask=mask)
  assert_close(y, ys.numpy())
  last_y = layer.clone(return_sequences=False).apply(
    variables, x, train=False, mask=mask
  )
  assert_close(last_y, h[0].numpy())
