"""What docs/features.md and docs/semantics.md say of the peers, asked of the peers."""

import functools
import inspect
import itertools
import pathlib
import re

import flax.linen as nn
import jax
import jax.experimental.rnn
import jax.numpy as jnp
import keras
import numpy as np
import numpy_rnn
import pytest
from flax import nnx

import seqjax as sj
import seqjax.layers
from seqjax.layers.names import ELSEWHERE

pytestmark = pytest.mark.usefixtures('quick_programs')


def arguments(function):
  return set(inspect.signature(function).parameters)


@functools.cache
def peer(library):
  """(arguments of its layers and functions, its public names) for names.py's table."""
  if library == 'Keras 3':
    L = keras.layers
    kinds = [L.SimpleRNN, L.LSTM, L.GRU, L.RNN, L.Bidirectional, L.Embedding, L.Conv1D]
    kinds = [L.Layer.__init__, *kinds, *(kind.call for kind in kinds)]
    names = {*dir(L), *dir(keras), *dir(keras.utils)}
    names |= arguments(L.LayerNormalization) | arguments(L.Masking)
  elif library == 'flax':
    kinds = [nn.RNN, nn.LSTMCell, nn.GRUCell, nn.SimpleCell, nn.Bidirectional, nn.Embed]
    kinds += [nn.Conv, nn.Dropout, nn.RNN.__call__, nnx.LSTMCell, nnx.RNN.__call__]
    names = {*dir(nn), *arguments(nn.LayerNorm)}
  elif library == 'torch':
    torch = pytest.importorskip('torch')
    L = torch.nn
    kinds = [L.RNNBase, L.LSTM.forward, L.Embedding, L.Conv1d]
    names = {*dir(L), *dir(L.RNN(1, 1)), *dir(torch.nn.utils.rnn)}
    names |= arguments(L.LayerNorm)
  else:
    hk = pytest.importorskip('haiku')
    kinds = [hk.VanillaRNN, hk.LSTM, hk.GRU, hk.dynamic_unroll, hk.Embed, hk.Conv1D]
    names = {*dir(hk), *arguments(hk.LayerNorm)}
  return set().union(*map(arguments, kinds)), set(names)


LIBRARIES = ['Keras 3', 'flax', 'torch', 'haiku']
# torch is there where the slow tests are run.
EACH = [
  pytest.param(name, marks=[pytest.mark.slow] * (name == 'torch')) for name in LIBRARIES
]


@functools.cache
def called():
  """The table of names: (ours, {library: theirs}) a row."""
  page = pathlib.Path(__file__).parent.parent / 'docs' / 'features.md'
  part = page.read_text().split('## What it is called')[1].split('\n## ')[0]
  rows = [line.strip('|').split('|') for line in part.splitlines() if line[:1] == '|']
  assert [cell.strip() for cell in rows[0]] == ['here', *LIBRARIES]
  found = [[re.findall(r'`(\w+)`', cell) for cell in row] for row in rows[2:]]
  return [(row[0][0], dict(zip(LIBRARIES, row[1:], strict=True))) for row in found]


def our_arguments():
  kinds = [getattr(seqjax.layers, name) for name in seqjax.layers.__all__]
  layers = [kind for kind in kinds if isinstance(kind, type)]
  return set().union(*(arguments(c) | arguments(c.__call__) for c in layers))


@pytest.mark.parametrize('library', EACH)
def test_names_are_those_of_the_library(library):
  options, names = peer(library)
  unknown = [name for _, row in called() for name in row[library]]
  unknown = [name for name in unknown if name not in options | names]
  assert not unknown


def test_each_name_is_refused_with_ours():
  assert len(called()) > 25
  options, peers = our_arguments(), peer('Keras 3')[0] | peer('flax')[0]
  for ours, row in called():
    assert ours in options or hasattr(sj, ours), ours
    for theirs in itertools.chain(*row.values()):
      if theirs in ELSEWHERE:
        assert re.search(rf'\b{ours}\b', ELSEWHERE[theirs]), theirs
      else:  # a function or a class, or called as it is here
        assert theirs == ours or theirs not in peers, theirs


# What is no convention of a recurrent layer: the inputs themselves, and other trades.
BESIDE = {
  'self', 'args', 'kwargs', 'name', 'parent', 'mode', 'x', 'inputs', 'sequences',
  'input', 'input_sequence', 'module', 'dtype', 'autocast', 'precision', 'proj_size',
  'double_bias', 'broadcast_dims', 'rng_collection', 'promote_dtype',
  'conv_general_dilated', 'conv_general_dilated_cls', 'input_dilation',
  'padding_mode', 'lookup_style', 'max_norm', 'norm_type', 'scale_grad_by_freq',
  'sparse', 'lora_alpha', 'lora_rank', 'quantization_config',
}  # fmt: skip


