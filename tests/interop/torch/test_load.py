"""Weights from PyTorch and back: the same outputs and states, and refused files."""

import functools
import sys
import zipfile

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax.interop import torch as interop
from seqjax.types import InputError

pytestmark = pytest.mark.usefixtures('quick_programs')

B, T, D, H = 5, 7, 3, 4


@pytest.fixture(scope='module')
def torch():
  return pytest.importorskip('torch')


def module(torch, cell, **options):
  """A recurrent module with random weights, biases too, and its inputs."""
  torch.manual_seed(3)
  kinds = {
    'LSTM': (torch.nn.LSTM, {}),
    'GRU': (torch.nn.GRU, {}),
    'tanh': (torch.nn.RNN, {'nonlinearity': 'tanh'}),
    'relu': (torch.nn.RNN, {'nonlinearity': 'relu'}),
  }
  make, more = kinds[cell]
  return make(D, H, batch_first=True, **more, **options)


def layer(cell, **options):
  if cell == 'LSTM':
    return sj.LSTM(H, **options)
  if cell == 'GRU':
    return sj.GRU(H, **options)
  return sj.SimpleRNN(H, activation=cell, **options)


def convert(cell, direction):
  names = {'LSTM': 'lstm', 'GRU': 'gru'}
  return getattr(interop, f'{direction}_{names.get(cell, "simple_rnn")}')


def inputs():
  return np.random.default_rng(0).normal(size=(B, T, D)).astype(np.float32)


def random_params(model, x, seed):
  """Random parameters of a model, without the compilation of the initialisers."""
  rng = np.random.default_rng(seed)
  init = functools.partial(model.init, train=False)
  shapes = jax.eval_shape(init, jax.random.key(0), x)['params']
  return jax.tree.map(
    lambda a: (0.4 * rng.normal(size=a.shape)).astype(a.dtype), shapes
  )


def run(torch, model, x):
  """(outputs [B, T, *], last h and, of an LSTM, c [layers * directions, B, H])."""
  with torch.no_grad():
    y, state = model(torch.from_numpy(x))
  return y.numpy(), [
    s.numpy() for s in (state if isinstance(state, tuple) else [state])
  ]


@pytest.mark.parametrize(
  ('cell', 'bias'),
  [('LSTM', True), ('LSTM', False), ('GRU', True), ('GRU', False), ('relu', True)]
  + [pytest.param('tanh', bias, marks=pytest.mark.slow) for bias in (True, False)],
)
def test_two_layers_of_two_directions(torch, cell, bias):
  model = module(torch, cell, num_layers=2, bidirectional=True, bias=bias)
  y, states = run(torch, model, inputs())
  options = {'return_sequences': True, 'return_carry': True, 'use_bias': bias}
  params = {
    f'layers_{k}': {
      'forward_layer': convert(cell, 'to')(model.state_dict(), k),
      'backward_layer': convert(cell, 'to')(model.state_dict(), k, 'backward'),
    }
    for k in range(2)
  }
  ours = sj.Stack([sj.Bidirectional(layer(cell, **options)) for _ in range(2)])
  apply = jax.jit(functools.partial(ours.apply, train=False))
  carries, outputs = apply({'params': params}, inputs())
  np.testing.assert_allclose(outputs, y, rtol=1e-5, atol=1e-5)
  carries = [carry for both in carries for carry in both]
  for field, theirs in zip(('h', 'c'), states, strict=False):
    mine = np.stack([getattr(carry, field) for carry in carries])
    np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('cell', ['LSTM', 'GRU', 'relu'])
