"""One recurrent layer's parameters in the layouts of PyTorch and flax.linen.

| layout        | LSTM       | GRU     | biases                                      |
|---------------|------------|---------|---------------------------------------------|
| seqjax, Keras | i, f, c, o | z, r, h | one; of a GRU [2, 3H], input and recurrent  |
| torch.nn      | i, f, g, o | r, z, n | two that are added; of a GRU as ours        |
| flax.linen    | i, f, g, o | r, z, n | one; of a GRU n has two, z and r have one   |

A GRU is h' = z * h + (1 - z) * n in all of them. Sources: formulas of torch.nn's LSTM,
GRU and RNN, and of flax.linen's cells; the tests compare values.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from seqjax.types import InputError

GATES = {'SimpleRNN': 1, 'GRU': 3, 'LSTM': 4}


def swap_gates(kernel: Any) -> np.ndarray:
  """[..., 3H] in the order z, r, h <-> in the order r, z, n: its own inverse."""
  a, b, n = np.split(np.asarray(kernel), 3, axis=-1)
  return np.concatenate([b, a, n], axis=-1)


def checked(
  values: dict[str, Any], names: Sequence[str], cell: str, where: str
) -> tuple[int, int]:
  """(D, H) of kernel and recurrent_kernel, the first two of `names`.

  Args:
    values: kernel [D, G], recurrent_kernel [H, G] and biases, in any layout that has
      those shapes.
    names: What to call them in a message.
    cell: 'SimpleRNN', 'GRU' or 'LSTM'.
    where: What to call the layer.

  Raises:
    InputError: if they are not the matrices of such a cell.
  """
  for name in names[:2]:
    if name not in values:
      raise InputError(f'{where} has no {name}: {", ".join(map(str, values))}')
  kernel, recurrent = (tuple(np.shape(values[name])) for name in names[:2])
  gates = GATES[cell]
  H = recurrent[0] if recurrent else 0
  if len(kernel) != 2 or recurrent != (H, gates * H) or kernel[1] != gates * H:
    raise InputError(
      f'{where} is no {cell}: {names[0]} must be [D, {gates}H] and {names[1]} '
      f'[H, {gates}H], got {kernel} and {recurrent}'
    )
  return kernel[0], H
