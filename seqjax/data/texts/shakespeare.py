"""Shakespeare's plays, 1,115,394 characters, from a folder or the network.

From the network the file is verified and kept, prepared by tensorflow-datasets: only
the first start imports that.
"""

from __future__ import annotations

import logging
import pathlib

from seqjax.data import cache, network
from seqjax.data.texts.tables import read_text

FILE = 'tinyshakespeare.txt'
URL = (
  'https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/'
  'input.txt'
)
_SIZE = 1_115_394  # bytes, of which each is a character
_VERSION = 1  # to be raised when the same file would be prepared otherwise

_log = logging.getLogger(__name__)


def load(data_dir: str, cache_dir: str = '') -> str:
  """The text.

  Args:
    data_dir: Folder that holds the file. Empty, or a folder that does not: the
      published file is downloaded.
    cache_dir: Where that is kept; as for `cache.default_root`.

  Raises:
    InputError: The file cannot be read, or there is neither a file nor a network.
  """
  path = pathlib.Path(data_dir, FILE)
  if data_dir and path.is_file():
    return read_text(path)
  why = '`data_dir` is not given'
  if data_dir:
    why = f'`data_dir={data_dir}` holds no {FILE}'
  root = cache.default_root(cache_dir)

  def build(folder: pathlib.Path) -> None:
    network.check_reachable(URL, size=_SIZE, why=why)
    from seqjax.data.texts import shakespeare_builder  # a second, on the first start

    _log.info('preparing %s, once, in %s', URL, root)
    shakespeare_builder.prepare(folder, URL, root / 'downloads')

  folder = cache.folder(root, 'shakespeare', {'url': URL, 'version': _VERSION}, build)
  from seqjax.data.texts import shakespeare_builder

  return shakespeare_builder.load(folder)
