"""Files that systems and programs leave beside the user's own: nobody means them."""

from __future__ import annotations

import logging
import pathlib
import re

_NAMES = (
  r'\.DS_Store|\._[^/]*|\.localized|__MACOSX',  # macOS
  r'Thumbs\.db|ehthumbs\.db|desktop\.ini',  # Windows
  r'\.directory|@eaDir|\.ipynb_checkpoints',  # KDE, Synology, Jupyter
)
_LITTER = re.compile(rf'(?:^|/)(?:{"|".join(_NAMES)})(?:/|$)', re.IGNORECASE)

_log = logging.getLogger(__name__)


def inside(folder: pathlib.Path) -> list[pathlib.Path]:
  """What lies in a folder, in order; litter is skipped, counted and logged."""
  paths = sorted(folder.iterdir())
  log_skipped(folder, [path.name for path in paths if is_litter(path.name)])
  return [path for path in paths if not is_litter(path.name)]


def log_skipped(where: pathlib.Path, names: list[str]) -> None:
  """Says how many files were passed over, if any."""
  if names:
    n, first = len(names), names[0]
    _log.info('%s: skipped %d files that systems leave, %r first', where, n, first)


def is_litter(name: str) -> bool:
  """Whether a file, named with / between folders, or a folder it lies in is such."""
  return _LITTER.search(name) is not None
