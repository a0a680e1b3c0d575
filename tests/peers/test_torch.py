"""Outputs and all gradients of random torch.nn RNN, LSTM and GRU, where torch has it.

torch knows no mask but lengths, no reset gate before the matmul, no recurrent dropout
and no other activation of an LSTM or GRU. Its gates are in another order, its z is the
same, and it has two biases where only a GRU needs them. `parity` has the rule.
"""

import dataclasses
import functools
import itertools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest
from hypothesis import strategies as st

import seqjax as sj

pytestmark = pytest.mark.usefixtures('quick_programs')

torch = pytest.importorskip('torch')

# Where torch has our gates: LSTM i, f, g, o is ours i, f, c, o; GRU r, z, n is z, r, h.
ORDERS = {'RNN': (0,), 'LSTM': (0, 1, 2, 3), 'GRU': (1, 0, 2)}
LAYERS = {'RNN': sj.SimpleRNN, 'LSTM': sj.LSTM, 'GRU': sj.GRU}
SEEDS, EACH = range(3), 40  # 100 and more configurations


@dataclasses.dataclass(frozen=True)
class Config:
  B: int = 2
  T: int = 3
  D: int = 4
  H: int = 5
  kind: str = 'LSTM'
  nonlinearity: str = 'tanh'  # of RNN alone
  layers: int = 1
  bidirectional: bool = False
  use_bias: bool = True
  lengths: bool = False  # a packed sequence there, a mask here
  return_sequences: bool = True
  return_carry: bool = True
  initial_carry: bool = True
  implementation: str = 'auto'
  seed: int = 0

  @property
  def directions(self):
    return ('', '_reverse') if self.bidirectional else ('',)


VALUES = {
  'B': (1, 2, 3),
  'T': (1, 2, 5, 7),
  'D': (1, 2, 4),
  'H': (1, 3, 5),
  'kind': tuple(LAYERS),
  'nonlinearity': ('tanh', 'relu'),
  'layers': (1, 2, 3),
  'bidirectional': (False, True),
  'use_bias': (True, False),
  'lengths': (False, True),
  'return_sequences': (True, False),
  'return_carry': (True, False),
  'initial_carry': (True, False),
  'implementation': ('auto', 'reference'),
}


def configs():
  return st.builds(
    Config,
    seed=st.integers(0, 2**16),
    **{name: st.sampled_from(values) for name, values in VALUES.items()},
  )


def random_problem(config):
  """(weights of each layer and direction in torch's layout, x, initial states)."""
  rng = np.random.default_rng(config.seed)
  B, D, H, width = config.B, config.D, config.H, len(config.directions)
  G = len(ORDERS[config.kind]) * H
  # Like a fresh layer's. Of one saturated unit, 1 - y^2 is the rounding of y.
  weights = []
  for layer in range(config.layers):
    inputs = D if layer == 0 else width * H
    shapes = [(G, inputs), (G, H), *[(G,)] * (2 * config.use_bias)]
    for _ in range(width):
      weights.append([rng.uniform(-0.7, 0.7, s) / np.sqrt(H) for s in shapes])
  x = rng.normal(size=(B, config.T, D))
  states = None
  if config.initial_carry:
    fields = 2 if config.kind == 'LSTM' else 1
    states = [rng.normal(size=(config.layers * width, B, H)) for _ in range(fields)]
  return jax.tree.map(np.float32, (weights, x, states))


def random_lengths(config):
  rng = np.random.default_rng(config.seed + 2)
  return rng.integers(1, config.T + 1, config.B) if config.lengths else None


def loss_factors(config, outputs):
  rng = np.random.default_rng(config.seed + 1)
  return [rng.normal(size=tuple(o.shape)) for o in outputs]


def chained(groups):
  return list(itertools.chain(*groups))


def to_ours(kind, w_ih, w_hh, b_ih=None, b_hh=None, xp=np):
  """torch's [G, D], [G, H], [G], [G] in our layout."""

  def gates(a):
    blocks = xp.split(a, len(ORDERS[kind]), axis=-1)
    return xp.concatenate([blocks[i] for i in ORDERS[kind]], axis=-1)

  params = {'kernel': gates(w_ih.T), 'recurrent_kernel': gates(w_hh.T)}
  if b_ih is not None:
    apart = kind == 'GRU'
    params['bias'] = xp.stack([gates(b_ih), gates(b_hh)]) if apart else b_ih + b_hh
  return params


