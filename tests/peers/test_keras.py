"""Outputs and all gradients of random layers against Keras 3 on its JAX backend.

`parity` has the rule. Both sides are jitted, and neither knows the other's code.
"""

import dataclasses
import functools
from collections import Counter

import jax
import jax.numpy as jnp
import keras
import numpy as np
import numpy_rnn
import parity
import pytest
from hypothesis import strategies as st

import seqjax as sj

pytestmark = pytest.mark.usefixtures('quick_programs')

SEEDS, EACH = range(6), 55  # more than 300 configurations, in parts side by side
MASKS = ('none', 'pre', 'post', 'scattered', 'all_false_row')
DIRECTIONS = ('forward', 'backward', 'concat', 'sum', 'mul', 'ave', 'none')
LAYERS = {
  'simple_rnn': (sj.SimpleRNN, keras.layers.SimpleRNN),
  'lstm': (sj.LSTM, keras.layers.LSTM),
  'gru': (sj.GRU, keras.layers.GRU),
  'gru_reset_before': (
    functools.partial(sj.GRU, reset_after=False),
    functools.partial(keras.layers.GRU, reset_after=False),
  ),
}


@dataclasses.dataclass(frozen=True)
class Config:
  B: int = 2
  T: int = 3
  D: int = 4
  H: int = 5
  kinds: tuple[str, ...] = ('lstm',)  # a stack, from the bottom up
  activation: str = 'tanh'
  recurrent_activation: str = 'sigmoid'
  use_bias: bool = True
  mask: str = 'none'
  direction: str = 'forward'  # 'backward', or a merge mode of Bidirectional
  return_sequences: bool = False
  return_carry: bool = False
  zero_output_for_mask: bool = False
  initial_carry: bool = False
  implementation: str = 'auto'
  seed: int = 0

  @property
  def bidirectional(self):
    return self.direction not in ('forward', 'backward')


VALUES = {
  'B': (1, 2, 3),
  'T': (1, 2, 3, 5, 7),
  'D': (1, 2, 4),
  'H': (1, 3, 5),
  'activation': tuple(numpy_rnn.ACTIVATIONS),
  'recurrent_activation': ('sigmoid', 'hard_sigmoid'),
  'use_bias': (True, False),
  'mask': MASKS,
  'direction': DIRECTIONS,
  'return_sequences': (True, False),
  'return_carry': (True, False),
  'zero_output_for_mask': (True, False),
  'initial_carry': (True, False),
  'implementation': ('auto', 'reference'),
}


def configs():
  names = st.sampled_from(list(LAYERS))
  return st.builds(
    Config,
    kinds=st.lists(names, min_size=1, max_size=3).map(tuple),
    seed=st.integers(0, 2**16),
    **{name: st.sampled_from(values) for name, values in VALUES.items()},
  )


def make_mask(kind, rng, B, T):
  if kind == 'none':
    return None
  lengths = rng.integers(1, T + 1, (B, 1))
  if kind == 'pre':
    return np.arange(T) >= T - lengths
  if kind == 'post':
    return np.arange(T) < lengths
  mask = rng.uniform(size=(B, T)) < 0.6
  if kind == 'all_false_row':
    mask[rng.integers(B)] = False
  return mask


def layers_of(config, dtype):
  """A seqjax layer and a Keras layer for each of the stack."""
  for index, kind in enumerate(config.kinds):
    top = index == len(config.kinds) - 1
    ours, theirs = LAYERS[kind]
    # Keras's Bidirectional does not leave this to its layers (see docs/semantics.md).
    zeros = config.zero_output_for_mask
    if config.bidirectional:
      zeros = config.return_sequences or not top
    common = {
      'activation': config.activation,
      'use_bias': config.use_bias,
      'return_sequences': config.return_sequences or not top,
      'zero_output_for_mask': zeros,
      'go_backwards': config.direction == 'backward',
    }
    if kind != 'simple_rnn':
      common['recurrent_activation'] = config.recurrent_activation
    H = config.H
    layer = ours(H, return_carry=True, implementation=config.implementation, **common)
    # Zeros: the weights come later, and Keras's own draws would cost time.
    if dtype == 'float64' and config.activation == 'tanh':
      common['activation'] = wide_tanh
    peer = theirs(
      H, return_state=True, recurrent_initializer='zeros',
      kernel_initializer='zeros', dtype=dtype, **common,
    )  # fmt: skip
    if config.bidirectional:
      merge = None if config.direction == 'none' else config.direction
      if not top and merge is None:
        merge = 'concat'
      layer = sj.Bidirectional(layer, merge_mode=merge)
      peer = keras.layers.Bidirectional(peer, merge_mode=merge, dtype=dtype)
    yield layer, peer


