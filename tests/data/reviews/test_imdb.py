"""The way of the IMDB reviews from archive, folder or network to arrays and cache."""

import functools
import gzip
import hashlib
import http.server
import io
import logging
import pathlib
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import time

import numpy as np
import pytest

from seqjax.data import network
from seqjax.data.reviews import imdb, word_ids
from seqjax.types import InputError

SETTINGS = {'vocab_size': 30, 'length': 9}


def some_files(num: int = 5) -> dict[str, bytes]:
  """A tiny set in the published layout, 2 to `num` reviews a class, in no order."""
  rng = np.random.default_rng(0)
  words = ['film', 'plot', 'Good', 'bad,', 'the', 'a', "isn't", 'größer', '<br />']
  files = {}
  for split, label, n in (
    ('train', 'pos', num), ('test', 'neg', 2), ('train', 'neg', num - 1),
    ('test', 'pos', 3),
  ):  # fmt: skip
    for i in rng.permutation(n):
      text = ' '.join([split, label, str(i), *rng.choice(words, 12 + i)])
      files[f'aclImdb/{split}/{label}/{i}_{i % 5 + 3}.txt'] = text.encode()
  return files


# What else the published archive holds.
MORE = {
  'aclImdb/README': b'Large Movie Review Dataset v1.0',
  'aclImdb/imdb.vocab': b'the\nand\n',
  'aclImdb/imdbEr.txt': b'0.0490972013402\n',
  'aclImdb/train/labeledBow.feat': b'9 0:9 1:1\n'
  * 200_000,  # more than a review may be
  'aclImdb/train/unsupBow.feat': b'0 0:8\n',
  'aclImdb/train/urls_pos.txt': b'http://www.imdb.com/title/tt0453418/usercomments\n',
  'aclImdb/train/unsup/0_0.txt': b'nobody knows \xff',
  'aclImdb/test/urls_neg.txt': b'',
}


def tar_gz(files: dict[str, bytes], *more: tarfile.TarInfo) -> bytes:
  file = io.BytesIO()
  with tarfile.open(fileobj=file, mode='w:gz', format=tarfile.GNU_FORMAT) as tar:
    for name, content in files.items():
      info = tarfile.TarInfo(name)
      info.size = len(content)
      tar.addfile(info, io.BytesIO(content))
    for info in more:
      tar.addfile(info)
  return file.getvalue()


def unpack(files: dict[str, bytes], folder: pathlib.Path) -> None:
  for name, content in files.items():
    folder.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
    folder.joinpath(name).write_bytes(content)


@pytest.fixture
def data_dir(tmp_path) -> pathlib.Path:
  """A data folder with the repacked archive."""
  folder = tmp_path / 'data'
  folder.mkdir()
  folder.joinpath('aclImdb_v1.tar.gz').write_bytes(tar_gz(some_files()))
  return folder


@pytest.fixture
def load(tmp_path):
  return functools.partial(imdb.load, **SETTINGS, cache_dir=str(tmp_path / 'cache'))


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
  """No test may reach the real address, whatever goes wrong."""
  closed = socket.create_server(('127.0.0.1', 0))
  port = closed.getsockname()[1]
  closed.close()
  set_published(monkeypatch, f'http://127.0.0.1:{port}/aclImdb_v1.tar.gz', b'other')


def set_published(monkeypatch, url: str, content: bytes) -> None:
  """Makes this the archive that the network is said to have."""
  from seqjax.data.reviews import imdb_builder

  size, sha256 = len(content), hashlib.sha256(content).hexdigest()
  monkeypatch.setattr(imdb, 'URL', url)
  monkeypatch.setattr(imdb, '_published', lambda: imdb._Published(size, sha256))
  info = imdb_builder.tfds.core.download.checksums.UrlInfo(
    size=size, checksum=sha256, filename='aclImdb_v1.tar.gz'
  )
  monkeypatch.setattr(imdb_builder.ImdbReviews, 'url_infos', {url: info})


def same(one: word_ids.ReviewData, two: word_ids.ReviewData) -> None:
  for a, b in zip(one[:2], two[:2], strict=True):
    np.testing.assert_array_equal(a.x, b.x)
    np.testing.assert_array_equal(a.y, b.y)
    assert (a.x.dtype, a.y.dtype) == (b.x.dtype, b.y.dtype) == (np.int32, np.float32)
  assert one.vocabulary.words == two.vocabulary.words
  assert one[3:] == two[3:]


