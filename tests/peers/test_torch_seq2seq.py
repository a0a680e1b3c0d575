"""A step of the encoder-decoder against PyTorch, from the same weights."""

import jax
import numpy as np
import optax
import pytest

import seqjax as sj
from seqjax.cluster import mesh as mesh_lib
from seqjax.training import losses, steps
from seqjax.training.state import TrainState, init_state
from seqjax.types import NO_LABEL, Batch

pytestmark = pytest.mark.usefixtures('quick_programs')

torch = pytest.importorskip('torch')
F = torch.nn.functional

_B, _S, _T, _V, _E, _H, _RATE = 4, 7, 5, 11, 3, 6, 0.5
_OPTIONS = {'return_sequences': True, 'return_carry': True}


def _cell(p, x, carry):
  """A step of torch's own cell with our weights: an LSTM of (h, c), a GRU of (h,)."""
  kernels = p['kernel'], p['recurrent_kernel']
  if len(carry) == 2:  # gates in torch's order; of two biases the other is 0
    biases = p['bias'], torch.zeros_like(p['bias'])
    return torch.lstm_cell(x, carry, *(k.T for k in kernels), *biases)

  def ordered(weights):  # ours are z, r, n
    z, r, n = weights.chunk(3, -1)
    return torch.cat([r, z, n], -1)

  biases = map(ordered, p['bias'])
  return (torch.gru_cell(x, carry[0], *(ordered(k).T for k in kernels), *biases),)


def _layer(params, x, real, carry, *, backwards=False):
  """A loop over time, where steps that are not real pass by: (h [B, T, H], carry)."""
  outputs = [None] * x.shape[1]
  order = range(x.shape[1])
  for t in reversed(order) if backwards else order:
    new = _cell(params, x[:, t], carry)
    here = real[:, t, None]
    carry = tuple(torch.where(here, a, b) for a, b in zip(new, carry, strict=True))
    outputs[t] = carry[0]
  return torch.stack(outputs, 1), carry


def _theirs(p, states, kind, fed, smoothing, ids, labels, weight):
  """The loss, written from the papers."""
  source, target = ids[:, 0], ids[:, 1]
  real, x = source > 0, p['source_embedding']['embedding'][source]
  H = p['encoder']['forward_layer']['recurrent_kernel'].shape[0]
  zeros = (torch.zeros(len(ids), H),) * states
  forward, last = _layer(p['encoder']['forward_layer'], x, real, zeros)
  backward, first = _layer(
    p['encoder']['backward_layer'], x, real, zeros, backwards=True
  )
  memory = torch.cat([forward, backward], -1)
  bridge = p['bridge']['projection']
  made = torch.cat([*last, *first], -1) @ bridge['kernel'] + bridge['bias']
  carry = made.tanh().chunk(states, 1)
  keys = memory @ p['keys']['kernel']
  vector, logits = torch.zeros(len(ids), keys.shape[-1]), []
  for t in range(target.shape[1]):
    x = p['embedding']['embedding'][target[:, t]]
    x = torch.cat([x, vector], -1) if fed else x
    _, carry = _layer(p['decoder'], x[:, None], target[:, t, None] > 0, carry)
    h = carry[0]
    if kind == 'dot':
      scores = (keys @ h[..., None])[..., 0]
    else:
      query = h @ p['attend']['query']['kernel'] + p['attend']['query']['bias']
      scores = ((query[:, None] + keys).tanh() @ p['attend']['score']['kernel'])[..., 0]
    a = scores.masked_fill(~real, -torch.inf).softmax(-1)
    found = (a[..., None] * memory).sum(1)
    vector = torch.cat([h, found], -1) @ p['attend']['vector']['kernel']
    vector = vector + p['attend']['vector']['bias']
    logits.append(vector @ p['head']['kernel'] + p['head']['bias'])
  logits = torch.stack(logits, 1)
  counts = labels >= 0
  each = F.cross_entropy(
    logits.flatten(0, 1), labels.clamp(min=0).flatten(), reduction='none',
    label_smoothing=smoothing,
  ).reshape(labels.shape)  # fmt: skip
  mean = (each * counts).sum(1) / counts.sum(1)
  return (mean * weight).sum() / weight.sum()


@pytest.mark.parametrize(
  ('layer', 'kind', 'fed', 'smoothing'),
  [
    pytest.param(sj.LSTM, 'additive', False, 0.0, marks=pytest.mark.slow),
    pytest.param(sj.LSTM, 'dot', True, 0.1, marks=pytest.mark.slow),
    pytest.param(sj.GRU, 'additive', False, 0.1, marks=pytest.mark.slow),  # translate's
    (sj.GRU, 'dot', True, 0.0),
  ],
)
def test_a_step_is_torch_s(layer, kind, fed, smoothing):
  rng = np.random.default_rng(0)
  ids = rng.integers(1, 9, (_B, 2, _S)).astype(np.int32)
  ids[1, 0, 4:] = ids[2, 1, 3:] = ids[:, 1, _T:] = 0
  labels = np.where(ids[:, 1] > 0, rng.integers(0, _V, (_B, _S)), NO_LABEL)
  labels = labels.astype(np.int32)
  weight = (labels >= 0).sum(1).astype(np.float32)
  batch = Batch(ids, labels, weight / weight.mean())
  encoder = sj.Bidirectional(layer(4, **_OPTIONS))
  decoder = layer(_H, **_OPTIONS)
  model = sj.EncoderDecoder(
    9, _V, _E, encoder, decoder, attention=kind, input_feeding=fed
  )
  tx, mesh = optax.sgd(_RATE), mesh_lib.make_mesh(1, _B)
  state = jax.device_get(init_state(model, tx, jax.random.key(0), ids))
  params = jax.tree.map(lambda a: np.float32(2.5) * a, state.params)
  for name in ('source_embedding', 'embedding'):  # or some gradients are tiny
    params[name]['embedding'] *= 10
  before = state._replace(params=params)
  theirs = jax.tree.map(
    lambda a: torch.tensor(np.array(a), requires_grad=True), before.params
  )
  value = _theirs(
    theirs, 2 if layer is sj.LSTM else 1, kind, fed, smoothing,
    *map(torch.tensor, (ids.astype(int), labels.astype(int), batch.weight)),
  )  # fmt: skip
  value.backward()
  torch.optim.SGD(jax.tree.leaves(theirs), _RATE).step()
  loss = losses.smoothed(losses.softmax_xent, smoothing)
  step = steps.make_train_step(model, loss, {}, tx, mesh)
  state, sums = step(
    TrainState(*mesh_lib.replicate(before, mesh)),
    mesh_lib.put_batch(batch, mesh),
    jax.random.key(1),
  )
  np.testing.assert_allclose(sums['loss'] / sums['weight'], value.item(), rtol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      a, b.detach().numpy(), rtol=1e-5, atol=1e-5
    ),
    jax.device_get(state.params),
    theirs,
  )
  moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), state.params, before.params)
  assert min(jax.tree.leaves(moved)) > 5e-4
