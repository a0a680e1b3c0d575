"""Files from strangers: damaged, too large, or not what they seem."""

import json
import pickle
import subprocess
import sys
import tracemalloc
import zipfile

import jax
import numpy as np
import pytest

from seqjax.interop import keras as interop
from seqjax.types import InputError

h5py = pytest.importorskip('h5py')
keras = pytest.importorskip('keras')

import keras_models as models  # noqa: E402  (needs both)

# Of Keras, where it hands its variables to NumPy.
pytestmark = pytest.mark.filterwarnings(
  'ignore:__array__ implementation:DeprecationWarning'
)


@pytest.fixture(scope='module', autouse=True)
def rank_promotion():
  with jax.numpy_rank_promotion('allow'):  # Keras adds [H] to [B, T, H]
    yield


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  """A Conv1D net in each format."""
  folder = tmp_path_factory.mktemp('saved')
  model = models.keras_conv()
  model.save(folder / 'conv.keras')
  model.save(folder / 'conv.h5')
  model.save_weights(folder / 'conv.weights.h5')
  return folder


@pytest.fixture
def bounded_memory():
  """Python's and NumPy's allocations, those of the test's own files included."""
  tracemalloc.start()
  yield
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < 64 << 20


@pytest.mark.parametrize(
  'content', [b'', b'PK\x03\x04', b'\x89HDF\r\n\x1a\n', b'a' * 99]
)
def test_the_command_refuses_other_files_in_one_line(tmp_path, capsys, content):
  (tmp_path / 'a.keras').write_bytes(content)
  assert interop.main(['show', str(tmp_path / 'a.keras')]) == 2
  out, err = capsys.readouterr()
  assert out == ''
  assert err.startswith('error: ')
  assert err.count('\n') == 1
  assert 'a.keras' in err


def test_names_from_a_file_do_not_steer_the_terminal(tmp_path, capsys):
  with h5py.File(tmp_path / 'a.weights.h5', 'w') as file:
    file['layers/dense/vars/0'] = np.ones((2, 3))
    file['layers/dense/vars'].attrs['name'] = 'x\x1b[2J\ny'
  assert interop.main(['show', str(tmp_path / 'a.weights.h5')]) == 0
  out = capsys.readouterr().out
  assert '\x1b' not in out
  assert out.count('\n') == 5
  with h5py.File(tmp_path / 'a.weights.h5', 'a') as file:
    file['x\x1b[2J'] = np.ones(3)
  assert interop.main(['show', str(tmp_path / 'a.weights.h5')]) == 2
  err = capsys.readouterr().err
  assert 'x\\x1b[2J is not how' in err
  assert '\x1b' not in err


def test_names_that_are_no_text(tmp_path):
  with h5py.File(tmp_path / 'a.weights.h5', 'w') as file:
    file.create_group(b'layers\xff')
  with pytest.raises(InputError, match='is not a name in UTF-8'):
    interop.load(tmp_path / 'a.weights.h5')


def external_link(file, folder):
  file['layers/dense/vars'] = h5py.ExternalLink(folder / 'secret.h5', '/vars')


def soft_link(file, folder):
  file['optimizer/0'] = np.ones(3)  # is passed by
  file['layers/dense/vars'] = h5py.SoftLink('/optimizer')


def external_storage(file, folder):
  (folder / 'secret.bin').write_bytes(bytes(48))
  file.create_dataset(
    'layers/dense/vars/0', (12,), 'f4', external=[(str(folder / 'secret.bin'), 0, 48)]
  )


def virtual_dataset(file, folder):
  layout = h5py.VirtualLayout((4,), 'f4')
  layout[:] = h5py.VirtualSource(folder / 'secret.h5', 'vars/0', (4,))
  file.create_virtual_dataset('layers/dense/vars/0', layout)


def huge_unallocated(file, folder):
  file.create_dataset('layers/dense/vars/0', (1 << 20, 1 << 20), 'f4')