@pytest.mark.parametrize('library', EACH)
def test_every_argument_of_a_library_is_ours_or_is_refused_by_name(library):
  told = our_arguments() | ELSEWHERE.keys() | BESIDE
  assert not peer(library)[0] - told


def names_in(*modules):
  return ' '.join(name for module in modules for name in dir(module)).lower()


def test_what_keras_has():
  layers = keras.layers
  for layer in (layers.SimpleRNN, layers.LSTM, layers.GRU):
    assert {'mask', 'initial_state'} <= arguments(layer.call)
    assert 'reset' not in arguments(layer.call)
    assert {'dropout', 'recurrent_dropout', 'activation'} <= arguments(layer.__init__)
    mine = {'bptt_steps', 'remat_chunk'}
    assert not mine & arguments(layer.__init__)
    assert 'go_backwards' in arguments(layer.__init__)
    assert 'keep_order' not in arguments(layer.__init__)
  assert 'reset_after' in arguments(layers.GRU.__init__)
  assert 'groups' in arguments(layers.Conv1D.__init__)
  assert 'mask_value' in arguments(layers.Masking.__init__)
  assert 'cell' in arguments(layers.RNN.__init__)
  assert {'activity_regularizer', 'kernel_constraint'} <= arguments(
    layers.LSTM.__init__
  )
  assert not {'constants', 'time_major'} & (
    arguments(layers.RNN) | arguments(layers.RNN.call)
  )
  assert hasattr(layers, 'StackedRNNCells')
  assert 'merge_mode' in arguments(layers.Bidirectional.__init__)
  assert not {'layernormlstm', 'zoneout'} & set(names_in(layers).split())
  assert {'convlstm1d', 'convlstm2d'} <= set(names_in(layers).split())
  assert not re.search('peephole|mingru|scannedrnn', names_in(layers))
  assert 'mask' in arguments(layers.GlobalAveragePooling1D.call)
  assert hasattr(keras, 'remat')
  for pool in (layers.GlobalMaxPooling1D, layers.MaxPooling1D, layers.AveragePooling1D):
    assert 'mask' not in arguments(pool.call)


@pytest.mark.parametrize('flax', [nn, nnx])
def test_what_flax_has(flax):
  assert {'SimpleCell', 'LSTMCell', 'GRUCell', 'RNN', 'Bidirectional'} <= set(dir(flax))
  call = arguments(flax.RNN.__call__)
  assert {'seq_lengths', 'initial_carry', 'return_carry'} <= call
  assert not {'mask', 'reset', 'train'} & call
  cells = (flax.SimpleCell, flax.LSTMCell, flax.GRUCell)
  for cell in cells:
    fields = arguments(cell.__init__)
    assert 'activation_fn' in fields
    assert not {'dropout', 'recurrent_dropout', 'dropout_rate'} & fields
  assert 'reset_after' not in arguments(flax.GRUCell.__init__)
  assert hasattr(flax, 'ConvLSTMCell') == (flax is nn)
  assert not re.search('peephole|mingru|scannedrnn', names_in(flax))
  options = arguments(flax.RNN.__init__)
  assert {'cell', 'reverse', 'keep_order', 'time_major'} <= options
  assert 'feature_group_count' in arguments(flax.Conv.__init__)
  assert 'masking' not in names_in(flax)
  assert not {'bptt_steps', 'remat_chunk'} & options
  assert 'merge_fn' in arguments(flax.Bidirectional.__init__)
  assert hasattr(flax, 'remat')
  assert 'broadcast_dims' in arguments(flax.Dropout.__init__)
  names = names_in(flax)
  assert 'zoneout' not in names
  assert 'layernormlstm' not in names
  assert 'mask' not in arguments(flax.max_pool) | arguments(flax.avg_pool)


