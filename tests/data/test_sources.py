"""What users hand over: arrays, lists, tables, and what is wrong with them."""

import numpy as np
import pytest

from seqjax.data.sources import make_source
from seqjax.types import NO_LABEL, InputError

RNG = np.random.default_rng(0)


class Table:
  """Sequences of ids and their labels, read one by one."""

  def __init__(self, x, y):
    self._rows = list(zip(x, y, strict=True))

  def __len__(self):
    return len(self._rows)

  def __getitem__(self, i):
    return self._rows[i]


def take(data, **options):
  source = make_source(data, **options)
  return source.take(np.arange(len(source)))


def test_labels_a_step_are_filled_up_with_what_is_no_label():
  x = [[1, 2], [3, 4, 5]]
  whole = take((x, [[0, 1], [1, 0, 1]]))
  np.testing.assert_array_equal(whole.y, [[0, 1, NO_LABEL], [1, 0, 1]])
  np.testing.assert_array_equal(whole.x, [[1, 2, 0], [3, 4, 5]])
  np.testing.assert_array_equal(whole.mask, [[True, True, False], [True] * 3])
  real = take((x, [[0.5, -1], [1, 0, 1]]))
  np.testing.assert_array_equal(real.y, [[0.5, -1, np.nan], [1, 0, 1]])


def test_length_cuts_labels_a_step_as_it_cuts_x():
  x, y = RNG.normal(size=(3, 5, 2)), RNG.normal(size=(3, 5))
  rows = take((x, y), length=2)
  np.testing.assert_array_equal(rows.x, x[:, 3:].astype(np.float32))
  np.testing.assert_array_equal(rows.y, y[:, 3:].astype(np.float32))
  once = take((x, y[:, 0]), length=2)
  np.testing.assert_array_equal(once.y, y[:, 0].astype(np.float32))


def test_what_is_read_one_by_one_has_one_width_and_a_mask():
  x = [[1, 2], [3, 4], [5, 6, 7, 8, 9]]
  source = make_source(Table(x, x), length=4)
  equal, other = source.take(np.array([0, 1])), source.take(np.array([2]))
  np.testing.assert_array_equal(equal.x, [[1, 2, 0, 0], [3, 4, 0, 0]])
  np.testing.assert_array_equal(equal.y[0], [1, 2, NO_LABEL, NO_LABEL])
  np.testing.assert_array_equal(equal.mask[0], [True, True, False, False])
  np.testing.assert_array_equal(other.x, [[6, 7, 8, 9]])
  np.testing.assert_array_equal(other.y, [[6, 7, 8, 9]])
  # Two labels an example are no labels of two steps, whatever a batch looks like.
  pairs = make_source(Table(x, [[0, 1]] * 3), length=4).take(np.array([0, 1]))
  np.testing.assert_array_equal(pairs.y, [[0, 1], [0, 1]])


def test_a_pair_of_arrays_is_never_encoded():
  rows = take((np.ones((3, 2)), np.zeros(3)), encode=lambda row: 1 / 0)
  assert rows.x.shape == (3, 2)


@pytest.mark.parametrize(
  ('data', 'options', 'match'),
  [
    (([1, [2, 3]], [0, 1]), {}, r'v: x\[1\] is \(2,\) where v: x\[0\] is \(\)'),
    (([[1], [2]], [[0, 1], 0]), {}, r'v: y\[1\] is \(\)'),
    (([[[1, 2], [3]], [[4]]], [0, 1]), {}, r'v: x\[0\] is no array of numbers'),
    ({'x': [1], 'y': [2]}, {}, 'v must be a tuple.*got dict'),
    ([np.ones((3, 2)), np.zeros(3)], {}, 'v must be a tuple.*got list'),
    (Table([[1], [2]], [0, 1]), {'encode': lambda row: row[2]}, 'v: `encode` fails'),
    (Table([[1], [2, 3]], [0, 1]), {}, 'v: sequences of unequal.*need `length`'),
    (Table([], []), {}, 'v: there is no example'),
    (([[1], [2, 3]], [[1], [2]]), {}, None),
    (([[1], [2, 3], [4]], [[1], [2], [3, 4]]), {}, 'v: sequence 1 has 2 steps and 1'),
    (([[1], []], [0, 1]), {}, 'v: sequence 1 is empty'),
    ((np.ones((2, 3)), [0, 1]), {'length': 0}, '`length` must be a whole.*got 0'),
    ((np.ones((2, 3)), [0, 1]), {'length': -1}, '`length` must be a whole'),
    ((np.ones((2, 3)), [0, 1]), {'length': 2.5}, '`length` must be a whole.*got 2.5'),
    ((np.float64([[1, 2], [3, np.nan]]), [0, 1]), {}, r'v: x\[1, 1\] holds nan'),
    (([[1.0], [2, np.inf]], [0, 1]), {}, r'v: x\[1\]\[1\] holds inf'),
    ((np.ones((2, 3)), [0, np.nan]), {}, r'v: y\[1\] holds nan'),
    ((np.ones((2, 3)), [0, 1], [0, 0]), {}, 'v: all weights are 0'),
  ],
)
def test_data_that_cannot_be_used_is_named_with_the_place(data, options, match):
  if match is None:
    take(data, name='v', **options)
    return
  with pytest.raises(InputError, match=match):
    take(data, name='v', **options)
