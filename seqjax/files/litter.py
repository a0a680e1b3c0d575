"""Files that systems and programs leave beside the user's own: nobody means them."""

from __future__ import annotations

import re

_NAMES = (
  r'\.DS_Store|\._[^/]*|\.localized|__MACOSX',  # macOS
  r'Thumbs\.db|ehthumbs\.db|desktop\.ini',  # Windows
  r'\.directory|@eaDir|\.ipynb_checkpoints',  # KDE, Synology, Jupyter
)
_LITTER = re.compile(rf'(?:^|/)(?:{"|".join(_NAMES)})(?:/|$)', re.IGNORECASE)


def is_litter(name: str) -> bool:
  """Whether a file, named with / between folders, or a folder it lies in is such."""
  return _LITTER.search(name) is not None