def huge_chunked(file, folder):
  file.create_dataset(
    'layers/dense/vars/0', (1 << 20, 1 << 20), 'f4', chunks=(64, 64), compression='gzip'
  )


def bomb(file, folder):
  file.create_dataset(
    'layers/dense/vars/0', data=np.zeros((16, 1 << 18), 'f4'), compression='gzip'
  )


def bomb_in_a_chunk(file, folder):
  """4 kB of a chunk of 1 GB, in 9 kB: gzip of gzip's own rate, from its bytes."""
  data = file.create_dataset(
    'layers/dense/vars/0',
    (1000,),
    'f4',
    maxshape=(None,),
    chunks=(1 << 28,),
    compression='gzip',
  )
  data.id.write_direct_chunk((0,), bytes(9000))


def circle(file, folder):
  group = file.create_group('layers/dense')
  group['self'] = file['layers']


def objects(file, folder):
  file['layers/dense/vars/0'] = ['a', 'b']


def named_type(file, folder):
  file['layers/dense/vars/0'] = np.dtype('f4')


def null_dataset(file, folder):
  file['layers/dense/vars/0'] = h5py.Empty('f4')


def stray_dataset(file, folder):
  file['layers/dense/kernel'] = np.ones(3)


HOSTILE = {
  external_link: 'is a link to somewhere else',
  soft_link: 'is a link to somewhere else',
  external_storage: 'keeps its data in another file',
  virtual_dataset: 'keeps its data in another file',
  huge_unallocated: 'declares .* stores 0',
  huge_chunked: 'declares .* stores 0',
  bomb: 'declares',
  bomb_in_a_chunk: '1073741824 bytes to unpack, and stores 9000',
  circle: 'circle',
  objects: 'not numbers',
  named_type: 'neither group nor dataset',
  null_dataset: 'is empty',
  stray_dataset: 'not how Keras 3 stores',
}


@pytest.mark.usefixtures('bounded_memory')
@pytest.mark.parametrize('zip_it', [False, True])
@pytest.mark.parametrize('make', HOSTILE, ids=lambda make: make.__name__)
def test_hostile_hdf5(tmp_path, make, zip_it, capsys):
  with h5py.File(tmp_path / 'secret.h5', 'w') as file:
    file['vars/0'] = np.ones(4, 'f4')
  path = tmp_path / 'a.weights.h5'
  with h5py.File(path, 'w') as file:
    make(file, tmp_path)
  if zip_it:
    with zipfile.ZipFile(tmp_path / 'a.keras', 'w') as archive:
      archive.write(path, 'model.weights.h5')
    path = tmp_path / 'a.keras'
  with pytest.raises(InputError, match=HOSTILE[make]):
    interop.load(path)
  assert interop.main(['show', str(path)]) == 2
  assert capsys.readouterr().err.count('\n') == 1


def test_an_attribute_of_an_unknown_type(saved, tmp_path):
  raw = (saved / 'conv.weights.h5').read_bytes()
  utf8 = b'name\x00\x00\x00\x00\x19\x01\x01'  # a string of any length, encoding 1
  assert utf8 in raw
  raw = raw.replace(utf8, utf8[:-1] + b'\x06')
  (tmp_path / 'a.weights.h5').write_bytes(raw)
  with pytest.raises(InputError, match='damaged HDF5 file: Unknown string encoding'):
    interop.load(tmp_path / 'a.weights.h5')


