"""Libraries that only some functions need."""

import importlib
from typing import Any

_NEEDS = {  # what needs it, and the extra that brings it, if one does
  'h5py': ('HDF5 files need h5py', 'interop'),
  'onnx': ('ONNX models need onnx', 'onnx'),
  'safetensors': ('a .safetensors file needs safetensors', 'interop'),
  'torch': (
    'a .pt file or tensors need PyTorch (a .safetensors file does without)',
    '',
  ),
}


def library(name: str) -> Any:
  """The module `name`; an ImportError says what needs it and what to install."""
  try:
    return importlib.import_module(name)
  except ImportError:
    need, extra = _NEEDS[name]
    others = f"pip install 'seqjax[{extra}]' or " if extra else ''
    raise ImportError(f'{need}: {others}pip install {name}') from None
