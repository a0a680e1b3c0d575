"""The folder of compiled programs: private, and free of what a kill left."""

import importlib
import os
import subprocess
import sys
import time
import zlib

import jax
import jax.numpy as jnp
import pytest

from seqjax.cluster import compilation_cache
from seqjax.types import InputError


@pytest.fixture(autouse=True)
def _cache_of_the_tests():
  names = ('jax_compilation_cache_dir', 'jax_persistent_cache_min_compile_time_secs')
  before = {name: getattr(jax.config, name) for name in names}
  yield
  for name, value in before.items():
    jax.config.update(name, value)


@pytest.fixture
def folder(tmp_path):
  """Where the entries of this machine, JAX and kernels lie in a cache of `tmp_path`."""
  tmp_path.chmod(0o700)
  compilation_cache.use_compilation_cache(str(tmp_path))
  (found,) = tmp_path.iterdir()
  (found / 'looked-at').unlink()
  return found


def test_the_folder_is_made_for_its_owner_alone_and_filled(tmp_path):
  root = tmp_path / 'a' / 'b'
  compilation_cache.use_compilation_cache(str(root))
  (folder,) = root.iterdir()
  for path in (root, folder):
    assert path.stat().st_mode & 0o777 == 0o700
  assert jax.config.jax_compilation_cache_dir == str(folder)


@pytest.mark.parametrize('command', ['imdb_lstm', 'predict', 'generate', 'compose'])
def test_commands_keep_their_programs_in_the_user_s_cache(
  command, tmp_path, monkeypatch
):
  jax.config.update('jax_compilation_cache_dir', None)
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  module = importlib.import_module(f'experiments.{command}')
  settings = {'workdir': str(tmp_path / 'run')}
  if command == 'imdb_lstm':  # no parts of a batch: an end before anything is compiled
    settings |= {'dataset': 'synthetic', 'synthetic_size': 80, 'accumulate_steps': 3}
  with pytest.raises(InputError, match=r'`batch_size=128`|config\.json'):
    module.run(module.Config(**settings))
  root = tmp_path / 'seqjax' / 'programs'
  assert root.samefile(os.path.dirname(jax.config.jax_compilation_cache_dir))


PROGRAM = """
import logging, sys
logging.basicConfig(level='INFO', format='%(message)s')
import jax, numpy as np, seqjax as sj
from seqjax.cluster import compilation_cache
compilation_cache.use_compilation_cache(None)
layer = sj.LSTM(4, train=False)
x = np.linspace(-1, 1, 30, dtype=np.float32).reshape(2, 5, 3)
params = jax.jit(layer.init)(jax.random.key(0), x)
grads = jax.jit(lambda p: jax.grad(lambda p: layer.apply(p, x).sum())(p))(params)
print([np.asarray(grad).tobytes().hex() for grad in jax.tree.leaves(grads)])
"""


def _start(home):
  """Runs a recurrent kernel in a process of its own: its bits, logs, kept programs."""
  kept = {k: v for k, v in os.environ.items() if not k.startswith('JAX_')}
  kept |= {'XDG_CACHE_HOME': str(home), 'JAX_PLATFORMS': 'cpu'}
  done = subprocess.run(
    [sys.executable, '-c', PROGRAM],
    env=kept,
    capture_output=True,
    text=True,
    check=True,
  )
  programs = home.glob('seqjax/programs/*/jit__lambda*-cache')
  return done.stdout, done.stderr, {path: path.stat().st_mtime_ns for path in programs}


@pytest.mark.slow
def test_by_default_small_programs_are_kept_in_a_private_folder_of_the_user(tmp_path):
  bits, said, first = _start(tmp_path)
  assert len(first) == 1
  assert 'not kept' not in said
  assert (tmp_path / 'seqjax' / 'programs').stat().st_mode & 0o777 == 0o700
  assert _start(tmp_path) == (bits, said, first)  # read, not written again


def test_by_default_what_jax_was_told_stays_and_no_folder_is_no_error(
  tmp_path, monkeypatch, caplog
):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  caplog.set_level('INFO')
  own = str(tmp_path / 'own')
  jax.config.update('jax_compilation_cache_dir', own)  # $JAX_COMPILATION_CACHE_DIR
  compilation_cache.use_compilation_cache(None)
  assert jax.config.jax_compilation_cache_dir == own
  assert not list(tmp_path.iterdir())
  jax.config.update('jax_compilation_cache_dir', None)
  programs = tmp_path / 'seqjax' / 'programs'
  programs.mkdir(mode=0o755, parents=True)
  programs.chmod(0o755)
  assert 'not kept' not in caplog.text
  compilation_cache.use_compilation_cache(None)
  assert 'programs are not kept' in caplog.text
  assert 'chmod 700' in caplog.text
  assert jax.config.jax_compilation_cache_dir is None
  assert not list(programs.iterdir())


