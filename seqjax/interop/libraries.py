"""Libraries that only some functions need."""

import importlib
from typing import Any


def library(name: str, need: str, extra: str = '') -> Any:
  """The module `name`; an ImportError says what needs it and what to install."""
  try:
    return importlib.import_module(name)
  except ImportError:
    others = f"pip install 'seqjax[{extra}]' or " if extra else ''
    raise ImportError(f'{need}: {others}pip install {name}') from None
