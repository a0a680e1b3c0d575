"""Libraries that only some functions need."""

import importlib
from typing import Any

_NEEDS = {  # what needs it
  'h5py': 'HDF5 files need h5py',
  'onnx': 'ONNX models need onnx',
  'safetensors': 'a .safetensors file needs safetensors',
  'torch': 'a .pt file or tensors need PyTorch (a .safetensors file does without)',
}


def library(name: str) -> Any:
  """The module `name`; an ImportError says what needs it and what to install."""
  try:
    return importlib.import_module(name)
  except ImportError:
    raise ImportError(f'{_NEEDS[name]}: pip install {name}') from None
