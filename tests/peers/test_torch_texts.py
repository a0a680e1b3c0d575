"""A step of training of tagger, comparer and language model against PyTorch's.

From the same weights, on the same batch with padding, by SGD: after the step all
parameters are equal to 1e-5. The step is the one that runs take.
"""

import jax
import numpy as np
import optax
import pytest

import seqjax as sj
from seqjax.cluster import mesh as mesh_lib
from seqjax.data.batches import Streams
from seqjax.training import losses, steps
from seqjax.training.state import TrainState, init_state
from seqjax.types import Batch

torch = pytest.importorskip('torch')
F = torch.nn.functional

V, E, H, B, T, C = 13, 4, 5, 6, 7, 3
RATE = 0.5


def _lengths(rows=B):
  return np.random.default_rng(1).integers(1, T + 1, rows)


def _tensor(a):
  return torch.tensor(np.asarray(a))


class _Peer(torch.nn.Module):
  """Embedding, LSTM and linear layers with the weights of a model's parameters."""

  def __init__(self, params, *, both):
    super().__init__()
    self.embedding = torch.nn.Embedding.from_pretrained(
      _tensor(params['embedding']['embedding']), freeze=False
    )
    self.lstm = torch.nn.LSTM(E, H, batch_first=True, bidirectional=both)
    encoder = params['encoder']
    encoder = encoder.get('layers_0', encoder)
    found = [('', encoder.get('forward_layer', encoder))]
    if both:
      found.append(('_reverse', encoder['backward_layer']))
    with torch.no_grad():
      for suffix, layer in found:
        for name, key in (('ih', 'kernel'), ('hh', 'recurrent_kernel')):
          weight = getattr(self.lstm, f'weight_{name}_l0{suffix}')
          weight.copy_(_tensor(layer[key]).T)
        getattr(self.lstm, f'bias_ih_l0{suffix}').copy_(_tensor(layer['bias']))
        getattr(self.lstm, f'bias_hh_l0{suffix}').zero_()
    self.dense = torch.nn.ModuleDict()
    for name in ('head', 'comparison'):
      if name in params:
        kernel = _tensor(params[name]['kernel'])
        self.dense[name] = torch.nn.Linear(*kernel.shape)
        with torch.no_grad():
          self.dense[name].weight.copy_(kernel.T)
          self.dense[name].bias.copy_(_tensor(params[name]['bias']))

  def states(self, ids, lengths, fill=0.0):
    """h of all steps, `fill` where there is none, of packed sequences."""
    packed = torch.nn.utils.rnn.pack_padded_sequence(
      self.embedding(ids), lengths, batch_first=True, enforce_sorted=False
    )
    h, _ = self.lstm(packed)
    return torch.nn.utils.rnn.pad_packed_sequence(
      h, batch_first=True, total_length=T, padding_value=fill
    )[0]

  def as_params(self, params):
    """Its weights in the form of ours; of two biases the one that began as ours."""
    found = jax.tree.map(np.asarray, params)  # a tree of its own
    found['embedding']['embedding'] = self.embedding.weight
    encoder = found['encoder'].get('layers_0', found['encoder'])
    layers = [('', encoder.get('forward_layer', encoder))]
    if 'backward_layer' in encoder:
      layers.append(('_reverse', encoder['backward_layer']))
    for suffix, layer in layers:
      layer['kernel'] = getattr(self.lstm, f'weight_ih_l0{suffix}').T
      layer['recurrent_kernel'] = getattr(self.lstm, f'weight_hh_l0{suffix}').T
      layer['bias'] = getattr(self.lstm, f'bias_ih_l0{suffix}')
    for name, layer in self.dense.items():
      found[name] = {'kernel': layer.weight.T, 'bias': layer.bias}
    return jax.tree.map(
      lambda a: a.detach().numpy() if torch.is_tensor(a) else a, found
    )