@keras.saving.register_keras_serializable()
def wide_tanh(x):
  """Keras's own tanh makes a float32 of a float64."""
  return jnp.tanh(x)


def random_problem(config):
  """(x, mask, initial carry, weights of all layers as lists of groups)."""
  B, T, D, H = config.B, config.T, config.D, config.H
  rng = np.random.default_rng(config.seed)
  x = rng.normal(size=(B, T, D)).astype(np.float32)
  weights, width = [], D
  for kind in config.kinds:
    groups = [
      [
        a
        for a in numpy_rnn.random_params(rng, kind, width, H, config.use_bias)
        if a is not None
      ]
      for _ in range(2 if config.bidirectional else 1)
    ]
    weights.append(groups)
    concat = config.direction in ('concat', 'none')
    width = 2 * H if concat else H
  carry = None
  if config.initial_carry:
    fields = 2 if config.kinds[0] == 'lstm' else 1
    count = fields * (2 if config.bidirectional else 1)
    carry = [rng.normal(size=(B, H)).astype(np.float32) for _ in range(count)]
  return x, make_mask(config.mask, rng, B, T), carry, weights


def run_ours(config, layers, mask, weights, x, carry):
  for layer, groups in zip(layers, weights, strict=True):
    names = ('kernel', 'recurrent_kernel', 'bias')
    params = [dict(zip(names, group, strict=False)) for group in groups]
    if config.bidirectional:
      params = [{'forward_layer': params[0], 'backward_layer': params[1]}]
      if carry is not None:
        carry = carry[: len(carry) // 2], carry[len(carry) // 2 :]
    last, y = layer.apply(
      {'params': params[0]}, x, train=False, mask=mask, initial_carry=carry
    )
    mask = layer.compute_mask(x, None if mask is None else jnp.asarray(mask))
    x, carry = y, None
  return jax.tree.leaves(y), jax.tree.leaves(last)


def run_keras(config, layers, mask, weights, x, carry):
  for layer, groups in zip(layers, weights, strict=True):
    kwargs = {} if carry is None else {'initial_state': carry}
    if not layer.built:
      layer.build(x.shape)
    state = [v.value for v in layer.non_trainable_variables]
    outputs, _ = layer.stateless_call(
      [a for group in groups for a in group], state, x, mask=mask, **kwargs
    )
    y, *last = jax.tree.leaves(outputs)
    if config.bidirectional and layer.merge_mode is None:
      y, last = [y, last[0]], last[1:]
    elif (
      mask is not None
      and not config.bidirectional
      and layer.zero_output_for_mask
      and not layer.return_sequences
    ):
      y = last[0]  # h of the last real step; Keras's y is 0 where the last is masked
    if mask is not None and config.direction == 'backward':
      mask = mask[:, ::-1]  # Keras itself would leave it as it was
    x, carry = y, None
  return jax.tree.leaves(y), last


def make_run(run, config, dtype):
  """`run_ours` or `run_keras`: (weights, x, carry) -> outputs and gradients."""
  _, mask, _, _ = random_problem(config)
  ours, theirs = zip(*layers_of(config, dtype), strict=True)
  layers = ours if run is run_ours else theirs

  def loss(weights, x, carry):
    y, last = run(config, layers, mask, weights, x, carry)
    outputs = y + (last if config.return_carry else [])
    rng = np.random.default_rng(config.seed + 1)
    factors = [rng.normal(size=o.shape).astype(dtype) for o in outputs]
    return sum(jnp.sum(f * o) for f, o in zip(factors, outputs, strict=True)), outputs

  both = jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)
  both = jax.jit(both, compiler_options=parity.QUICK)

  def run_both(arguments):
    arguments = jax.tree.map(lambda a: jnp.asarray(a, dtype), arguments)
    # Keras adds a bias [G] to [B, G], which conftest's rank rule forbids to ours.
    with jax.numpy_rank_promotion('raise' if run is run_ours else 'allow'):
      (_, outputs), grads = both(*arguments)
    return [np.asarray(a) for a in jax.tree.leaves((outputs, grads))]

  return run_both


