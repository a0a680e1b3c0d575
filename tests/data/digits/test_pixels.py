"""Digits: of a package, from files, once from the network, and what is refused."""

import functools
import gzip
import hashlib
import http.server
import threading

import numpy as np
import pytest
from tensorflow_datasets.core.download import checksums

from seqjax.data.digits import mnist_builder, pixels
from seqjax.types import InputError


def _idx(array, rank=None):
  head = bytes([0, 0, 8, array.ndim if rank is None else rank])
  sizes = b''.join(n.to_bytes(4, 'big') for n in array.shape)
  return head + sizes + array.astype(np.uint8).tobytes()


def _images(seed, number):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (number, 28, 28)), rng.integers(0, 10, number)


def _save(folder, *, packed=True, **changed):
  """Four files of 20 and 5 images; returns them."""
  folder.mkdir(parents=True, exist_ok=True)
  parts = {'train': _images(0, 20), 'test': _images(1, 5)}
  for part, (x, y) in parts.items():
    for kind, array in (('images', x), ('labels', y)):
      content = changed.get(f'{part}_{kind}', _idx(array))
      name = pixels.FILES[f'{part}_{kind}']
      if packed:
        (folder / name).write_bytes(gzip.compress(content))
      else:
        (folder / name.removesuffix('.gz')).write_bytes(content)
  return parts


def _check(found, parts):
  (x, y), (test_x, test_y) = parts['train'], parts['test']
  assert [part.x.shape for part in found] == [(18, 784, 1), (2, 784, 1), (5, 784, 1)]
  np.testing.assert_allclose(found.train.x[3, 28 * 5 + 7, 0], x[3, 5, 7] / 255)
  np.testing.assert_array_equal(found.validation.y, y[18:])
  np.testing.assert_allclose(found.test.x[..., 0], test_x.reshape(5, -1) / 255, 1e-6)
  np.testing.assert_array_equal(found.test.y, test_y)


@pytest.mark.parametrize('packed', [False, True])
def test_files_of_mnist_are_read(tmp_path, packed):
  parts = _save(tmp_path / 'mnist', packed=packed)
  _check(pixels.load('mnist', str(tmp_path)), parts)
  _check(pixels.load('mnist', str(tmp_path / 'mnist')), parts)


def test_what_is_no_mnist_is_refused_by_name(tmp_path):
  x, y = _images(0, 20)
  for name, content, message in (
    ('train_images', _idx(x)[:-1], r'train-images-idx3-ubyte\.gz: no IDX file'),
    ('train_images', _idx(y), r'no IDX file of bytes \[N, N, N\]'),
    ('test_images', _idx(x[:5, :8, :9]), r't10k.*: expected images of 28 .*got 8 x 9'),
    ('test_labels', b'', r't10k-labels-idx1-ubyte\.gz: no IDX file'),
    ('train_labels', _idx(y[:-1]), '20 images and .* 19 labels: expected as many'),
    ('train_labels', _idx(y + 3), 'expected as many, of 0 to 9'),
  ):
    _save(tmp_path, **{name: content})
    with pytest.raises(InputError, match=message):
      pixels.load('mnist', str(tmp_path))
  _save(tmp_path)
  packed = gzip.compress(_idx(y))
  for damaged in (packed[:3], packed[:-9], packed[:12] + b'!!' + packed[14:]):
    (tmp_path / pixels.FILES['test_labels']).write_bytes(damaged)
    with pytest.raises(InputError, match=r't10k-labels.*: cannot be read'):
      pixels.load('mnist', str(tmp_path))
  (tmp_path / pixels.FILES['test_labels']).unlink()
  with pytest.raises(InputError, match=r'expected t10k-labels.* beside the others'):
    pixels.load('mnist', str(tmp_path))


def test_mnist_comes_once_from_the_network(tmp_path, monkeypatch):
  served, asked = tmp_path / 'served', []
  parts = _save(served)

  class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
      asked.append(self.command)

  handler = functools.partial(Handler, directory=str(served))
  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
  threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
  url = f'http://127.0.0.1:{server.server_port}/'
  infos = {}
  for name in pixels.FILES.values():
    content = (served / name).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    infos[url + name] = checksums.UrlInfo(
      size=len(content), checksum=digest, filename=name
    )
  monkeypatch.setattr(pixels, 'URL', url)
  monkeypatch.setattr(pixels, '_size', lambda name: infos[url + name].size)
  monkeypatch.setattr(mnist_builder.Mnist, 'url_infos', infos)
  cache_dir = str(tmp_path / 'cache')
  try:
    for _ in range(2):
      _check(pixels.load('mnist', str(tmp_path / 'none'), cache_dir), parts)
      assert sorted(asked) == ['GET'] * 4 + ['HEAD']
    monkeypatch.setattr(pixels, 'URL', 'http://127.0.0.1:9/')
    monkeypatch.setattr(pixels, '_size', lambda name: 1)
    with pytest.raises(InputError, match=r'`data_dir` is not given, and http.*:9/'):
      pixels.load('mnist', '', cache_dir)
  finally:
    server.shutdown()
    server.server_close()


def test_sizes_and_checksums_are_those_of_the_published_files():
  assert pixels._size(pixels.FILES['train_images']) == 9_912_422
  table = mnist_builder.Mnist.url_infos
  assert set(table) == {pixels.URL + name for name in pixels.FILES.values()}


def test_small_digits_come_with_a_package():
  sklearn = pytest.importorskip('sklearn.datasets')
  found = pixels.load('digits')
  assert [len(part.y) for part in found] == [1293, 144, 360]
  wanted = sklearn.load_digits()
  images = {tuple(row) for row in (wanted.data / 16).astype(np.float32).tolist()}
  for part in found:
    assert part.x.shape[1:] == (64, 1)
    assert (part.x.min(), part.x.max()) == (0, 1)
    assert all(tuple(row) in images for row in part.x[:20, :, 0].tolist())
  again = np.concatenate([part.y for part in found])
  np.testing.assert_array_equal(np.bincount(again), np.bincount(wanted.target))


def test_made_up_digits_follow_from_the_seed_and_differ_by_their_segments():
  x, y = pixels.synthetic(0, 2_000)
  np.testing.assert_array_equal(x, pixels.synthetic(0, 2_000).x)
  assert x.max() <= 16
  means = np.stack([x[y == digit].mean(0) for digit in range(10)])
  nearest = ((x[:, None] - means) ** 2).sum(-1).argmin(1)
  assert (nearest == y).mean() > 0.8


def test_one_order_of_the_pixels_for_all_runs():
  order = pixels.order(64, permuted=True)
  np.testing.assert_array_equal(order, pixels.order(64, permuted=True))
  np.testing.assert_array_equal(np.sort(order), pixels.order(64, permuted=False))
  assert (order != np.arange(64)).mean() > 0.9