def test_hostile_legacy_files(tmp_path):
  models.legacy_keras2_file(tmp_path / 'a.h5', config=True)
  with h5py.File(tmp_path / 'a.h5', 'a') as file:
    del file['model_weights/dense_1']
    file['model_weights/dense_1'] = h5py.ExternalLink('secret.h5', '/')
  with pytest.raises(InputError, match='link to somewhere else'):
    interop.load(tmp_path / 'a.h5')
  with h5py.File(tmp_path / 'a.h5', 'a') as file:
    file.attrs['model_config'] = '{'
  with pytest.raises(InputError, match='model_config: not readable JSON'):
    interop.load(tmp_path / 'a.h5')
  with h5py.File(tmp_path / 'a.h5', 'a') as file:
    file.attrs['model_config'] = np.ones(3)
  with pytest.raises(InputError, match="'model_config' of '/' is not one string"):
    interop.load(tmp_path / 'a.h5')
  with h5py.File(tmp_path / 'a.h5', 'a') as file:
    del file.attrs['model_config']
    numbers = h5py.h5t.vlen_create(h5py.h5t.NATIVE_UINT8)  # damaged, this can crash
    scalar = h5py.h5s.create(h5py.h5s.SCALAR)
    h5py.h5a.create(file.id, b'model_config', numbers, scalar)
  with pytest.raises(InputError, match="'model_config' of '/' is not one string"):
    interop.load(tmp_path / 'a.h5')


def test_damaged_bytes_never_end_in_another_error(saved, tmp_path):
  """Cut files, and files with some bytes changed: read, or InputError."""
  rng = np.random.default_rng(0)
  refused = 0
  for suffix in models.FORMATS:
    content = (saved / f'conv{suffix}').read_bytes()
    for i in range(40):
      damaged = bytearray(
        content[: int(rng.integers(len(content)))] if i % 2 else content
      )
      for at in rng.integers(0, min(len(damaged), 6000) or 1, 6 if damaged else 0):
        damaged[at] = rng.integers(256)
      path = tmp_path / f'a{suffix}'
      path.write_bytes(damaged)
      try:
        interop.load(path)
      except InputError as error:
        refused += '\n' not in str(error)
  assert refused > 50


def test_more_than_the_bytes_allowed(saved):
  with pytest.raises(InputError, match='more than the 100'):
    interop.load(saved / 'conv.weights.h5', max_bytes=100)


def test_pickles_are_never_opened(saved, tmp_path, monkeypatch):
  """Neither pickle nor marshal is reached, even with a Lambda in the configuration."""

  def refuse(*args, **kwargs):
    raise AssertionError('a file was unpickled')

  with zipfile.ZipFile(saved / 'conv.keras') as archive:
    config = json.loads(archive.read('config.json'))
    weights = archive.read('model.weights.h5')
  function = {'class_name': '__lambda__', 'config': {'code': 'gASV', 'defaults': None}}
  config['config']['layers'].append(
    {'class_name': 'Lambda', 'config': {'name': 'evil', 'function': function}}
  )
  with zipfile.ZipFile(tmp_path / 'a.keras', 'w') as archive:
    archive.writestr('config.json', json.dumps(config))
    archive.writestr('model.weights.h5', weights)
  monkeypatch.setattr(pickle, 'loads', refuse)
  monkeypatch.setattr(pickle, 'load', refuse)
  monkeypatch.setattr(pickle, 'Unpickler', refuse)
  assert len(interop.load(tmp_path / 'a.keras')) == 3


def test_without_h5py_the_message_says_what_to_install(saved, monkeypatch):
  monkeypatch.setitem(sys.modules, 'h5py', None)
  with pytest.raises(ImportError, match='pip install h5py'):
    interop.load(saved / 'conv.weights.h5')


def test_nothing_of_keras_is_imported(saved):
  """In a process of its own: no Keras, TensorFlow, torch or h5py comes in."""
  file = saved / 'conv.keras'
  code = (
    'import sys; from seqjax.interop import keras, torch, linen; '
    "print([m for m in ('keras', 'tensorflow', 'torch', 'h5py') if m in sys.modules]); "
    f'keras.load({str(file)!r}); '
    "print([m for m in ('keras', 'tensorflow', 'torch') if m in sys.modules])"
  )
  result = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert result.stdout.split() == ['[]', '[]']