def check(config, *, in_float64=False):
  x, _, carry, weights = random_problem(config)
  ours, theirs = (functools.partial(make_run, r, config) for r in (run_ours, run_keras))
  return parity.check(ours, theirs, (weights, x, carry), in_float64=in_float64)


def slow(config):
  return pytest.param(config, marks=pytest.mark.slow)


@pytest.mark.slow
@pytest.mark.parametrize(
  'config',
  [
    slow(Config(kinds=('simple_rnn',), mask='scattered', activation='relu')),
    Config(kinds=('lstm',), mask='pre', initial_carry=True, return_carry=True),
    slow(
      Config(kinds=('gru',), mask='all_false_row', direction='backward', use_bias=False)
    ),
    Config(
      kinds=('gru_reset_before',), recurrent_activation='hard_sigmoid', mask='post',
      return_sequences=True, zero_output_for_mask=True,
    ),
    Config(kinds=('gru', 'lstm'), direction='concat', mask='post'),
    slow(
      Config(
        kinds=('lstm', 'simple_rnn'), direction='backward', mask='scattered',
        return_sequences=True,
      )
    ),
    slow(  # a gradient of 1.5e-5 is left of terms that are a thousand times larger
      Config(
        B=2, T=7, D=5, H=1, kinds=('simple_rnn', 'gru', 'lstm'), use_bias=False,
        activation='hard_sigmoid', direction='sum', return_sequences=True,
        initial_carry=True, implementation='reference', seed=10230,
      )
    ),
  ],
)  # fmt: skip
def test_chosen_layers_equal_those_of_keras(config):
  check(config)


@pytest.mark.slow
@pytest.mark.parametrize('seed', SEEDS)
def test_300_random_layers_equal_those_of_keras(seed):
  parity.check_all(configs(), seed, EACH, check)


def test_the_300_are_layers_of_every_kind():
  """They are 300, and every value of every option is in many of them."""
  found = []
  for seed in SEEDS:
    parity.for_all(configs(), seed, EACH, found.append)
  assert len(set(found)) >= 300
  kinds = Counter(kind for c in found for kind in set(c.kinds))
  assert kinds.keys() == LAYERS.keys()
  assert min(kinds.values()) >= 60
  masks = Counter((kind, c.mask) for c in found for kind in set(c.kinds))
  assert min(masks[kind, mask] for kind in LAYERS for mask in MASKS) >= 6
  for name, values in VALUES.items():
    counts = Counter(getattr(c, name) for c in found)
    assert counts.keys() == set(values)
    assert min(counts.values()) >= 15, counts
  assert min(Counter(len(c.kinds) for c in found).values()) >= 50


def test_zero_outputs_do_not_lose_the_last_one_as_in_keras():
  """Where we differ on purpose: with zero outputs Keras's last output is a zero."""
  x = np.ones((1, 3, 2), np.float32)
  mask = np.array([[True, True, False]])
  layer = keras.layers.SimpleRNN(2, zero_output_for_mask=True)
  with jax.numpy_rank_promotion('allow'):
    assert not np.any(layer(x, mask=mask))
  ours = sj.SimpleRNN(2, zero_output_for_mask=True)
  kernel, recurrent, bias = (v.value for v in layer.trainable_variables)
  params = {'kernel': kernel, 'recurrent_kernel': recurrent, 'bias': bias}
  y = ours.apply({'params': params}, x, train=False, mask=mask)
  assert np.all(y != 0)


def test_keras_does_not_turn_masks_round():
  """The other place: the mask of outputs in reversed order is reversed too."""
  mask = np.array([[True, True, False]])
  layer = keras.layers.SimpleRNN(2, return_sequences=True, go_backwards=True)
  np.testing.assert_array_equal(layer.compute_mask(None, mask), mask)
  ours = sj.SimpleRNN(2, return_sequences=True, go_backwards=True)
  np.testing.assert_array_equal(ours.compute_mask(None, mask), mask[:, ::-1])


def test_bidirectional_leaves_masked_outputs_to_its_layers_unlike_keras():
  for returned in (True, False):
    layer = keras.layers.LSTM(2, zero_output_for_mask=False, return_sequences=returned)
    assert (
      keras.layers.Bidirectional(layer).forward_layer.zero_output_for_mask is returned
    )
    ours = sj.Bidirectional(sj.LSTM(2, return_sequences=returned))
    assert not ours.forward_layer.zero_output_for_mask
    assert not ours.backward_layer.zero_output_for_mask