def make_theirs(config, dtype):
  kind, dtype = config.kind, getattr(torch, dtype)
  options = {'nonlinearity': config.nonlinearity} if kind == 'RNN' else {}
  module = getattr(torch.nn, kind)(
    config.D, config.H, num_layers=config.layers, bias=config.use_bias,
    bidirectional=config.bidirectional, batch_first=True, dtype=dtype, **options,
  )  # fmt: skip
  lengths = random_lengths(config)

  def run(arguments):
    weights, x, states = arguments
    layers = itertools.product(range(config.layers), config.directions)
    groups = [
      [getattr(module, f'{w}_l{k}{d}') for w in ('weight_ih', 'weight_hh', *biases)]
      for k, d in layers
      for biases in [('bias_ih', 'bias_hh') if config.use_bias else ()]
    ]
    with torch.no_grad():
      for parameter, value in zip(chained(groups), chained(weights), strict=True):
        parameter.copy_(torch.tensor(value))
    module.zero_grad()
    leaves = [torch.tensor(a, dtype=dtype) for a in (x, *(states or ()))]
    for leaf in leaves:
      leaf.requires_grad = True
    x, *hx = leaves
    hx = (tuple(hx) if kind == 'LSTM' else hx[0]) if hx else None
    if lengths is None:
      ys, last = module(x, hx)
    else:
      rnn = torch.nn.utils.rnn
      packed = rnn.pack_padded_sequence(x, torch.tensor(lengths), True, False)
      ys, last = module(packed, hx)
      ys, _ = rnn.pad_packed_sequence(ys, True, total_length=config.T)
    last = last if kind == 'LSTM' else (last,)
    y = ys
    if not config.return_sequences:
      y = torch.cat(list(last[0][-len(config.directions) :]), -1)
    outputs = [y, *(last if config.return_carry else ())]
    factors = loss_factors(config, outputs)
    sum(
      (torch.tensor(f, dtype=dtype) * o).sum()
      for f, o in zip(factors, outputs, strict=True)
    ).backward()
    grads = [[p.grad for p in group] for group in groups]
    return [
      a.detach().numpy()
      for a in (*outputs, *chained(grads), *(leaf.grad for leaf in leaves))
    ]

  return run


def make_ours(config, dtype):
  kind, lengths = config.kind, random_lengths(config)
  options = {'activation': config.nonlinearity} if kind == 'RNN' else {}

  def make_layer(index):
    top = index == config.layers - 1
    layer = LAYERS[kind](
      config.H, use_bias=config.use_bias, return_carry=True,
      return_sequences=config.return_sequences or not top, zero_output_for_mask=True,
      implementation=config.implementation, **options,
    )  # fmt: skip
    return sj.Bidirectional(layer) if config.bidirectional else layer

  stack = sj.Stack([make_layer(index) for index in range(config.layers)])
  mask = None if lengths is None else np.arange(config.T) < lengths[:, None]
  width = len(config.directions)

  def by_layer(items):
    """A list for layers and directions as one for layers, of pairs where there are."""
    items = list(items)
    return list(zip(*[iter(items)] * width, strict=True)) if width == 2 else items

  def loss(weights, x, states):
    params = by_layer(to_ours(kind, *group, xp=jnp) for group in weights)
    if width == 2:
      params = [{'forward_layer': f, 'backward_layer': b} for f, b in params]
    params = {f'layers_{k}': p for k, p in enumerate(params)}
    carry = None if states is None else by_layer(zip(*states, strict=True))
    carries, y = stack.apply(
      {'params': params}, x, train=False, mask=mask, initial_carry=carry
    )
    flat = itertools.chain(*carries) if width == 2 else carries
    last = [jnp.stack(field) for field in zip(*flat, strict=True)]
    outputs = [y, *(last if config.return_carry else ())]
    factors = [jnp.asarray(f, dtype) for f in loss_factors(config, outputs)]
    return sum(jnp.sum(f * o) for f, o in zip(factors, outputs, strict=True)), outputs

  both = jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)
  both = jax.jit(both, compiler_options=parity.QUICK)

  def run(arguments):
    (_, outputs), grads = both(
      *jax.tree.map(lambda a: jnp.asarray(a, dtype), arguments)
    )
    return [np.asarray(a) for a in jax.tree.leaves((outputs, grads))]

  return run


def check(config, *, in_float64=False):
  ours, theirs = (functools.partial(make, config) for make in (make_ours, make_theirs))
  return parity.check(ours, theirs, random_problem(config), in_float64=in_float64)


@pytest.mark.parametrize('kind', LAYERS)
def test_one_layer_equals_torch(kind):
  check(Config(kind=kind))


@pytest.mark.slow
@pytest.mark.parametrize('kind', LAYERS)
def test_a_post_padding_mask_equals_packed_sequences(kind):
  """What torch has instead of masks, in both directions of two layers."""
  for sequences in (True, False):
    config = Config(
      B=3, T=6, kind=kind, layers=2, bidirectional=True, lengths=True,
      return_sequences=sequences, seed=1,
    )  # fmt: skip
    assert len(set(random_lengths(config))) > 1
    check(config, in_float64=True)


@pytest.mark.slow
@pytest.mark.parametrize('seed', SEEDS)
def test_100_random_stacks_equal_those_of_torch(seed):
  parity.check_all(configs(), seed, EACH, check)


def test_the_100_are_stacks_of_every_kind():
  found = []
  for seed in SEEDS:
    parity.for_all(configs(), seed, EACH, found.append)
  assert len(set(found)) >= 100
  for name, values in VALUES.items():
    counts = Counter(getattr(c, name) for c in found)
    assert counts.keys() == set(values)
    assert min(counts.values()) >= 10, counts
