"""HDF5 files from strangers: every link and dataset checked before it is read.

A file can point at other files (external links, external and virtual datasets), at
itself in a circle, and can declare arrays of any size in a few bytes. None of that
occurs in files of Keras; all of it is refused.
"""

import contextlib
import math
import pathlib
from collections.abc import Callable, Iterator
from typing import IO, Any

import jax.numpy as jnp
import numpy as np

from seqjax.files.zips import MAX_EXPANSION, SMALL
from seqjax.interop.libraries import library
from seqjax.interop.weights import join
from seqjax.types import InputError

MAX_OBJECTS = 100_000
MAX_DEPTH = 32
MAX_SHARDS = 10_000
MAX_ATTRIBUTE = 64 << 20  # bytes

# deflate, shuffle, fletcher32, szip, lzf: what h5py has built in. Others load a plugin.
_FILTERS = {1, 2, 3, 4, 32000}


@contextlib.contextmanager
def opened(path: pathlib.Path, file: IO[bytes] | None = None) -> Iterator[Any]:
  """The h5py.File at `path`, or in `file`, which `path` then only names.

  Raises:
    InputError: if it is no HDF5 file, or a damaged one.
    ImportError: if h5py is not installed.
  """
  h5py = library('h5py')
  try:
    opened_file = h5py.File(path if file is None else file, 'r')
  except OSError as error:
    raise InputError(f'{path}: not a readable HDF5 file: {_line(error)}') from None
  with opened_file:
    try:
      yield opened_file
    # Of libhdf5 and of h5py; a TypeError where a type is none that it knows.
    except (OSError, RuntimeError, KeyError, TypeError, UnicodeError) as error:
      raise InputError(f'{path}: damaged HDF5 file: {_line(error)}') from None