def test_another_processor_jax_or_kernel_has_programs_of_its_own(tmp_path, monkeypatch):
  library = tmp_path / 'libseqjax-any.so'
  library.write_bytes(b'one build')
  monkeypatch.setattr(compilation_cache.build, 'FOLDER', tmp_path)
  monkeypatch.setattr(compilation_cache.build, 'builds', lambda: ('any', 'lacking'))
  cpuinfo = tmp_path / 'cpuinfo'
  lines = 'processor: 0\nmodel name: A\ncpu MHz: {}\nflags: {}\n\nprocessor: 1\n'
  cpuinfo.write_text(lines.format(2000, 'avx2'))
  monkeypatch.setattr(compilation_cache, '_CPUINFO', cpuinfo)
  kinds = [compilation_cache._kind()]
  cpuinfo.write_text(lines.format(3000, 'avx2'))  # the clock is no other processor
  assert compilation_cache._kind() == kinds[0]
  cpuinfo.write_text(lines.format(3000, 'avx2 avx512f'))
  kinds.append(compilation_cache._kind())
  library.write_bytes(b'another build')
  kinds.append(compilation_cache._kind())
  monkeypatch.setattr(jax, '__version__', '0.0.1')
  kinds.append(compilation_cache._kind())
  cpuinfo.unlink()
  kinds.append(compilation_cache._kind())
  assert len(set(kinds)) == 5


def test_the_oldest_entries_go_when_there_are_too_many(tmp_path, folder, monkeypatch):
  other = tmp_path / 'jax-0.0.1-0'
  other.mkdir()
  for age, path in enumerate((folder / 'new', folder / 'old', other / 'oldest')):
    entry = path.with_name(f'{path.name}-cache')
    entry.write_bytes(zlib.compress(os.urandom(1000)))
    os.utime(entry, (10**9 - age,) * 2)
  monkeypatch.setattr(compilation_cache, '_MOST_BYTES', 2100)
  compilation_cache.use_compilation_cache(str(tmp_path))
  names = {path.name for path in tmp_path.glob('*/*-cache')}
  assert names == {'new-cache', 'old-cache'}


@pytest.mark.parametrize('mode', [0o755, 0o770, 0o707])
def test_a_folder_that_others_can_reach_is_refused(tmp_path, mode):
  tmp_path.chmod(mode)
  with pytest.raises(InputError, match=f'chmod 700.*{mode:o}'):
    compilation_cache.use_compilation_cache(str(tmp_path))


def test_a_file_is_refused(tmp_path):
  (tmp_path / 'file').touch()
  with pytest.raises(InputError, match='`compilation_cache`'):
    compilation_cache.use_compilation_cache(str(tmp_path / 'file'))


def test_an_entry_cut_short_by_a_kill_is_removed(tmp_path, folder):
  whole = zlib.compress(os.urandom(3_000_000))
  contents = {
    'whole-cache': whole,
    'cut-cache': whole[:-1],
    'empty-cache': b'',
    'other-cache': b'\x28\xb5\x2f\xfd rest',
    'odd-cache': b'no compressed data',
  }
  for name, data in contents.items():
    (folder / name).write_bytes(data)
    os.utime(folder / name, (0, 0))
  (folder / 'new-cache').write_bytes(whole[:-1])  # perhaps being written
  compilation_cache.use_compilation_cache(str(tmp_path))
  names = {path.name for path in folder.glob('*-cache')}
  assert names == {'whole-cache', 'other-cache', 'new-cache'}


def test_each_entry_is_looked_at_once(tmp_path, folder, monkeypatch):
  looks, is_whole = [], compilation_cache._is_whole

  def spy(entry):
    looks.append(entry.name)
    return is_whole(entry)

  monkeypatch.setattr(compilation_cache, '_is_whole', spy)

  def start(minutes):
    """A start so many minutes from now; what it looks at, and what it leaves."""
    now = time.time() + 60 * minutes
    with monkeypatch.context() as patch:
      patch.setattr(time, 'time', lambda: now)
      looks.clear()
      compilation_cache.use_compilation_cache(str(tmp_path))
    return sorted(looks), sorted(path.name for path in folder.glob('*-cache'))

  whole = zlib.compress(b'program')
  (folder / 'one-cache').write_bytes(whole)
  assert start(0) == ([], ['one-cache'])  # too young: perhaps being written
  assert start(2) == (['one-cache'], ['one-cache'])
  assert start(3) == ([], ['one-cache'])
  (folder / 'two-cache').write_bytes(whole[:-1])  # cut while the third was running
  (folder / 'three-cache').write_bytes(whole)
  for name in ('two-cache', 'three-cache'):
    os.utime(folder / name, (time.time() + 200,) * 2)
  assert start(4) == ([], ['one-cache', 'three-cache', 'two-cache'])
  assert start(6) == (['three-cache', 'two-cache'], ['one-cache', 'three-cache'])
  assert start(9) == ([], ['one-cache', 'three-cache'])


def test_what_jax_writes_counts_as_whole(tmp_path):
  jax.jit(lambda x: x * 3 + 1)(jnp.arange(7)).block_until_ready()
  folder = jax.config.jax_compilation_cache_dir
  entries = list(os.scandir(folder))
  are_whole = [
    compilation_cache._is_whole(tmp_path / e.path)
    for e in entries
    if '-cache' in e.name
  ]
  assert are_whole
  assert all(are_whole)
