"""Types that cross module boundaries, and the letters of the dimensions.

| letter | dimension      | letter | dimension              |
|--------|----------------|--------|------------------------|
| B      | batch          | G      | gate width: H, 4H, 3H  |
| T      | time           | V      | vocabulary             |
| D      | input features | E      | embedding              |
| H      | hidden units   | C      | classes or targets     |
| N      | examples of a set | K   | steps of a chunk       |
"""

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

if TYPE_CHECKING:
  from jax import Array
else:
  Array = Any  # so that text and data can import this file without importing jax

PyTree: TypeAlias = Any

# What fills up sequences of whole labels, where others have NaN. No loss counts it: it
# is below 0, and unlike -1 nothing that one would predict.
NO_LABEL = np.iinfo(np.int32).min

BATCH_AXIS = 'data'  # the axis of a mesh of devices over which a batch is cut


class CommandError(Exception):
  """Ends a command: it prints the message in one line and exits with `exit_code`."""

  exit_code = 1
  everywhere = False  # whether all processes of a run raise it


class InputError(CommandError, ValueError):
  """What a user handed in (a flag, a file, a folder) cannot be used.

  The message is one line that names the input and what was expected.

  Example:
    >>> from seqjax.types import InputError
    >>> data = np.ones((4, 5, 3), np.float32), np.ones(2, np.float32)
    >>> try:
    ...   sj.fit(sj.SequenceRegressor(sj.GRU(8)), data, loss='mse')
    ... except InputError as error:
    ...   print(error)
    train must be as many in each part, at least one; got {'x': 4, 'y': 2}
  """

  exit_code = 2


class Examples(NamedTuple):
  """A data set, or a part of one, on the host."""

  x: np.ndarray  # [N, T] int32 ids, or [N, T, D] float32
  y: np.ndarray  # [N] or [N, C] float32


class Batch(NamedTuple):
  """What one training or evaluation step sees.

  Where the data lies on the devices, x and y are [B] indices into it until the step has
  gathered them.
  """

  x: Array  # [B, T] int32 ids, or [B, T, D] float32
  y: Array  # [B] or [B, C] float32
  weight: Array  # [B] float32; 0 marks a row that only fills the batch up
  mask: Array | None = None  # [B, T] bool, True where a step is real; None: all are
  # [B, T] bool, True where a row's state is zero again: rows go on where those of the
  # batch before ended. None: each row is a sequence of its own.
  reset: Array | None = None