def test_texts_are_the_files_sorted_by_name_and_shuffled_once(data_dir, tmp_path):
  texts = imdb.load_texts(str(data_dir), str(tmp_path / 'cache'))
  for split, found in zip(('train', 'test'), texts, strict=True):
    names = sorted(name for name in some_files() if name.split('/')[1] == split)
    order = np.random.RandomState(word_ids.SHUFFLE_SEED).permutation(len(names))
    assert found.texts == [some_files()[names[i]].decode() for i in order]
    assert found.labels.tolist() == ['/pos/' in names[i] for i in order]


def test_rows_are_the_encoded_texts_in_their_order(data_dir, tmp_path, load):
  train, test = imdb.load_texts(str(data_dir), str(tmp_path / 'cache'))
  same(load(str(data_dir)), word_ids.encode(train, test, **SETTINGS))


def test_archive_published_archive_and_folder_give_the_same(data_dir, tmp_path, load):
  expected = load(str(data_dir))
  published = tmp_path / 'published'
  published.mkdir()
  files = MORE | dict(sorted(some_files().items(), reverse=True))
  published.joinpath('aclImdb_v1.tar.gz').write_bytes(tar_gz(files))
  same(load(str(published)), expected)
  unpacked = tmp_path / 'unpacked'
  unpack(files, unpacked)
  same(load(str(unpacked)), expected)


def test_an_unpacked_folder_comes_before_the_archive(data_dir, load):
  unpack(some_files(7), data_dir)
  assert load(str(data_dir)).train_stats.num_reviews == 7 + 6


def test_negatives_and_positives_are_mixed(tmp_path, load):
  folder = tmp_path / 'data'
  unpack(some_files(40), folder)
  y = load(str(folder)).train.y
  assert 0.2 < y[-16:].mean() < 0.8
  assert 0.2 < y[:16].mean() < 0.8


def test_the_second_start_reads_the_cache_alone(data_dir, load, monkeypatch):
  first = load(str(data_dir))

  def fail(*args, **kwargs):
    raise AssertionError('prepared again')

  monkeypatch.setattr(imdb, '_texts', fail)
  monkeypatch.setattr(word_ids, 'encode', fail)
  same(load(str(data_dir)), first)


def test_a_second_start_imports_neither_tensorflow_datasets_nor_jax(
  data_dir, tmp_path, load
):
  load(str(data_dir))
  code = f"""
import sys
from seqjax.data.reviews import imdb
data = imdb.load({str(data_dir)!r}, cache_dir={str(tmp_path / 'cache')!r}, **{SETTINGS})
heavy = {{'jax', 'flax', 'tensorflow', 'tensorflow_datasets'}} & set(sys.modules)
print(len(data.train.y), heavy)
"""
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert done.stdout == '9 set()\n'


def test_other_settings_use_the_prepared_texts_and_another_entry(
  data_dir, tmp_path, load, monkeypatch
):
  load(str(data_dir))
  monkeypatch.setattr(imdb, 'read_source', None)  # the source is not read again
  longer = load(str(data_dir), length=11)
  assert longer.train.x.shape == (9, 11)
  smaller = load(str(data_dir), vocab_size=6)
  assert smaller.train.x.max() == 5
  kinds = [p.name.rsplit('-', 1)[0] for p in (tmp_path / 'cache').glob('imdb-*')]
  assert sorted(kinds) == ['imdb-arrays'] * 3 + ['imdb-texts']


def test_a_changed_archive_is_read_again(data_dir, load):
  first = load(str(data_dir))
  path = data_dir / 'aclImdb_v1.tar.gz'
  files = some_files()
  files['aclImdb/train/pos/0_3.txt'] = b'something else entirely'
  path.write_bytes(tar_gz(files))
  assert load(str(data_dir)).train_stats != first.train_stats


def test_a_changed_file_of_a_folder_is_read_again(tmp_path, load):
  folder = tmp_path / 'data'
  unpack(some_files(), folder)
  first = load(str(folder))
  path = folder / 'aclImdb/train/pos/0_3.txt'
  path.write_bytes(path.read_bytes().replace(b'train', b'TRAIL'))
  assert load(str(folder)).vocabulary.words != first.vocabulary.words


