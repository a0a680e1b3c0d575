"""One recurrent layer's parameters in the layouts of PyTorch and flax.linen.

| layout        | LSTM       | GRU     | biases                                      |
|---------------|------------|---------|---------------------------------------------|
| seqjax, Keras | i, f, c, o | z, r, h | one; of a GRU [2, 3H], input and recurrent  |
| torch.nn      | i, f, g, o | r, z, n | two that are added; of a GRU as ours        |
| flax.linen    | i, f, g, o | z, r, n | one; of a GRU n has two, z and r have one   |

A GRU is h' = z * h + (1 - z) * n in all of them. Sources: formulas of torch.nn's LSTM,
GRU and RNN, and of flax.linen's cells; the tests compare values.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from seqjax.types import InputError

GATES = {'SimpleRNN': 1, 'GRU': 3, 'LSTM': 4}
KERNELS = ('kernel', 'recurrent_kernel')


def join(
  cell: str,
  kernels: Mapping[str, np.ndarray],
  biases: Sequence[np.ndarray],
  where: str,
  order: Callable[[Any], np.ndarray] = np.asarray,
) -> dict[str, np.ndarray]:
  """Parameters of a layer from matrices and biases that other libraries hold apart.

  Args:
    cell: 'SimpleRNN', 'GRU' or 'LSTM'.
    kernels: [D, G] and [H, G] by the names that a message calls them.
    biases: Of the input and of the recurrence, each [G]; or none.
    where: What a message calls the layer.
    order: Puts the gates of the last axis into seqjax's order.

  Raises:
    InputError: if they are not those of such a cell.
  """
  G = _width(cell, kernels, where)
  if [bias.shape for bias in biases] not in ([], [(G,), (G,)]):
    raise InputError(f'{where} needs bias_ih and bias_hh ({G},), or none of them')
  params = {
    name: np.ascontiguousarray(order(kernel))
    for name, kernel in zip(KERNELS, kernels.values(), strict=True)
  }
  if biases:
    bias = np.stack(biases) if cell == 'GRU' else biases[0] + biases[1]
    params['bias'] = order(bias)
  return params


def part(
  cell: str, params: Mapping[str, Any], library: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
  """The inverse of `join`: [D, G], [H, G] and, if there is one, the bias [2, G].

  Raises:
    ValueError: if params are not those of such a cell, or of a GRU without reset_after,
      which `library` does not have.
  """
  for name in KERNELS:
    if name not in params:
      raise InputError(f'params has no {name}: {", ".join(params)}')
  kernel, recurrent_kernel = (np.asarray(params[name]) for name in KERNELS)
  G = _width(cell, {name: params[name] for name in KERNELS}, 'params')
  if 'bias' not in params:
    return kernel, recurrent_kernel, None
  bias = np.asarray(params['bias'])
  shape = (2, G) if cell == 'GRU' else (G,)
  if bias.shape != shape:
    hint = f': {library} has no GRU without reset_after' if bias.shape == (G,) else ''
    raise ValueError(f'params: bias must be {shape}, got {bias.shape}{hint}')
  if cell != 'GRU':
    bias = np.stack([bias, np.zeros_like(bias)])
  return kernel, recurrent_kernel, bias


def swap(kernel: Any) -> np.ndarray:
  """[..., 3H] in the order z, r, h <-> in the order r, z, n: its own inverse."""
  a, b, n = np.split(np.asarray(kernel), 3, axis=-1)
  return np.concatenate([b, a, n], axis=-1)


def _width(cell: str, kernels: Mapping[str, Any], where: str) -> int:
  """G of the two matrices [D, G] and [H, G] of a cell; other shapes are refused."""
  kernel, recurrent = map(np.shape, kernels.values())
  gates = GATES[cell]
  G = gates * recurrent[0] if recurrent else 0
  if len(kernel) != 2 or recurrent[1:] != (G,) or kernel[1] != G:
    first, second = kernels
    raise InputError(
      f'{where} is no {cell}: {first} must be [D, {gates}H] and {second} '
      f'[H, {gates}H], got {kernel} and {recurrent}'
    )
  return G
