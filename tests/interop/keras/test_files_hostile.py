"""Zip archives from strangers: refused before a byte is unpacked."""

import json
import struct
import tracemalloc
import zipfile

import pytest

from seqjax.interop import keras as interop
from seqjax.types import InputError

pytest.importorskip('h5py')


@pytest.fixture
def bounded_memory():
  """Python's and NumPy's allocations, those of the test's own files included."""
  tracemalloc.start()
  yield
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < 64 << 20


def zipped(path, members, **changes):
  """A zip of {name: content}; `changes` of its last member are made afterwards."""
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
    for name, content in members.items():
      archive.writestr(name, content)
  raw = bytearray(path.read_bytes())
  for signature, flags_at, size_at in ((b'PK\x03\x04', 6, 22), (b'PK\x01\x02', 8, 24)):
    at = raw.rindex(signature)
    if 'flags' in changes:
      raw[at + flags_at] |= changes['flags']
    if 'size' in changes:
      raw[at + size_at : at + size_at + 4] = struct.pack('<I', changes['size'])
  path.write_bytes(raw)


@pytest.mark.usefixtures('bounded_memory')
@pytest.mark.parametrize(
  ('members', 'changes', 'message'),
  [
    ({'../evil': b'1'}, {}, 'leads out of the archive'),
    ({'/etc/evil': b'1'}, {}, 'leads out of the archive'),
    ({'a\\..\\evil': b'1'}, {}, 'leads out of the archive'),
    ({'C:evil': b'1'}, {}, 'leads out of the archive'),
    ({'model.weights.h5': bytes(20 << 20)}, {}, 'would grow from'),
    ({'config.json': bytes(20 << 20)}, {}, 'would grow from'),
    ({'model.weights.h5': b'1'}, {'flags': 1}, 'is encrypted'),
    ({'model.weights.h5': b'12345'}, {'size': 3}, 'does not have the 3 bytes|readable'),
    (
      {'model.weights.h5': b'12345'},
      {'size': 90},
      'does not have the 90 bytes|readable',
    ),
    ({'config.json': b'{"config": {}}'}, {}, "no member 'model.weights.h5'"),
    ({'config.json': b'{' * 9}, {}, 'not readable JSON'),
    ({'config.json': b'[' * 200_000}, {}, 'not readable JSON'),
    ({'config.json': b'[1]'}, {}, 'not a JSON object'),
    (
      {'config.json': b'{"config": {"layers": [1]}}'},
      {},
      'not a configuration of Keras',
    ),
    ({'model.weights.h5': b'not HDF5'}, {}, 'not a readable HDF5'),
  ],
)
def test_hostile_zips(tmp_path, members, changes, message):
  zipped(tmp_path / 'a.keras', members, **changes)
  with pytest.raises(InputError, match=message):
    interop.load(tmp_path / 'a.keras')
  assert [p.name for p in tmp_path.iterdir()] == ['a.keras']


def test_a_member_that_occurs_twice(tmp_path):
  with zipfile.ZipFile(tmp_path / 'a.keras', 'w') as archive:
    archive.writestr('config.json', '{}')
    with pytest.warns(UserWarning, match='Duplicate name'):
      archive.writestr('config.json', '{}')
  with pytest.raises(InputError, match='occurs twice'):
    interop.load(tmp_path / 'a.keras')


def test_names_that_are_no_text(tmp_path):
  zipped(tmp_path / 'a.keras', {'\u00e9': b'1'})
  raw = (tmp_path / 'a.keras').read_bytes().replace('\u00e9'.encode(), b'\xff\xff')
  (tmp_path / 'a.keras').write_bytes(raw)
  with pytest.raises(InputError, match='not a readable zip'):
    interop.load(tmp_path / 'a.keras')


def nested_config(depth):
  config = {'class_name': 'Sequential', 'config': {'name': 'm', 'layers': []}}
  for _ in range(depth):
    config = {'class_name': 'Sequential', 'config': {'name': 'm', 'layers': [config]}}
  return json.dumps(config)


def test_models_in_models_without_end(tmp_path):
  zipped(tmp_path / 'a.keras', {'config.json': nested_config(100)})
  with pytest.raises(InputError, match='models in models, 33 deep'):
    interop.load(tmp_path / 'a.keras')