class Reader:
  """Checked access to an open file.

  Attributes:
    file: The h5py.File.
    path: What messages call it.
    max_bytes: Of all arrays read by `array`.
    read: Whether `array` reads. If not it gives zeros of the shape and dtype that take
      no memory.
  """

  def __init__(
    self, file: Any, path: pathlib.Path, max_bytes: int, read: bool = True
  ) -> None:
    self.file = file
    self.path = path
    self.max_bytes = max_bytes
    self.read = read
    self._left = max_bytes
    self._objects = 0

  def datasets(
    self, group: Any, skip: Callable[[str], bool] = lambda path: False
  ) -> Iterator[tuple[str, Any]]:
    """(path below `group`, h5py.Dataset) of all that `skip` does not name.

    What lies below a group whose path it names is not looked at.

    Raises:
      InputError: at a link that is not a hard link, a circle, or too many objects.
    """
    yield from self._walk(group, '', skip, [])

  def child(self, group: Any, name: str) -> Any:
    """The object of that name in `group`; None if there is none.

    Raises:
      InputError: if the link to it is not a hard link.
    """
    h5py = library('h5py')
    if not group.id.links.exists(name.encode()):
      return None
    where = f'{self.path}: {group.name.rstrip("/") + "/" + name!r}'
    if group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
      raise InputError(f'{where} is a link to somewhere else, not data')
    return group[name]

  def array(self, dataset: Any) -> np.ndarray:
    """The content of a dataset.

    Raises:
      InputError: if it lies outside the file, is not numeric, or is too large.
    """
    where = f'{self.path}: {dataset.name!r}'
    create = dataset.id.get_create_plist()
    if dataset.is_virtual or create.get_external_count():
      raise InputError(f'{where} keeps its data in another file')
    if dataset.shape is None:
      raise InputError(f'{where} is empty')
    try:
      dtype = dataset.dtype
    except (TypeError, ValueError) as error:  # a type that NumPy does not have
      raise InputError(f'{where} does not hold numbers: {_line(error)}') from None
    # HDF5 has no bfloat16: Keras stores it as two opaque bytes.
    bfloat16 = dtype == np.dtype('V2') and dtype.names is None
    if not (dtype.kind in 'fiub' or bfloat16):
      raise InputError(f'{where} holds {dtype}, not numbers')
    filters = [create.get_filter(i)[0] for i in range(create.get_nfilters())]
    if not _FILTERS.issuperset(filters):
      raise InputError(f'{where} is packed by a filter that is not built in')
    size = math.prod(dataset.shape) * dtype.itemsize
    if filters:  # a chunk is unpacked as a whole, and may be larger than its dataset
      size = max(size, math.prod(dataset.chunks or ()) * dtype.itemsize)
    # Chunks of an index can all lie at one place.
    stored = min(dataset.id.get_storage_size(), self.file.id.get_filesize())
    # Without filters all of it is stored; fill values alone take no room at all.
    if size > (max(SMALL, MAX_EXPANSION * stored) if filters else stored):
      raise InputError(
        f'{where} declares {dataset.shape} of {dtype}, {size} bytes to unpack, and '
        f'stores {stored}'
      )
    self._left -= size
    if self._left < 0:
      raise InputError(
        f'{where} {dataset.shape}: the arrays need more than the {self.max_bytes} '
        'bytes allowed'
      )
    dtype = np.dtype(jnp.bfloat16) if bfloat16 else dtype.newbyteorder('=')
    if not self.read:
      return np.broadcast_to(np.zeros((), dtype), dataset.shape)
    values = np.asarray(dataset[()])
    return values.view(dtype) if bfloat16 else values.astype(dtype, copy=False)

  def text(self, item: Any, name: str) -> str:
    """An attribute that is one string; '' if there is none.

    Raises:
      InputError: if it is not one string in UTF-8.
    """
    return ''.join(self._strings(item, name, 0))

  def texts(self, item: Any, name: str) -> list[str]:
    """An attribute that is a list of strings; empty if there is none.

    Raises:
      InputError: if it is not, or could be too large.
    """
    return self._strings(item, name, 1)

  def _strings(self, item: Any, name: str, rank: int) -> list[str]:
    if name not in item.attrs:
      return []
    attribute = item.attrs.get_id(name)
    where = f'{self.path}: attribute {name!r} of {item.name!r}'
    wrong = InputError(f'{where} is not {("one string", "a list of strings")[rank]}')
    if rank and attribute.shape in (None, (0,)):
      return []
    is_text = attribute.get_type().get_class() == library('h5py').h5t.STRING
    if attribute.shape is None or len(attribute.shape) != rank or not is_text:
      raise wrong
    # Strings of variable length can be one and the same: the file bounds only one.
    size = attribute.get_storage_size()
    if rank and attribute.dtype.kind == 'O':
      size = attribute.shape[0] * self.file.id.get_filesize()
    if size > (self.max_bytes if rank else MAX_ATTRIBUTE):
      raise InputError(f'{where} is too long')
    values = item.attrs[name] if rank else [item.attrs[name]]
    values = [value.decode() if isinstance(value, bytes) else value for value in values]
    if not all(isinstance(value, str) for value in values):
      raise wrong
    return values

  def _walk(
    self, group: Any, path: str, skip: Callable[[str], bool], above: list[Any]
  ) -> Iterator[tuple[str, Any]]:
    h5py = library('h5py')
    if len(above) > MAX_DEPTH or group in above:
      raise InputError(f'{self.path}: groups run in a circle at {path[:200]!r}')
    for name in group:
      if not isinstance(name, str):  # h5py gives bytes where it can't decode
        raise InputError(f'{self.path}: {name[:200]!r} is not a name in UTF-8')
      below = join(path, name)
      self._objects += 1
      if self._objects > MAX_OBJECTS:
        raise InputError(f'{self.path}: more than {MAX_OBJECTS} objects')
      if skip(below):
        continue
      item = self.child(group, name)
      if isinstance(item, h5py.Group):
        yield from self._walk(item, below, skip, [*above, group])
      elif isinstance(item, h5py.Dataset):
        yield below, item
      else:
        raise InputError(f'{self.path}: {below!r} is neither group nor dataset')


def _line(error: Exception) -> str:
  return ' '.join(str(error).split())
