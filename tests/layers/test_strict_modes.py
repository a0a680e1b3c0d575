"""Every layer under every strict mode of JAX: values and gradients stay what they are.

A mode that a layer breaks (a key used twice, a promotion nobody asked for, a tracer
that outlives its trace, a NaN in passing) is an error of JAX's own.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest

import seqjax as sj
from seqjax import layers
from seqjax.layers.base import TrainedLayer

# Small and alike: without jit each operation is compiled once for each shape.
B, T, D, H = 2, 3, 2, 2
MODES = {
  'debug_key_reuse': lambda: jax.debug_key_reuse(True),
  'debug_nans': lambda: jax.debug_nans(True),
  'debug_infs': lambda: jax.debug_infs(True),
  'checking_leaks': jax.checking_leaks,
  'enable_checks': lambda: jax.enable_checks(True),
  'numpy_dtype_promotion': lambda: jax.numpy_dtype_promotion('strict'),
  'numpy_rank_promotion': lambda: jax.numpy_rank_promotion('raise'),
  'transfer_guard': lambda: jax.transfer_guard('disallow'),
  'enable_x64': lambda: jax.enable_x64(True),
  'rbg': lambda: jax.default_prng_impl('rbg'),
  'disable_jit': jax.disable_jit,
}
SEQUENCES = {'return_sequences': True}
DROPS = {'dropout': 0.3, 'recurrent_dropout': 0.3}


class Agent(layers.Layer):
  """A ScannedRNN of x [B, T, D]."""

  core: sj.ScannedRNN
  takes = ('reset',)

  def __call__(self, x, *, mask=None, reset=None):
    del mask
    resets = jnp.zeros((T, B), bool) if reset is None else jnp.swapaxes(reset, 0, 1)
    carry = self.core.initialize_carry(B, self.core.features)
    return self.core(carry, (jnp.swapaxes(x, 0, 1), resets))


# Of x [B, T, D]; those of ids and of [B, D] are made of it below.
LAYERS = {
  'SimpleRNN': sj.SimpleRNN(H, **DROPS, zero_output_for_mask=True, **SEQUENCES),
  'LSTM': sj.LSTM(H, **DROPS, bptt_steps=2),
  'LSTM, reference': sj.LSTM(H, **DROPS, remat_chunk=2, implementation='reference'),
  'GRU': sj.GRU(H, **DROPS, go_backwards=True, keep_order=True, **SEQUENCES),
  'GRU, reset before': sj.GRU(H, **DROPS, reset_after=False, return_carry=True),
  'RNN': sj.RNN(sj.LayerNormLSTMCell(H), remat_chunk=2),
  'LayerNormSimpleRNNCell': sj.RNN(sj.LayerNormSimpleRNNCell(H), **SEQUENCES),
  'LayerNormGRUCell': sj.RNN(sj.LayerNormGRUCell(H), go_backwards=True),
  'Zoneout': sj.RNN(sj.Zoneout(sj.LayerCell(sj.LSTM(H)), h_rate=0.3, c_rate=0.2)),
  'Bidirectional': sj.Bidirectional(sj.LSTM(H, **DROPS), merge_mode='ave'),
  'Stack': sj.Bidirectional(
    sj.Stack([sj.GRU(H, **SEQUENCES), nn.Dropout(0.5), sj.GRU(H)])
  ),
  'TimeDistributed': sj.TimeDistributed(nn.Dense(2)),
  'RepeatVector': sj.Stack([sj.GlobalMaxPooling1D(), sj.RepeatVector(2)]),
  'Embedding': sj.Stack([
    lambda x: (x[..., 0] > 0).astype(jnp.int32), sj.Embedding(3, D), sj.LSTM(H)
  ]),
  'Masking': sj.Stack([sj.Masking(0.5), sj.LSTM(H)]),
  'Conv1D': sj.Conv1D(2, 2, padding='causal', groups=2, activation='relu'),
  'MinGRU': sj.MinGRU(H, go_backwards=True, **SEQUENCES),
  'PeepholeLSTMCell': sj.RNN(sj.PeepholeLSTMCell(H)),
  'ConvLSTM': sj.Stack([
    lambda x: jnp.expand_dims(x, -1), sj.ConvLSTM(2, (2,), padding='same')
  ]),
  'ScannedRNN': Agent(sj.ScannedRNN(H)),
  'MaxPooling1D': sj.MaxPooling1D(2),
  'AveragePooling1D': sj.AveragePooling1D(2, padding='same'),
  'GlobalAveragePooling1D': sj.GlobalAveragePooling1D(),
  'Flatten': sj.Flatten(),
  'SequenceRegressor': sj.SequenceRegressor(sj.LSTM(H)),
  'SequenceClassifier': sj.Stack([
    lambda x: (x[..., 0] > 0).astype(jnp.int32),
    sj.SequenceClassifier(3, 2, sj.GRU(H), mask_zero=True),
  ]),
}  # fmt: skip


# Single operations have no `compiler_options`.
pytestmark = pytest.mark.usefixtures('quick_programs')
DRAWS_DIFFER = ('enable_x64', 'rbg')  # from those in no mode


@functools.cache
def arrays():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(B, T, D)).astype(np.float32)
  mask = np.array([[1, 1, 0], [1, 1, 1]], bool)
  reset = np.array([[0, 1, 0], [0, 0, 1]], bool)
  return jax.tree.map(jnp.asarray, (x, mask, reset))


def run(name, params, key, trains=(False, True)):
  """Parameters as they are drawn; values and gradients of `params`, or of these."""
  layer, (x, mask, reset) = LAYERS[name], arrays()
  more = {'reset': reset} if 'reset' in layer.takes else {}
  untrained, said = {'train': False}, [{'train': train} for train in trains]
  if not isinstance(layer, TrainedLayer):
    untrained, said = {}, [{}] * len(trains)

  def everything(params, x, mask, key, more):
    init_key, key = jax.random.split(key)
    drawn = layer.init(init_key, x, **untrained).get('params', {})

    def loss(params, x, options):
      rngs = {'dropout': key}
      y = layer.apply({'params': params}, x, mask=mask, rngs=rngs, **options, **more)
      return sum(jnp.sum(a * a) for a in jax.tree.leaves(y))

    params = drawn if params is None else params
    both = jax.value_and_grad(loss, argnums=(0, 1))
    return drawn, [both(params, x, options) for options in said]

  compiled = jax.jit(everything, compiler_options=parity.QUICK)
  return compiled(params, x, mask, key, more)


@functools.cache
def usual(name):
  return run(name, None, jax.random.key(0))


def test_every_layer_is_among_them():
  text = repr(LAYERS)
  for name in layers.__all__:
    kind = getattr(layers, name)
    abstract = ('Layer', 'RecurrentLayer', 'RNNCell')
    if isinstance(kind, type) and name not in abstract:
      assert f'{name}(' in text, name


@pytest.mark.slow
@pytest.mark.parametrize('mode', MODES)
def test_values_and_gradients_are_those_of_no_mode(mode):
  trains = (False, True) if mode in DRAWS_DIFFER else (True,)
  for name in LAYERS:
    params, want = usual(name)
    key = jax.random.key(0)
    with MODES[mode]():
      if mode == 'rbg':
        key = jax.random.key(0)
      drawn, found = run(name, params, key, trains)
    shapes = [jax.tree.map(lambda a: (a.shape, a.dtype), p) for p in (drawn, params)]
    assert shapes[0] == shapes[1], name
    for train, got in zip(trains, found, strict=True):
      pairs = zip(jax.tree.leaves(got), jax.tree.leaves(want[train]), strict=True)
      for a, b in pairs:
        assert a.dtype == b.dtype, name
        assert np.isfinite(a).all(), name
        if not (train and mode in DRAWS_DIFFER):
          atol = 1e-5 * max(1, np.abs(b).max())
          np.testing.assert_allclose(a, b, rtol=0, atol=atol, err_msg=name)