def test_what_torch_has():
  torch = pytest.importorskip('torch')
  for layer in (torch.nn.RNN, torch.nn.LSTM, torch.nn.GRU):
    assert arguments(layer.forward) == {'self', 'input', 'hx'}
    # Its dropout lies between layers, and with one layer there is none.
    built = layer(3, 4, num_layers=1)
    assert built.dropout == 0
    assert not hasattr(built, 'recurrent_dropout')
  assert torch.nn.RNN(3, 4, nonlinearity='relu').mode == 'RNN_RELU'
  with pytest.raises(TypeError):
    torch.nn.GRU(3, 4, nonlinearity='relu')
  assert hasattr(torch.nn.utils.rnn, 'pack_padded_sequence')
  assert 'batch_first' in arguments(torch.nn.RNNBase)
  assert 'groups' in arguments(torch.nn.Conv1d.__init__)
  dropped = torch.nn.Dropout1d(0.5)(torch.ones(4, 8, 5))  # [B, D, T]
  assert torch.equal(dropped, dropped[..., :1].expand(4, 8, 5))
  assert callable(torch.utils.checkpoint.checkpoint)
  names = names_in(torch.nn)
  assert 'zoneout' not in names
  assert 'layernormlstm' not in names


def test_what_haiku_has():
  """Of dm-haiku 0.0.17, which is not among the peers that are installed."""
  hk = pytest.importorskip('haiku')
  cores = {n for n in dir(hk) if isinstance(getattr(hk, n), type)}
  cores = {n for n in cores if issubclass(getattr(hk, n), hk.RNNCore)}
  convolutional = {f'Conv{n}DLSTM' for n in (1, 2, 3)}
  others = {'RNNCore', 'IdentityCore', 'ResetCore', 'DeepRNN'}
  assert cores == {'VanillaRNN', 'LSTM', 'GRU'} | convolutional | others
  for name in ('VanillaRNN', 'LSTM', 'GRU'):
    options = arguments(getattr(hk, name).__init__)
    assert not {'activation', 'dropout', 'reset_after'} & options
    assert len(arguments(getattr(hk, name).__call__)) == 3  # self, input, state
  assert arguments(hk.dynamic_unroll) == {
    'core',
    'input_sequence',
    'initial_state',
    'time_major',
    'reverse',
    'return_all_states',
    'unroll',
  }
  assert 'broadcast_dims' in arguments(hk.dropout)
  assert callable(hk.remat)
  assert callable(hk.deep_rnn_with_skip_connections)
  for pool in (hk.max_pool, hk.avg_pool):
    assert 'mask' not in arguments(pool)


def test_linen_takes_one_array_of_inputs():
  with pytest.raises(AttributeError, match='ndim'):
    nn.RNN(nn.LSTMCell(2)).init(jax.random.key(0), {'a': random_x(2, 4, 3)})


@pytest.mark.parametrize('kind', ['simple_rnn', 'lstm', 'gru_reset_before'])
def test_haiku_cores_are_ours_in_another_order(kind):
  hk = pytest.importorskip('haiku')
  B, T, D, H = 2, 4, 3, 5
  p, x = weights(kind, D, H), random_x(B, T, D)
  if kind == 'simple_rnn':
    core, layer = hk.VanillaRNN, sj.SimpleRNN(H, activation='relu')
    linear = {'w': p['kernel'], 'b': p['bias']}
    hidden = {'w': p['recurrent_kernel'], 'b': np.zeros(H, np.float32)}
    theirs = {'vanilla_rnn/linear': linear, 'vanilla_rnn/linear_1': hidden}
  elif kind == 'lstm':  # i, f, c, o -> i, g, f, o; 1 is added to f
    core, layer = hk.LSTM, sj.LSTM(H)
    shift = np.repeat(np.float32([0, 1, 0, 0]), H)
    both = np.concatenate([p['kernel'], p['recurrent_kernel']])
    linear = {'w': swapped(both), 'b': swapped(p['bias'] - shift)}
    theirs = {'lstm/linear': linear}
  else:
    core, layer = hk.GRU, sj.GRU(H, reset_after=False)
    sign = np.repeat(np.float32([-1, 1, 1]), H)
    names = {'kernel': 'w_i', 'recurrent_kernel': 'w_h', 'bias': 'b'}
    theirs = {'gru': {names[name]: array * sign for name, array in p.items()}}

  def run(x):
    made = core(H)
    return hk.dynamic_unroll(made, x, made.initial_state(B), time_major=False)[0]

  apply = hk.without_apply_rng(hk.transform(run)).apply
  with jax.numpy_rank_promotion('allow'):
    expected = apply(theirs, x)[:, -1]
  y = layer.apply({'params': p}, x, train=False)
  np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


def swapped(kernel):
  """The second of four gates and the third change places."""
  a, b, c, d = np.split(kernel, 4, axis=-1)
  return np.concatenate([a, c, b, d], axis=-1)


def test_what_jax_experimental_rnn_has():
  rnn = jax.experimental.rnn
  assert not hasattr(rnn, 'gru')
  assert {'h_0', 'c_0', 'seq_lengths', 'bidirectional'} <= arguments(rnn.lstm)
  wanted = {'mask', 'reset', 'activation', 'recurrent_dropout', 'merge_mode'}
  assert not wanted & arguments(rnn.lstm)


