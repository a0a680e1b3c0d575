"""Weights from PyTorch and back: a state_dict, a `.pt` file, or a `.safetensors` file.

  params = torch.load_into(params, 'model.safetensors')
  model.load_state_dict(torch.tensors(torch.from_params(params, model.state_dict())))

PyTorch itself is imported only to read or write `.pt` files and to make tensors.
"""

import os
import pathlib
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from seqjax.files import strangers, zips
from seqjax.interop import transfer
from seqjax.interop.files import replacing
from seqjax.interop.libraries import library
from seqjax.interop.torch import modules, safetensors
from seqjax.interop.torch.modules import as_array
from seqjax.interop.weights import MAX_BYTES, kind
from seqjax.types import InputError, PyTree

Path = str | os.PathLike[str]
StateDict = Mapping[str, Any]  # of torch tensors, or of NumPy arrays

# How a file begins that PyTorch before 1.6 saved: its magic number, pickled.
_BEFORE_ZIP = b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.'


def load(
  path: Path, *, key: str | None = None, max_bytes: int = MAX_BYTES
) -> dict[str, np.ndarray]:
  """The state_dict in a `.safetensors` or `.pt` file, as arrays.

  Args:
    path: A `.pt` file is read with weights_only=True: it can't run code.
    key: Where the state_dict is in a checkpoint that is a dict of several things.
    max_bytes: Of all arrays together.

  Raises:
    InputError: if it is no such file, is damaged, or holds other things than weights.
    ImportError: if PyTorch is not installed and the file is a `.pt`.
  """
  path = pathlib.Path(path)
  start = strangers.head(path)
  # Before the zip: a header of 19,280 bytes makes the file begin with PK.
  if start[8:9] == b'{':
    if key is not None:
      raise InputError(f'{path}: a safetensors file has no key {key!r}')
    return safetensors.read(path, max_bytes=max_bytes)
  is_zip = start.startswith(b'PK')
  if is_zip or start.startswith(_BEFORE_ZIP):
    return _load_pickle(path, key, max_bytes, is_zip)
  raise InputError(
    f'{path}: neither safetensors nor a zip of torch.save, nor a pickle'
    f'{strangers.looks_like(start)}'
  )


def load_into(
  params: PyTree,
  state_dict: Path | StateDict,
  mapping: Mapping[str, str] | None = None,
  *,
  allow_unused: bool = False,
) -> dict[str, Any]:
  """Parameters of a linen model with the values of a PyTorch model; all, or an error.

  Layers are matched by kind, then by shapes, then by order: that of the state_dict, and
  the numbers in the names of the parameters. An alphabetical state_dict, as safetensors
  writes it, has only the order of the numbers in its names. nn.LSTM, nn.GRU and nn.RNN
  give a layer for each layer and direction, 'rnn/l0/forward_layer'; nn.Linear,
  nn.Embedding, nn.Conv1d and nn.LayerNorm one each. A Linear without bias looks like an
  Embedding and needs `mapping`.

  Args:
    params: variables['params'] of the model, or their shapes (jax.eval_shape).
    state_dict: Of the PyTorch model, or a file that holds it.
    mapping: {'encoder': 'rnn', ...}: path in `params`, module in `state_dict`, each of
      a layer or of what contains layers. Only these are loaded.
    allow_unused: The state_dict may have layers that the model has not.

  Returns:
    New params, in the dtypes of the old.

  Raises:
    InputError: if they do not fit; the message names both layers and shapes.

  Warns:
    LossyWarning: if numbers have to be rounded to a narrower dtype.
  """
  source, _, _ = _source(params, state_dict, mapping)
  return transfer.fill(params, source, _slashed(mapping), allow_unused)


def from_params(
  params: PyTree, like: Path | StateDict, mapping: Mapping[str, str] | None = None
) -> dict[str, np.ndarray]:
  """A PyTorch model's state_dict with the values of `params`; inverse of `load_into`.

  Args:
    params: variables['params'] of a linen model.
    like: The state_dict of the PyTorch model, or a file: names, shapes and dtypes.
    mapping: As in `load_into`. What it leaves out stays as it is in `like`.

  Returns:
    Arrays in the order of `like`; see `tensors` and `save`. The second bias of an LSTM
    or RNN, which is added to the first, is zero.

  Raises:
    InputError: if they do not fit; the message names both layers and shapes.
  """
  source, layers, new = _source(params, like, mapping)
  values = transfer.values_of(params, source, _slashed(mapping))
  for name, layer in values.items():
    new |= modules.from_params(layers[name], layer)
  return new


def tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Torch tensors of arrays, for `module.load_state_dict`.

  Raises:
    ImportError: if PyTorch is not installed.
  """
  torch = library('torch')
  result = {}
  for name, value in arrays.items():
    value = np.array(value)  # torch keeps the memory and may write to it
    if value.dtype == jnp.bfloat16:
      result[name] = torch.from_numpy(value.view(np.int16)).view(torch.bfloat16)
    else:
      result[name] = torch.from_numpy(value)
  return result


def save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes a `.safetensors` file, or a `.pt` file with torch.save.

  Raises:
    InputError: if the name ends in neither, or the file can't be written.
    ImportError: if PyTorch is not installed and the file is a `.pt`.
  """
  path = pathlib.Path(path)
  if path.suffix == '.safetensors':
    safetensors.write(path, arrays)
  elif path.suffix in ('.pt', '.pth'):
    torch = library('torch')
    with replacing(path) as part, open(part, 'wb') as file:
      torch.save(tensors(arrays), file)
  else:
    raise InputError(f'{path}: the name must end in .safetensors, .pt or .pth')


def _load_pickle(
  path: pathlib.Path, key: str | None, max_bytes: int, is_zip: bool
) -> dict[str, np.ndarray]:
  torch = library('torch')
  size = path.stat().st_size  # sizes are checked before torch reads any
  if is_zip:
    with zips.opened(path, max_expansion=zips.MAX_EXPANSION) as archive:
      size = sum(member.file_size for member in archive.infolist())
  if size > max_bytes:
    raise InputError(f'{path}: {size} bytes, more than the {max_bytes} allowed')
  try:
    content = torch.load(path, map_location='cpu', weights_only=True)
  except pickle.UnpicklingError:
    raise InputError(
      f'{path}: holds more than weights, which only running its code could read'
      f'{"" if is_zip else ", or is cut short"}; save the state_dict of the model '
      'instead'
    ) from None
  except Exception as error:  # damaged bytes make its unpickler raise any of them
    reason = f'{type(error).__name__}: {error}'.split('\n', 1)[0]
    raise InputError(f'{path}: not a readable file of torch.save: {reason}') from None
  if key is not None:
    if not isinstance(content, Mapping) or key not in content:
      raise InputError(f'{path}: has no key {key!r}')
    content = content[key]
  if not isinstance(content, Mapping):
    raise InputError(f'{path}: holds a {type(content).__name__}, not a state_dict')
  remaining = max_bytes
  for name, value in content.items():
    if not isinstance(name, str) or not isinstance(value, torch.Tensor):
      raise InputError(
        f'{path}: {name!r} is a {type(value).__name__}, no tensor: key= names the '
        'state_dict in a checkpoint'
      )
    remaining -= value.numel() * value.element_size()
    if remaining < 0:
      raise InputError(f'{path}: more than the {max_bytes} bytes allowed at {name!r}')
  return {name: as_array(name, value) for name, value in content.items()}


def _source(
  params: PyTree, state_dict: Path | StateDict, mapping: Mapping[str, str] | None
) -> tuple[transfer.Source, dict[str, modules.Module], dict[str, np.ndarray]]:
  """A state_dict's layers, what they are called there, and all its arrays."""
  source = 'the state_dict' if isinstance(state_dict, Mapping) else str(state_dict)
  if not isinstance(state_dict, Mapping):
    state_dict = load(state_dict)
  arrays = {name: as_array(name, value) for name, value in state_dict.items()}
  leaves = transfer.layers_of(params)
  linear = {  # the modules that `mapping` pairs with a Dense
    name
    for path, name in (_slashed(mapping) or {}).items()
    if path in leaves and kind(path, leaves[path]).endswith('Dense')
  }
  layers = modules.split(arrays, source, linear)
  ours = {name: modules.to_params(layer, source) for name, layer in layers.items()}
  return transfer.Source(source, ours, _family(arrays)), layers, arrays


def _family(arrays: Mapping[str, np.ndarray]) -> Callable[[str], str] | None:
  """None: the order of the arrays is the model's. Else only numbers tell one.

  The safetensors library sorts arrays by dtype, then by name: layers.10, layers.2. A
  model's own order is hardly ever that, for it has each weight before its bias.
  """
  names: dict[np.dtype, list[str]] = {}
  for name, value in arrays.items():
    names.setdefault(value.dtype, []).append(name)
  return str if all(some == sorted(some) for some in names.values()) else None


def _slashed(mapping: Mapping[str, str] | None) -> dict[str, str] | None:
  """PyTorch's names of modules, net.0, in the form of paths, net/0."""
  if mapping is None:
    return None
  return {path: name.replace('.', '/') for path, name in mapping.items()}