@pytest.mark.parametrize('kind', ['imdb-arrays', 'imdb-texts'])
def test_a_damaged_cache_is_built_again_and_that_is_said(
  kind, data_dir, tmp_path, load, caplog
):
  first = load(str(data_dir))
  if kind == 'imdb-texts':  # or else nobody looks at the texts
    shutil.rmtree(next((tmp_path / 'cache').glob('imdb-arrays-*')))
  (entry,) = (tmp_path / 'cache').glob(f'{kind}-*')
  path = max(
    (p for p in entry.rglob('*') if p.is_file()), key=lambda p: p.stat().st_size
  )
  content = bytearray(path.read_bytes())
  content[len(content) * 2 // 3] ^= 32
  path.write_bytes(content)
  with caplog.at_level(logging.WARNING):
    same(load(str(data_dir)), first)
  assert f'{entry} is damaged' in caplog.text
  assert path.name in caplog.text


def test_the_data_folder_is_only_read(data_dir, load):
  before = data_dir.stat().st_mtime_ns
  load(str(data_dir))
  assert [p.name for p in data_dir.iterdir()] == ['aclImdb_v1.tar.gz']
  assert data_dir.stat().st_mtime_ns == before


def test_nothing_is_printed(data_dir, load, capfd):
  load(str(data_dir))
  captured = capfd.readouterr()
  assert captured.out == captured.err == ''


# What is wrong with the data.


def refused(load, data_dir, match) -> str:
  """Loads, expects one line that names the source, and no half entry in the cache."""
  with pytest.raises(InputError, match=match) as caught:
    load(str(data_dir))
  message = str(caught.value)
  assert str(data_dir) in message
  assert '\n' not in message
  cache_dir = pathlib.Path(load.keywords['cache_dir'])
  assert [p.name for p in cache_dir.glob('*') if p.name != 'downloads'] == []
  return message


@pytest.mark.parametrize(
  'name',
  ['/aclImdb/train/pos/9_9.txt', '../aclImdb/train/pos/9_9.txt', 'aclImdb/../../x.txt'],
)
def test_a_path_that_leads_out_is_refused_by_name(name, data_dir, load):
  content = tar_gz(some_files() | {name: b'x'})
  data_dir.joinpath('aclImdb_v1.tar.gz').write_bytes(content)
  assert repr(name) in refused(load, data_dir, 'plain relative path')


@pytest.mark.parametrize('kind', [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_a_link_or_device_is_refused_by_name(kind, data_dir, load):
  info = tarfile.TarInfo('aclImdb/train/pos/9_9.txt')
  info.type, info.linkname = kind, '/etc/passwd'
  data_dir.joinpath('aclImdb_v1.tar.gz').write_bytes(tar_gz(some_files(), info))
  refused(load, data_dir, r"'aclImdb/train/pos/9_9\.txt' is")


@pytest.mark.parametrize(
  'name',
  [
    'aclImdb/train/pos/notes.txt',
    'aclImdb/test/neg/.hidden',
    'aclImdb/train/neg/1_2.txt.gz',
    'aclImdb/train/neg/1_2.TXT',
    'aclImdb/train/neg/\u0661_\u0662.txt',  # digits, but Arabic ones
    'aclImdb/train/neg/deeper/1_2.txt',
    'aclImdb/train/neg/1_2.txt/1_2.txt',
  ],
)
@pytest.mark.parametrize('packed', [True, False])
def test_a_file_that_has_no_place_in_the_layout_is_refused_by_name(
  name, packed, data_dir, load
):
  files = some_files() | {name: b'x'}
  if packed:
    data_dir.joinpath('aclImdb_v1.tar.gz').write_bytes(tar_gz(files))
  else:
    unpack(files, data_dir)
  assert repr(name) in refused(load, data_dir, 'has no place in the layout')


@pytest.mark.parametrize('packed', [True, False])
def test_what_systems_leave_is_skipped_and_counted(
  packed, data_dir, load, tmp_path, caplog
):
  expected = load(str(data_dir))
  names = ['.DS_Store', '._0_3.txt', 'Thumbs.db', 'thumbs.db', 'desktop.ini']
  litter = {f'aclImdb/test/neg/{name}': b'\0\xff' for name in names}
  litter |= {'aclImdb/train/.DS_Store': b'', 'aclImdb/train/pos/@eaDir/1_2.txt': b'x'}
  files = some_files() | litter
  other = tmp_path / 'other'
  other.mkdir()
  if packed:
    other.joinpath('aclImdb_v1.tar.gz').write_bytes(tar_gz(files))
  else:
    unpack(some_files(), other)
    before = load(str(other))
    unpack(litter, other)
  with caplog.at_level(logging.INFO, 'seqjax'):
    found = load(str(other))
  same(found, expected)
  said = [m for m in caplog.messages if 'skipped 7 files that systems leave' in m]
  assert len(said) == packed  # of a folder the cache is right still
  if not packed:
    same(before, expected)
    assert imdb.read_source(other / 'aclImdb') == imdb.read_source(
      data_dir / 'aclImdb_v1.tar.gz'
    )


@pytest.mark.parametrize('end', [b'\n', b'\r\n', b'\r\r\n', b'\r'])
def test_a_mark_and_line_ends_are_no_part_of_a_word(data_dir, tmp_path, load, end):
  """In a short row each word has a place that a stray character would move."""
  files = {name: text + b'\nthe end\n' for name, text in some_files().items()}
  data_dir.joinpath('aclImdb_v1.tar.gz').write_bytes(tar_gz(files))
  expected = load(str(data_dir))
  files = {n: b'\xef\xbb\xbf' + text.replace(b'\n', end) for n, text in files.items()}
  unpack(files, tmp_path / 'other')
  same(load(str(tmp_path / 'other')), expected)


@pytest.mark.parametrize('missing', ['train/neg', 'train/pos', 'test/neg', 'test/pos'])
@pytest.mark.parametrize('packed', [True, False])
def test_a_class_without_reviews_is_refused_by_name(missing, packed, data_dir, load):
  files = {n: c for n, c in some_files().items() if missing not in n}
  if packed:
    data_dir.joinpath('aclImdb_v1.tar.gz').write_bytes(tar_gz(files))
  else:
    unpack(files, data_dir)
  refused(load, data_dir, f'no review in aclImdb/{missing}/; expected aclImdb/')


def test_an_archive_of_something_else_is_refused(data_dir, load):
  content = tar_gz({'cifar/train/pos/1_2.txt': b'x'})
  data_dir.joinpath('aclImdb_v1.tar.gz').write_bytes(content)
  refused(load, data_dir, 'holds no review in aclImdb/train/neg/')


def test_an_empty_review_is_taken_and_is_its_start_id(data_dir, load):
  files = some_files() | {'aclImdb/test/pos/77_8.txt': b''}
  data_dir.joinpath('aclImdb_v1.tar.gz').write_bytes(tar_gz(files))
  x = load(str(data_dir)).test.x
  assert [0] * 8 + [1] in x.tolist()


def test_a_review_that_is_not_utf8_is_refused_by_name(data_dir, load):
  files = some_files() | {'aclImdb/test/pos/77_8.txt': 'Amélie'.encode('latin-1')}
  data_dir.joinpath('aclImdb_v1.tar.gz').write_bytes(tar_gz(files))
  refused(load, data_dir, r"'aclImdb/test/pos/77_8\.txt', line 1 is not UTF-8")


def test_a_review_of_more_than_a_mebibyte_is_refused_by_name(data_dir, load):
  files = some_files() | {'aclImdb/test/pos/77_8.txt': b'a ' * (2**19 + 1)}
  data_dir.joinpath('aclImdb_v1.tar.gz').write_bytes(tar_gz(files))
  refused(load, data_dir, r"'aclImdb/test/pos/77_8\.txt' has 1,048,578 bytes")


@pytest.mark.parametrize('share', [0.1, 0.6, 0.99])
def test_a_truncated_archive_is_refused(share, data_dir, load):
  path = data_dir / 'aclImdb_v1.tar.gz'
  content = path.read_bytes()
  path.write_bytes(content[: int(len(content) * share)])
  refused(load, data_dir, 'aclImdb_v1.tar.gz: damaged or cut short')


def test_a_flipped_bit_in_an_archive_is_refused(data_dir, load):
  """Stored without compression, so that the damage is a letter of a review."""
  path = data_dir / 'aclImdb_v1.tar.gz'
  content = gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=0)
  path.write_bytes(content.replace(b'film', b'fihm', 1))
  refused(load, data_dir, 'CRC check failed')


def test_a_page_that_was_saved_as_the_archive_is_refused(data_dir, load):
  data_dir.joinpath('aclImdb_v1.tar.gz').write_bytes(b'<html>Not found</html>')
  refused(load, data_dir, r'expected a tar, tar\.gz or zip archive')


def test_settings_are_looked_at_before_any_data(load):
  with pytest.raises(InputError, match='vocab_size=3'):
    load('/nowhere', vocab_size=3)


def test_a_cache_that_cannot_be_written_is_said(data_dir, tmp_path, load):
  tmp_path.joinpath('file').write_text('')
  with pytest.raises(InputError, match=r'`cache_dir`: cannot write to .*file'):
    load(str(data_dir), cache_dir=str(tmp_path / 'file'))


def test_a_disk_that_is_full_while_preparing_is_said(data_dir, load, monkeypatch):
  """array_record reports it as it does here: seen on a small tmpfs."""
  from seqjax.data.reviews import imdb_builder

  def close(*args, **kwargs):
    raise RuntimeError('write() failed: No space left on device; at byte 20971520')

  adapters = imdb_builder.tfds.core.file_adapters
  monkeypatch.setattr(adapters.ArrayRecordFileAdapter, 'write_examples', close)
  with pytest.raises(InputError, match=r'`cache_dir`: the disk of .* is full'):
    load(str(data_dir))
  cache_dir = pathlib.Path(load.keywords['cache_dir'])
  assert [p.name for p in cache_dir.iterdir()] == ['downloads']


# Where there is no data.


def test_a_data_folder_that_does_not_exist_is_refused_at_once(tmp_path, load):
  refused(load, tmp_path / 'nowhere', '`data_dir=.*No such file or directory; expected')


def test_a_data_dir_that_is_a_file_is_refused_at_once(data_dir, load):
  refused(load, data_dir / 'aclImdb_v1.tar.gz', '`data_dir=.*Not a directory; expected')


def test_a_link_to_nowhere_is_not_taken_for_no_data(tmp_path, load):
  tmp_path.joinpath('aclImdb').symlink_to(tmp_path / 'unmounted')
  refused(load, tmp_path, 'aclImdb: cannot be read')


@pytest.mark.parametrize('given', [True, False])
def test_without_data_and_network_the_error_says_what_to_put_where(
  given, tmp_path, load
):
  start = time.monotonic()
  with pytest.raises(InputError) as caught:
    load(str(tmp_path) if given else '')
  assert time.monotonic() - start < 10
  message = str(caught.value)
  assert '\n' not in message
  assert imdb.URL in message
  assert 'refused' in message
  assert 'get that file and give its folder with `data_dir`' in message
  expected = 'holds neither aclImdb/ nor aclImdb_v1.tar.gz' if given else 'not given'
  assert expected in message


def test_a_name_server_that_never_answers_is_not_waited_for(
  tmp_path, load, monkeypatch
):
  hang = threading.Event()
  monkeypatch.setattr(network, '_ANSWER_SECONDS', 0.2)
  monkeypatch.setattr(socket, 'getaddrinfo', lambda *a, **k: hang.wait(30) and [])
  start = time.monotonic()
  with pytest.raises(InputError, match=r'no answer within 0\.2 s'):
    load(str(tmp_path))
  assert time.monotonic() - start < 5
  hang.set()


# The published archive, from a server of our own.


@pytest.fixture
def serve(monkeypatch):
  """Serves bytes as the published archive; gives the list of requests."""
  servers = []

  def start(content: bytes, published: bytes | None = None, status: int = 200):
    requests = []

    class Handler(http.server.BaseHTTPRequestHandler):
      def do_HEAD(self):
        requests.append(self.command)
        self.send_response(status)
        self.send_header('Content-Length', str(len(content)))
        self.end_headers()

      def do_GET(self):
        self.do_HEAD()
        self.wfile.write(content)

      def log_message(self, *args):
        pass

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    servers.append(server)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f'http://127.0.0.1:{server.server_port}/aclImdb_v1.tar.gz'
    set_published(monkeypatch, url, content if published is None else published)
    return requests

  yield start
  for server in servers:
    server.shutdown()
    server.server_close()


def test_the_published_archive_is_downloaded_once(data_dir, tmp_path, load, serve):
  expected = load(str(data_dir))
  requests = serve(tar_gz(some_files() | MORE))
  same(load('', cache_dir=str(tmp_path / 'two')), expected)
  assert requests == ['HEAD', 'GET']
  same(load('', cache_dir=str(tmp_path / 'two')), expected)
  load('', length=5, cache_dir=str(tmp_path / 'two'))
  assert requests == ['HEAD', 'GET']
  # The download is kept: what was prepared of it can be made again without a network.
  for path in (tmp_path / 'two').glob('imdb-*'):
    shutil.rmtree(path)
  same(load('', cache_dir=str(tmp_path / 'two')), expected)
  assert requests == ['HEAD', 'GET']


def test_a_damaged_download_is_downloaded_again(tmp_path, load, serve, caplog):
  requests = serve(tar_gz(some_files()))
  expected = load('')
  cache_dir = tmp_path / 'cache'
  (path,) = (cache_dir / 'downloads').rglob('*.tar.gz')
  path.write_bytes(path.read_bytes()[:-1])
  for entry in cache_dir.glob('imdb-*'):
    shutil.rmtree(entry)
  same(load(''), expected)
  assert requests == ['HEAD', 'GET'] * 2
  assert f'{path} is damaged' in caplog.text


def test_data_of_the_user_comes_before_the_network(data_dir, load, serve):
  requests = serve(tar_gz(some_files(7)))
  assert load(str(data_dir)).train_stats.num_reviews == 9
  assert requests == []


def test_a_download_of_another_size_is_not_begun(load, serve):
  requests = serve(b'<html>Please log in</html>', published=tar_gz(some_files()))
  with pytest.raises(InputError, match='it has 26 bytes instead of'):
    load('')
  assert requests == ['HEAD']


def test_a_download_with_another_checksum_is_not_used(load, serve):
  content = tar_gz(some_files())
  serve(content[:-1] + b'?', published=content)
  with pytest.raises(InputError, match='is not the published archive') as caught:
    load('')
  assert '\n' not in str(caught.value)
  cache_dir = pathlib.Path(load.keywords['cache_dir'])
  assert not list(cache_dir.glob('imdb-*'))


def test_nothing_is_downloaded_without_a_checksum(load, serve, monkeypatch):
  from seqjax.data.reviews import imdb_builder

  requests = serve(tar_gz(some_files()))
  monkeypatch.setattr(imdb_builder.ImdbReviews, 'url_infos', {})
  with pytest.raises(ValueError, match='Missing checksums url'):
    load('')
  assert requests == ['HEAD']


def test_a_server_that_has_lost_the_archive_is_said(load, serve):
  serve(tar_gz(some_files()), status=404)
  with pytest.raises(InputError, match=r'cannot be had \(Not Found\)'):
    load('')


def test_the_checksum_is_that_of_tensorflow_datasets(monkeypatch):
  """Their builder of the same name downloads the same archive."""
  monkeypatch.undo()
  import tensorflow_datasets as tfds

  theirs = pathlib.Path(tfds.__file__).parent / 'datasets/imdb_reviews/checksums.tsv'
  url, size, sha256, name = theirs.read_text(encoding='utf-8').strip().split('\t')
  assert (url, name) == (imdb.URL, imdb.ARCHIVE)
  assert imdb._published() == imdb._Published(int(size), sha256)


@pytest.mark.real_data
@pytest.mark.slow
def test_the_real_reviews(real_data, tmp_path):
  """Numbers of the published archive, and ids that all have seen in Keras's set."""
  start = time.process_time()  # whoever else is using the machine
  data = imdb.load(
    str(real_data), vocab_size=10_000, length=500, cache_dir=str(tmp_path)
  )
  first_seconds = time.process_time() - start
  for examples, stats in zip(data[:2], data[3:], strict=True):
    assert examples.x.shape == (25_000, 500)
    assert examples.y.sum() == stats.num_positive == 12_500
    assert abs(examples.y[-5_000:].mean() - 0.5) < 0.03  # mixed before the split
    assert examples.x.max() == 9_999
    assert examples.x.min() == 0
  assert ' '.join(data.vocabulary.words[:20]) == (
    'the and a of to is br in it i this that was as for with movie but film on'
  )
  assert data.train_stats.mean_length == pytest.approx(237.7, abs=0.1)
  assert data.train_stats.max_length == 2_493

  train, _ = imdb.load_texts(str(real_data), str(tmp_path))
  words = {word for text in train.texts for word in word_ids.split_words(text)}
  assert abs(len(words) - 88_580) < 20
  beginning = word_ids.split_words('This film was just brilliant: casting')
  (index,) = [
    i
    for i, text in enumerate(train.texts)
    if word_ids.split_words(text[:60])[:6] == beginning
  ]
  (row,) = data.vocabulary.encode([train.texts[index]])
  assert len(row) == 218
  assert row[:5].tolist() == [1, 14, 22, 16, 43]
  np.testing.assert_array_equal(data.train.x[index], [0] * 282 + row.tolist())
  assert train.labels[index] == data.train.y[index] == 1

  start = time.process_time()
  again = imdb.load(
    str(real_data), vocab_size=10_000, length=500, cache_dir=str(tmp_path)
  )
  second_seconds = time.process_time() - start
  same(again, data)
  assert second_seconds < 5
  assert first_seconds < 60