def test_and_on_the_way_back(torch, cell):
  ours = sj.Stack(
    [sj.Bidirectional(layer(cell, return_sequences=True)) for _ in range(2)]
  )
  params = random_params(ours, inputs(), 4)
  apply = jax.jit(functools.partial(ours.apply, train=False))
  outputs = apply({'params': params}, inputs())
  state = {}
  for k in range(2):
    for direction in ('forward', 'backward'):
      part = params[f'layers_{k}'][f'{direction}_layer']
      state |= convert(cell, 'from')(part, k, direction, prefix='rnn')
      again = convert(cell, 'to')(state, k, direction, prefix='rnn')
      jax.tree.map(np.testing.assert_array_equal, again, part)
  model = torch.nn.ModuleDict(
    {'rnn': module(torch, cell, num_layers=2, bidirectional=True)}
  )
  model.load_state_dict(interop.tensors(state))  # strict: all names, all shapes
  y, _ = run(torch, model['rnn'], inputs())
  np.testing.assert_allclose(y, outputs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('cell', ['LSTM', 'GRU', 'RNN'])
def test_a_cell_module(torch, cell):
  torch.manual_seed(0)
  model = getattr(torch.nn, f'{cell}Cell')(D, H)
  x = inputs()[:, 0]
  with torch.no_grad():
    h = model(torch.from_numpy(x))
  h = h[0] if cell == 'LSTM' else h
  name = cell if cell != 'RNN' else 'tanh'
  params = convert(name, 'to')(model.state_dict(), layer=None)
  y = layer(name).apply({'params': params}, x[:, None], train=False)
  np.testing.assert_allclose(y, h.numpy(), rtol=1e-5, atol=1e-6)


def networks(torch):
  """A PyTorch model and its equal: embedding, two LSTMs of two directions, head."""

  class Net(torch.nn.Module):
    def __init__(self):
      super().__init__()
      self.words = torch.nn.Embedding(11, D)
      self.conv = torch.nn.Conv1d(D, 6, 3)
      self.norm = torch.nn.LayerNorm(6)
      self.rnn = torch.nn.LSTM(6, H, 2, batch_first=True, bidirectional=True)
      self.head = torch.nn.Linear(2 * H, 2)

    def forward(self, ids):
      x = self.conv(self.words(ids).transpose(1, 2)).transpose(1, 2)
      return self.head(self.rnn(self.norm(x))[0][:, 0])

  torch.manual_seed(1)
  ours = sj.Stack(
    [
      sj.Embedding(11, D),
      sj.Conv1D(6, 3),
      nn.LayerNorm(epsilon=1e-5, use_fast_variance=False),
      sj.Bidirectional(sj.LSTM(H, return_sequences=True)),
      sj.Bidirectional(sj.LSTM(H, return_sequences=True)),
      lambda x: x[:, 0],
      nn.Dense(2),
    ]
  )
  model = Net()
  with torch.no_grad():
    for value in model.parameters():
      value.copy_(0.4 * torch.randn_like(value))
  return model, ours


def test_a_whole_model_moves_over_and_back(torch, tmp_path):
  theirs, ours = networks(torch)
  ids = np.random.default_rng(2).integers(0, 11, (B, T)).astype(np.int32)
  params = random_params(ours, ids, 5)
  predict = jax.jit(lambda p: ours.apply({'params': p}, ids, train=False))

  def predict_theirs():
    with torch.no_grad():
      return theirs(torch.from_numpy(ids)).numpy()

  state = theirs.state_dict()
  torch.save(state, tmp_path / 'model.pt')
  interop.save(tmp_path / 'model.safetensors', interop.load(tmp_path / 'model.pt'))
  sources = (tmp_path / 'model.pt', tmp_path / 'model.safetensors', state)
  loaded = [interop.load_into(params, source) for source in sources]
  for other in loaded[1:]:
    jax.tree.map(np.testing.assert_array_equal, other, loaded[0])
  np.testing.assert_allclose(predict(loaded[0]), predict_theirs(), rtol=1e-5, atol=1e-5)
  before = predict_theirs()
  for source in sources:
    new = interop.from_params(params, like=source)
    assert set(new) == set(state)
    theirs.load_state_dict(interop.tensors(new))
    np.testing.assert_allclose(predict_theirs(), predict(params), rtol=1e-5, atol=1e-5)
    theirs.load_state_dict(interop.tensors(interop.load(tmp_path / 'model.pt')))
    np.testing.assert_array_equal(predict_theirs(), before)


def test_files_that_torch_reads(torch, tmp_path):
  peer = pytest.importorskip('safetensors.torch')
  state = module(torch, 'GRU', bidirectional=True).state_dict()
  peer.save_file(state, tmp_path / 'theirs.safetensors')
  arrays = interop.load(tmp_path / 'theirs.safetensors')
  interop.save(tmp_path / 'ours.safetensors', arrays)
  interop.save(tmp_path / 'ours.pt', arrays)
  with pytest.raises(InputError, match=r'ours\.pt: cannot be written'):
    interop.save(tmp_path / 'nope' / 'ours.pt', arrays)
  for again in (
    peer.load_file(tmp_path / 'ours.safetensors'),
    torch.load(tmp_path / 'ours.pt', weights_only=True),
  ):
    assert set(again) == set(state)
    for name, value in state.items():
      assert torch.equal(again[name], value)


def test_a_mapping_takes_a_part_and_names_modules_as_torch_does(torch):
  model = torch.nn.Sequential(
    torch.nn.Linear(D, 6, bias=False), torch.nn.GRU(6, H, batch_first=True)
  )
  state = model.state_dict()
  params = {
    'encoder': jax.tree.map(np.zeros_like, interop.to_gru(state, prefix='1')),
    'head': {'kernel': np.zeros((D, 6), np.float32)},
  }
  loaded = interop.load_into(params, state, {'encoder': '1.l0'})
  np.testing.assert_array_equal(
    loaded['encoder']['kernel'], interop.to_gru(state, prefix='1')['kernel']
  )
  assert loaded['head'] == params['head']
  with pytest.raises(InputError, match=r"nothing for 'head'.*no place for '0' \(Embed"):
    interop.load_into(params, state)  # a matrix alone may be an embedding
  loaded = interop.load_into(params, state, {'encoder': '1', 'head': '0'})
  np.testing.assert_array_equal(loaded['head']['kernel'], state['0.weight'].numpy().T)
  back = interop.from_params(
    {'head': {'kernel': np.ones((D, 6), np.float32)}}, state, {'head': '0'}
  )
  np.testing.assert_array_equal(back['0.weight'], np.ones((6, D)))
  np.testing.assert_array_equal(back['1.weight_hh_l0'], state['1.weight_hh_l0'])


def test_bfloat16(torch, tmp_path):
  state = module(torch, 'LSTM').to(torch.bfloat16).state_dict()
  params = interop.to_lstm(state)
  assert params['kernel'].dtype == jnp.bfloat16
  interop.save(tmp_path / 'a.safetensors', interop.from_lstm(params))
  interop.save(tmp_path / 'a.pt', interop.from_lstm(params))
  for suffix in ('.safetensors', '.pt'):
    again = interop.to_lstm(interop.load(tmp_path / f'a{suffix}'))
    np.testing.assert_array_equal(again['kernel'], params['kernel'])
  kernel = state['weight_ih_l0'].float().numpy().T
  np.testing.assert_array_equal(params['kernel'].astype(np.float32), kernel)


# What needs no PyTorch.


def arrays(cell, D=D, H=H, suffix='_l0', prefix=''):
  rng = np.random.default_rng(6)
  gates = {'LSTM': 4, 'GRU': 3, 'RNN': 1}[cell]
  shapes = {
    'weight_ih': (gates * H, D),
    'weight_hh': (gates * H, H),
    'bias_ih': (gates * H,),
    'bias_hh': (gates * H,),
  }
  return {
    f'{prefix}{k}{suffix}': rng.normal(size=s).astype(np.float32)
    for k, s in shapes.items()
  }


def test_what_is_no_such_layer_is_refused():
  lstm = arrays('LSTM')
  with pytest.raises(ValueError, match=r'no GRU: .*\[D, 3H\].*\(3, 16\)'):
    interop.to_gru(lstm)
  with pytest.raises(ValueError, match='no weight_ih_l1: weight_ih_l0'):
    interop.to_lstm(lstm, 1)
  with pytest.raises(ValueError, match='no weight_ih_l0_reverse'):
    interop.to_lstm(lstm, direction='backward')
  with pytest.raises(ValueError, match="'forward' or 'backward', got 'up'"):
    interop.to_lstm(lstm, direction='up')
  with pytest.raises(ValueError, match='needs bias_ih and bias_hh'):
    interop.to_lstm({k: v for k, v in lstm.items() if k != 'bias_hh_l0'})
  with pytest.raises(ValueError, match='proj_size'):
    interop.to_lstm(lstm | {'weight_hr_l0': np.ones((2, H))})
  with pytest.raises(InputError, match='proj_size'):
    interop.load_into({}, lstm | {'weight_hr_l0': np.ones((2, H))})
  params = {
    'kernel': np.ones((D, 12)),
    'recurrent_kernel': np.ones((H, 12)),
    'bias': np.ones(12),
  }
  with pytest.raises(ValueError, match='torch has no GRU without reset_after'):
    interop.from_gru(params)
  with pytest.raises(ValueError, match='no LSTM'):
    interop.from_lstm(params)


@pytest.mark.parametrize('prefix', ['', 'module.encoder.rnn.', '_orig_mod.net.0.'])
@pytest.mark.parametrize('mapped', [False, True])
def test_fused_layers_below_any_modules(prefix, mapped):
  """As DataParallel, torch.compile and a user's own modules name them."""
  ours = sj.Stack([sj.Bidirectional(sj.LSTM(H, return_sequences=True))] * 1)
  state = arrays('LSTM', prefix=prefix) | arrays(
    'LSTM', suffix='_l0_reverse', prefix=prefix
  )
  state |= arrays('GRU', prefix='other.')
  params = random_params(ours, inputs(), 4)
  place = f'{prefix}l0' if prefix else 'l0'
  mapping = {'layers_0': place} if mapped else None
  loaded = interop.load_into(params, state, mapping, allow_unused=True)
  for direction in ('forward', 'backward'):
    jax.tree.map(
      np.testing.assert_array_equal,
      loaded['layers_0'][f'{direction}_layer'],
      interop.to_lstm(state, 0, direction, prefix.removesuffix('.')),
    )
  back = interop.from_params(loaded, state, {'layers_0': place})
  assert list(back) == list(state)


def test_the_way_back_keeps_the_order_of_the_arrays():
  """An alphabetical order takes a module's arrays apart."""
  like = arrays('LSTM') | arrays('LSTM', suffix='_l0_reverse')
  like = dict(sorted(like.items()))
  params = {
    f'{direction}_layer': interop.to_lstm(like, 0, direction)
    for direction in ('forward', 'backward')
  }
  assert list(interop.from_params({'rnn': params}, like)) == list(like)


def test_a_mismatch_names_both_layers_and_shapes():
  params = {'encoder': interop.to_lstm(arrays('LSTM', H=6))}
  with pytest.raises(InputError, match=r"'encoder'.*'rnn/l0'.*\(3, 24\).*\(3, 16\)"):
    interop.load_into(params, arrays('LSTM', prefix='rnn.'))


def test_more_than_the_bytes_allowed(torch, tmp_path):
  interop.save(tmp_path / 'a.pt', arrays('LSTM', D=30, H=40))
  with pytest.raises(InputError, match='more than the 1000 allowed'):
    interop.load(tmp_path / 'a.pt', max_bytes=1000)
  torch.save({'a': torch.zeros(1).expand(1 << 40)}, tmp_path / 'b.pt')
  with pytest.raises(InputError, match=r"more than .* bytes allowed at 'a'"):
    interop.load(tmp_path / 'b.pt')


def test_files_from_before_the_zip(torch, tmp_path):
  """As PyTorch before 1.6 saved them."""
  state = module(torch, 'LSTM').state_dict()
  path, old = tmp_path / 'a.pt', {'_use_new_zipfile_serialization': False}
  torch.save({'model': state}, path, **old)
  assert not zipfile.is_zipfile(path)
  arrays = interop.load(path, key='model')
  assert list(arrays) == list(state)
  for name, value in state.items():
    np.testing.assert_array_equal(arrays[name], value.numpy())
  with pytest.raises(InputError, match='more than the 1000 allowed'):
    interop.load(path, key='model', max_bytes=1000)
  whole = path.read_bytes()
  path.write_bytes(whole[:-9])
  with pytest.raises(InputError, match=r'a\.pt: not a readable file of torch.save'):
    interop.load(path)
  path.write_bytes(whole[: whole.index(b'OrderedDict')])
  with pytest.raises(InputError, match=r'a\.pt: holds more than weights.* or is cut'):
    interop.load(path)
  declared = b'K\x30Nt'  # weight_ih has 48 numbers
  assert declared in whole
  for count in (1 << 32, 1 << 46):
    larger = b'\x8a\x06' + count.to_bytes(6, 'little') + b'Nt'
    path.write_bytes(whole.replace(declared, larger, 1))
    with pytest.raises(InputError, match=r'a\.pt: not a readable file of torch.save'):
      interop.load(path)


class Evil:
  def __reduce__(self):
    return exec, ('import pathlib; pathlib.Path("ran").touch()',)


@pytest.mark.parametrize('legacy', [False, True])
def test_a_pickle_that_runs_code_is_refused(torch, tmp_path, monkeypatch, legacy):
  monkeypatch.chdir(tmp_path)
  torch.save(
    {'a': torch.ones(2), 'b': Evil()},
    tmp_path / 'a.pt',
    _use_new_zipfile_serialization=not legacy,
  )
  with pytest.raises(InputError, match='more than we'):
    interop.load(tmp_path / 'a.pt')
  assert not (tmp_path / 'ran').exists()
  torch.load(tmp_path / 'a.pt', weights_only=False)
  assert (tmp_path / 'ran').exists()  # it would have


def test_other_contents_are_refused(torch, tmp_path):
  path = tmp_path / 'a.pt'
  torch.save({'model': {'w': torch.ones(2)}, 'epoch': 3}, path)
  with pytest.raises(InputError, match="'model' is a dict, no tensor: key= names"):
    interop.load(path)
  np.testing.assert_array_equal(interop.load(path, key='model')['w'], np.ones(2))
  with pytest.raises(InputError, match="no key 'nope'"):
    interop.load(path, key='nope')
  with pytest.raises(InputError, match='holds a int, not a state_dict'):
    interop.load(path, key='epoch')
  torch.save({'w': torch.eye(3).to_sparse()}, path)
  with pytest.raises(InputError, match="'w' of the state_dict is no plain array"):
    interop.load(path)


def test_damaged_zips_of_torch(torch, tmp_path):
  path = tmp_path / 'a.pt'
  torch.save(arrays('LSTM'), path)
  whole = path.read_bytes()
  path.write_bytes(whole[: len(whole) // 2])
  with pytest.raises(InputError, match='not a readable zip'):
    interop.load(path)
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('a/data.pkl', b'nonsense')
  with pytest.raises(InputError, match=r'a\.pt: '):
    interop.load(path)
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
    archive.writestr('a/data.pkl', bytes(20 << 20))
  with pytest.raises(InputError, match='would grow'):
    interop.load(path)
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('../data.pkl', b'')
  with pytest.raises(InputError, match='leads out of'):
    interop.load(path)


def test_damaged_pickles_of_torch(torch, tmp_path):
  """Bytes of the pickle changed: read, or InputError."""
  torch.save(arrays('LSTM'), tmp_path / 'a.pt')
  with zipfile.ZipFile(tmp_path / 'a.pt') as archive:
    members = {name: archive.read(name) for name in archive.namelist()}
  rng = np.random.default_rng(0)
  refused = 0
  for _ in range(200):
    pickled = bytearray(members['a/data.pkl'])
    for at in rng.integers(2, len(pickled), 3):  # the first two are the version
      pickled[at] = rng.integers(256)
    with zipfile.ZipFile(tmp_path / 'b.pt', 'w') as archive:
      for name, content in members.items():
        archive.writestr(name, bytes(pickled) if name == 'a/data.pkl' else content)
    try:
      interop.load(tmp_path / 'b.pt')
    except InputError as error:
      refused += '\n' not in str(error)
  assert refused > 150


def test_without_torch_the_message_says_what_to_install(tmp_path, monkeypatch):
  pytest.importorskip('safetensors')
  monkeypatch.setitem(sys.modules, 'torch', None)
  with pytest.raises(ImportError, match='pip install torch'):
    interop.tensors({})
  with zipfile.ZipFile(tmp_path / 'a.pt', 'w') as archive:
    archive.writestr('a/data.pkl', b'')
  with pytest.raises(ImportError, match='safetensors file does without'):
    interop.load(tmp_path / 'a.pt')
  params = {'encoder': interop.to_lstm(arrays('LSTM'))}
  interop.save(tmp_path / 'a.safetensors', interop.from_params(params, arrays('LSTM')))
  interop.load_into(params, tmp_path / 'a.safetensors')
