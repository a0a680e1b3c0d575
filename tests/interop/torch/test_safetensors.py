"""The safetensors format: equal to the peer's files, and broken files refused.

What is said of the order and of broken layers holds for every state_dict.
"""

import json
import struct
import sys

import numpy as np
import pytest

from seqjax.interop import torch as interop
from seqjax.interop.torch import safetensors
from seqjax.types import InputError

peer = pytest.importorskip('safetensors.numpy')


def stored(path, header, content=b''):
  text = header if isinstance(header, bytes) else json.dumps(header).encode()
  path.write_bytes(struct.pack('<Q', len(text)) + text + content)
  return path


def entry(shape=(2, 3), offsets=(0, 24), dtype='F32'):
  return {'dtype': dtype, 'shape': list(shape), 'data_offsets': list(offsets)}


def test_safetensors_of_every_dtype(tmp_path):
  rng = np.random.default_rng(0)
  dtypes = [np.float64, np.float32, np.float16, np.int64, np.int8, np.uint16, np.bool_]
  values = {
    f'v.{np.dtype(d)}': (10 * rng.normal(size=(2, i + 1, 3))).astype(d)
    for i, d in enumerate(dtypes)
  }
  values |= {'empty': np.zeros((0, 3), np.float32), 'scalar': np.float32(3)}
  peer.save_file({k: np.asarray(v) for k, v in values.items()}, tmp_path / 'theirs')
  safetensors.write(tmp_path / 'ours', values)
  for found in (
    safetensors.read(tmp_path / 'theirs'),
    safetensors.read(tmp_path / 'ours'),
    peer.load_file(tmp_path / 'ours'),
  ):
    assert set(found) == set(values)
    for name, value in values.items():
      assert found[name].dtype == value.dtype
      np.testing.assert_array_equal(found[name], value)
  with pytest.raises(ValueError, match="'c' is complex128"):
    safetensors.write(tmp_path / 'c', {'c': np.ones(2, complex)})


TWICE = json.dumps({'a': entry((1,), (0, 4)), 'b': entry((1,), (0, 4))})
TWICE = TWICE.replace('"b"', '"a"').encode()


@pytest.mark.parametrize(
  ('header', 'content', 'message'),
  [
    (b'{"a": 1', b'', 'invalid JSON in header'),
    (b'{' + b'"a":[' * 100_000, b'', 'invalid JSON in header'),
    (b'{"a": 1, "a": 2}', b'', 'expected struct TensorInfo'),
    (TWICE, bytes(4), 'a name occurs twice'),
    ({'a': 1}, b'', 'expected struct TensorInfo'),
    ({'a': entry() | {'more': 1}}, bytes(24), 'needs dtype, shape'),
    ({'a': entry(dtype='F8')}, bytes(24), 'unknown variant `F8`'),
    ({'a': entry(dtype=['F32'])}, bytes(24), 'expected string or map'),
    ({'a': entry(shape=(-2, -3))}, bytes(24), 'expected usize'),
    ({'a': entry(shape=(2.0, 3))}, bytes(24), 'expected usize'),
    ({'a': entry(shape=(True, 6))}, bytes(24), 'expected usize'),
    ({'a': entry(shape=[1] * 99)}, bytes(24), 'invalid shape'),
    (
      {'a': entry(shape=[1] * 99, offsets=(0, 4))},
      bytes(4),
      'which NumPy does not have',
    ),
    ({'a': entry(offsets=(0, 24, 48))}, bytes(48), 'expected 2 elements'),
    (
      {'a': entry(shape=(0, 1 << 62), offsets=(0, 0))},
      b'',
      'which NumPy does not have',
    ),
    (
      {'a': entry(dtype='F8_E4M3', offsets=(0, 6))},
      bytes(6),
      r"'a' is F8_E4M3 of \[2, 3\], which",
    ),
    (
      {'a': entry(shape=(1 << 40, 1 << 40))},
      bytes(24),
      'overflow computing buffer size',
    ),
    (
      {'a': entry(shape=(1 << 40,), offsets=(0, 1 << 42))},
      bytes(24),
      'file not fully covered',
    ),
    ({'a': entry(offsets=(24, 0))}, bytes(24), 'invalid offset for tensor `a`'),
    ({'a': entry()}, bytes(20), 'file not fully covered'),
    ({'a': entry()}, bytes(30), 'file not fully covered'),
    ({'a\n': entry(offsets=(8, 32))}, bytes(32), 'invalid offset for tensor `a'),
    ({'a': entry(offsets=(8, 32))}, bytes(32), 'invalid offset for tensor `a`'),
    (
      {'a': entry(), 'b': entry(offsets=(12, 36))},
      bytes(36),
      'invalid offset for tensor `b`',
    ),
  ],
)
def test_broken_safetensors(tmp_path, header, content, message):
  with pytest.raises(InputError, match=message) as error:
    interop.load(stored(tmp_path / 'a.safetensors', header, content))
  assert 'a.safetensors' in str(error.value)
  assert '\n' not in str(error.value)