def _both_steps(model, loss, batch, their_loss, *, both):
  """A step of ours and of torch's, and the parameters before it."""
  tx = optax.sgd(RATE)
  mesh = mesh_lib.make_mesh(1, len(batch.x))
  carries = batch.reset is not None
  drawn = init_state(model, tx, jax.random.key(0), batch.x, carries=carries)
  before = jax.device_get(drawn)
  params = jax.tree.map(lambda a: np.float32(2) * a, before.params)
  params['embedding']['embedding'] *= 10  # or gradients are as small as the tolerance
  before = before._replace(params=params)
  if carries:  # as if there had been a step before
    rng = np.random.default_rng(2)
    carry = jax.tree.map(lambda a: rng.normal(size=a.shape).astype('f'), before.carry)
    before = before._replace(carry=carry)
  peer = _Peer(before.params, both=both)
  value = their_loss(peer, before.carry)
  value.backward()
  torch.optim.SGD(peer.parameters(), RATE).step()
  step = steps.make_train_step(model, loss, {}, tx, mesh)
  state, sums = step(
    TrainState(*mesh_lib.replicate(before, mesh)),
    mesh_lib.put_batch(batch, mesh),
    jax.random.key(1),
  )
  mean = sums['loss'] / sums['weight']
  np.testing.assert_allclose(mean, value.item(), rtol=1e-5)
  ours, theirs = jax.device_get(state.params), peer.as_params(before.params)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), ours, theirs
  )
  moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), ours, before.params)
  assert min(jax.tree.leaves(moved)) > 5e-4
  return state


def test_a_step_of_the_tagger_is_torch_s():
  rng, lengths = np.random.default_rng(0), _lengths()
  real = np.arange(T) < lengths[:, None]
  x = np.where(real, rng.integers(1, V, (B, T)), 0).astype(np.int32)
  y = np.where(real, rng.integers(0, C, (B, T)), -1).astype(np.int32)
  # As experiments.tagging weighs: the loss is the mean over all words.
  batch = Batch(x, y, (lengths / lengths.mean()).astype(np.float32), real)
  encoder = sj.Bidirectional(sj.LSTM(H, return_sequences=True))
  model = sj.SequenceTagger(V, E, encoder, num_tags=C)

  def their_loss(peer, _):
    logits = peer.dense['head'](peer.states(_tensor(x).long(), lengths))
    return F.cross_entropy(
      logits.flatten(0, 1), _tensor(y).long().flatten(), ignore_index=-1
    )

  _both_steps(model, losses.softmax_xent, batch, their_loss, both=True)


def test_a_step_of_the_comparer_is_torch_s():
  rng, lengths = np.random.default_rng(0), _lengths(2 * B).reshape(B, 2)
  x = rng.integers(1, V, (B, 2, T)).astype(np.int32)
  x = np.where(np.arange(T) < lengths[..., None], x, 0)
  y = rng.uniform(size=B).astype(np.float32)
  batch = Batch(x, y, np.ones(B, np.float32))
  layer = sj.Bidirectional(sj.LSTM(H, return_sequences=True))
  encoder = sj.Stack([layer, sj.GlobalMaxPooling1D()])
  model = sj.SequenceComparer(V, E, encoder, mask_zero=True, features=4)

  def their_loss(peer, _):
    a, b = (
      peer.states(_tensor(x[:, k]).long(), lengths[:, k], -torch.inf).amax(1)
      for k in (0, 1)
    )
    both = torch.cat([(a - b).abs(), a * b], -1)
    found = peer.dense['head'](torch.sigmoid(peer.dense['comparison'](both)))[:, 0]
    return F.mse_loss(found, _tensor(y))

  _both_steps(model, losses.squared_error, batch, their_loss, both=True)


@pytest.mark.parametrize('step', [0, 2])
def test_a_step_of_the_language_model_is_torch_s(step):
  ids = np.random.default_rng(0).integers(0, V, 6 * 16 + 1)
  batch = Streams(ids, B, T).batch(step)  # the last one, 2, is not full
  encoder = sj.LSTM(H, return_sequences=True, return_carry=True)
  model = sj.LanguageModel(V, E, encoder, return_carry=True)
  left = {}

  def their_loss(peer, carry):
    begins = batch.reset[:, 0].all()
    state = tuple(_tensor(a)[None] * (not begins) for a in carry)
    n = batch.mask[0].sum()
    h, left['state'] = peer.lstm(peer.embedding(_tensor(batch.x[:, :n]).long()), state)
    logits = peer.dense['head'](h)
    return F.cross_entropy(
      logits.flatten(0, 1), _tensor(batch.y[:, :n]).long().flatten()
    )

  assert batch.reset[:, 0].all() == (step == 0)
  state = _both_steps(model, losses.softmax_xent, batch, their_loss, both=False)
  for ours, theirs in zip(state.carry, left['state'], strict=True):
    np.testing.assert_allclose(ours, theirs[0].detach(), rtol=1e-5, atol=1e-6)