def weights(kind, D, H):
  arrays = numpy_rnn.random_params(np.random.default_rng(0), kind, D, H)
  return dict(zip(('kernel', 'recurrent_kernel', 'bias'), arrays, strict=True))


def random_x(*shape):
  return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def linen_params(kind, ours):
  """Ours as those of a linen cell, whose gates have names and lie in layers."""
  gates = 'ifgo' if kind == 'lstm' else 'zrn'
  columns = {
    name: dict(zip(gates, np.split(ours[name], len(gates), axis=-1), strict=True))
    for name in ('kernel', 'recurrent_kernel', 'bias')
  }
  params = {}
  for g in gates:
    params[f'i{g}'] = {'kernel': columns['kernel'][g]}
    params[f'h{g}'] = {'kernel': columns['recurrent_kernel'][g]}
    if kind == 'lstm':
      params[f'h{g}']['bias'] = columns['bias'][g]
    else:
      params[f'i{g}']['bias'] = columns['bias'][g][0]
  if kind == 'gru':
    params['hn']['bias'] = columns['bias']['n'][1]
  return params


@pytest.mark.parametrize('kind', ['gru', pytest.param('lstm', marks=pytest.mark.slow)])
def test_linen_cells_are_ours_with_fewer_biases(kind):
  B, T, D, H = 2, 4, 3, 5
  ours = weights(kind, D, H)
  if kind == 'gru':
    ours['bias'][1, : 2 * H] = 0  # the two that linen's cell does not have
  x = random_x(B, T, D)
  cell = nn.LSTMCell(H) if kind == 'lstm' else nn.GRUCell(H)
  params = {'params': {'cell': linen_params(kind, ours)}}
  with jax.numpy_rank_promotion('allow'):
    carry, y = jax.jit(nn.RNN(cell, return_carry=True).apply)(params, x)
  layer = sj.LSTM if kind == 'lstm' else sj.GRU
  layer = layer(H, return_sequences=True, return_carry=True)
  want_carry, want = layer.apply({'params': ours}, x, train=False)
  np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)
  if kind == 'lstm':  # (c, h) against fields with names
    np.testing.assert_allclose(carry[0], want_carry.c, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(carry[1], want_carry.h, rtol=1e-5, atol=1e-6)


def test_linen_computes_on_beyond_a_length():
  B, T, D, H = 2, 4, 3, 5
  ours, x = weights('lstm', D, H), random_x(B, T, D)
  lengths = np.array([2, 4])
  params = {'params': {'cell': linen_params('lstm', ours)}}
  with jax.numpy_rank_promotion('allow'):
    run = jax.jit(nn.RNN(nn.LSTMCell(H), return_carry=True).apply)
    (_, h), y = run(params, x, seq_lengths=lengths)
  mask = np.arange(T) < lengths[:, None]
  layer = sj.LSTM(H, return_sequences=True, return_carry=True)
  carry, want = layer.apply({'params': ours}, x, train=False, mask=mask)
  np.testing.assert_allclose(h, carry.h, rtol=1e-5, atol=1e-6)  # the carry is the same
  np.testing.assert_allclose(y[mask], want[mask], rtol=1e-5, atol=1e-6)
  assert np.abs(y[0, 3] - want[0, 3]).max() > 1e-3  # the outputs of padding are not


def test_haiku_gru_is_ours_with_z_negated():
  """haiku's equations, written out; 1 - sigmoid(a) = sigmoid(-a) makes them ours."""
  B, T, D, H = 2, 4, 3, 5
  p, x = weights('gru_reset_before', D, H), random_x(B, T, D)
  h = np.zeros((B, H))
  for t in range(T):
    a = x[:, t] @ p['kernel'] + p['bias']
    zr = 1 / (1 + np.exp(-(a[:, : 2 * H] + h @ p['recurrent_kernel'][:, : 2 * H])))
    z, r = np.split(zr, 2, axis=-1)
    n = np.tanh(a[:, 2 * H :] + (r * h) @ p['recurrent_kernel'][:, 2 * H :])
    h = (1 - z) * h + z * n
  sign = np.repeat(np.float32([-1, 1, 1]), H)
  ours = {name: array * sign for name, array in p.items()}
  y = sj.GRU(H, reset_after=False).apply(
    {'params': jax.tree.map(jnp.asarray, ours)}, x, train=False
  )
  np.testing.assert_allclose(y, h, rtol=1e-5, atol=1e-6)