def test_safetensors_of_a_wrong_length(tmp_path):
  path = tmp_path / 'a.safetensors'
  path.write_bytes(struct.pack('<Q', 1 << 60) + b'{}')
  with pytest.raises(InputError, match='header too large'):
    interop.load(path)
  for content in (b'', b'\x80\x02}', b'abc' * 9):
    path.write_bytes(content)
    with pytest.raises(InputError, match='neither safetensors nor a zip'):
      interop.load(path)
  stored(path, {'a': entry()}, bytes(24))
  with pytest.raises(InputError, match='no key'):
    interop.load(path, key='model')
  with pytest.raises(InputError, match='No such file'):
    interop.load(tmp_path / 'nope.pt')
  with pytest.raises(InputError, match=r'must end in \.safetensors'):
    interop.save(tmp_path / 'a.bin', {})
  with pytest.raises(InputError, match='cannot be written'):
    interop.save('/nonexistent/a.safetensors', {})


def test_a_header_that_looks_like_a_zip(tmp_path):
  """A header of 0x4b50 bytes makes the file begin with PK."""
  header = {'a': entry(), '__metadata__': {'note': ''}}
  header['__metadata__']['note'] = 'n' * (0x4B50 - len(json.dumps(header)))
  path = stored(tmp_path / 'a.safetensors', header, bytes(24))
  assert path.read_bytes().startswith(b'PK')
  assert list(interop.load(path)) == ['a']


def test_no_more_than_the_bytes_allowed(tmp_path):
  path = stored(tmp_path / 'a.safetensors', {'a': entry()}, bytes(24))
  assert safetensors.read(path, max_bytes=24)['a'].shape == (2, 3)
  with pytest.raises(InputError, match='24 bytes, more than the 23 allowed'):
    interop.load(path, max_bytes=23)


def test_without_safetensors_the_message_says_what_to_install(tmp_path, monkeypatch):
  path = tmp_path / 'a.safetensors'
  interop.save(path, {'a': np.ones(2, np.float32)})
  monkeypatch.setitem(sys.modules, 'safetensors', None)
  with pytest.raises(ImportError, match='pip install safetensors'):
    interop.load(path)


def linears(names):
  """state_dict of Linear(3, 3)s, layer i full of i, in the order of `names`."""
  return {
    f'{name}.{variable}': np.full(shape, i, np.float32)
    for i, name in enumerate(names)
    for variable, shape in (('weight', (3, 3)), ('bias', (3,)))
  }


def dense(count):
  layer = {'kernel': np.zeros((3, 3), np.float32), 'bias': np.zeros(3, np.float32)}
  return {f'layers_{i}': layer for i in range(count)}


def test_an_alphabetical_order_is_not_the_models(tmp_path):
  """The safetensors library sorts by name: layer 10 comes before layer 2."""
  state = linears(f'net.{i}' for i in range(12))
  path = tmp_path / 'a.safetensors'
  peer.save_file(state, path)
  by_name = dict(sorted(state.items()))
  assert list(interop.load(path)) == list(by_name)
  for source in (path, by_name, state):
    loaded = interop.load_into(dense(12), source)
    found = [float(loaded[f'layers_{i}']['kernel'].max()) for i in range(12)]
    assert found == list(range(12))
    back = interop.from_params(loaded, like=source)
    for name, value in state.items():
      np.testing.assert_array_equal(back[name], value)


def test_an_alphabetical_order_without_numbers_is_none(tmp_path):
  state = linears(('encoder', 'classifier'))
  peer.save_file(state, tmp_path / 'a.safetensors')
  for source in (tmp_path / 'a.safetensors', dict(sorted(state.items()))):
    with pytest.raises(InputError, match=r"'classifier', 'encoder' .* no order: say"):
      interop.load_into(dense(2), source)
  mapping = {'layers_0': 'encoder', 'layers_1': 'classifier'}
  for source, given in ((state, None), (tmp_path / 'a.safetensors', mapping)):
    loaded = interop.load_into(dense(2), source, given)
    assert float(loaded['layers_0']['bias'].max()) == 0
    assert float(loaded['layers_1']['bias'].max()) == 1


def test_a_broken_layer_is_named():
  state = linears(['head']) | {
    'rnn.weight_ih_l0': np.ones((16, 3)),
    'rnn.weight_hh_l0': np.ones((16, 4)),
    'rnn.bias_ih_l0': np.ones(16),
  }
  message = "layer 'rnn/l0' of the state_dict needs bias_ih and bias_hh"
  with pytest.raises(InputError, match=message):
    interop.load_into(dense(1), state)
  state['rnn.weight_hh_l0'] = np.ones((17, 4))
  message = r"layer 'rnn/l0' of the state_dict is no LSTM: .*\(3, 16\) and \(4, 17\)"
  with pytest.raises(InputError, match=message):
    interop.load_into(dense(1), state)
