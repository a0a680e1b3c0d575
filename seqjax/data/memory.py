"""Tasks of long memory, as examples drawn from a generator: adding and copying."""

import numpy as np

from seqjax.types import Examples

NUM_SYMBOLS = 8  # that copying is of: 1 to 8
NUM_COPIED = 10
BLANK, CALL = 0, NUM_SYMBOLS + 1  # to be waited on; to be answered


def adding(rng: np.random.RandomState, number: int, length: int) -> Examples:
  """The sum of the two numbers that are marked: x [N, T, 2], y [N].

  A step is a number in [0, 1) and its mark, 1 at two places and 0 elsewhere. Who always
  says 1 has a squared error of 1/6.

  Source: Hochreiter & Schmidhuber 1997, as Bai et al. 2018, arXiv:1803.01271, have it.

  Raises:
    ValueError: `length` is below 2.
  """
  if length < 2:
    raise ValueError(f'adding needs a length of at least 2, got {length}')
  x = np.zeros((number, length, 2), np.float32)
  x[..., 0] = rng.random_sample((number, length))
  first = rng.randint(length, size=number)
  second = (first + rng.randint(1, length, size=number)) % length  # never the first
  rows = np.arange(number)
  for marked in (first, second):
    x[rows, marked, 1] = 1
  return Examples(x, x[rows, first, 0] + x[rows, second, 0])


def copying(rng: np.random.RandomState, number: int, delay: int) -> Examples:
  """Ten symbols, a long wait, and the ten again: ids x and y, int32 [N, delay + 20].

  x begins with the symbols and ends with eleven calls, y is blank but for its last ten
  steps. Who remembers nothing, but knows when to answer, has a cross-entropy of
  10 ln 8 / (delay + 20).

  Source: as `adding`.

  Raises:
    ValueError: `delay` is below 1.
  """
  if delay < 1:
    raise ValueError(f'copying needs a delay of at least 1, got {delay}')
  T = delay + 2 * NUM_COPIED
  x, y = (np.full((number, T), BLANK, np.int32) for _ in range(2))
  x[:, :NUM_COPIED] = rng.randint(1, NUM_SYMBOLS + 1, size=(number, NUM_COPIED))
  x[:, -NUM_COPIED - 1 :] = CALL
  y[:, -NUM_COPIED:] = x[:, :NUM_COPIED]
  return Examples(x, y)
