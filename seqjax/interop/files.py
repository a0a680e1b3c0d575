"""Files that are written whole or not at all."""

import contextlib
import pathlib
from collections.abc import Iterator

from seqjax.files import whole
from seqjax.types import InputError


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """A name beside `path` to write to; what lies there takes `path`'s place at the end.

  Raises:
    InputError: if it can't be written; `path` then stays as it was.
  """
  try:
    with whole.replacing(path) as part:
      yield part
  except (OSError, RuntimeError) as error:  # the second of torch.save
    reason = ' '.join(str(error).split())
    raise InputError(f'{path}: cannot be written: {reason}') from None
