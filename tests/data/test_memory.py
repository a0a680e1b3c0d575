"""Adding and copying are what their papers say, and chance is what it is said to be."""

import math

import jax
import numpy as np
import pytest

from seqjax.data import memory
from seqjax.training import losses


def test_sums_are_those_of_two_marked_numbers():
  x, y = memory.adding(np.random.RandomState(0), 4_000, 7)
  values, marks = x[..., 0], x[..., 1]
  assert set(np.unique(marks)) == {0, 1}
  for row in range(50):  # by a loop
    marked = [float(v) for v, mark in zip(values[row], marks[row], strict=True) if mark]
    assert len(marked) == 2
    assert y[row] == pytest.approx(sum(marked), abs=1e-6)
  # Every place is marked as often as another, and 1 is the best constant answer.
  np.testing.assert_allclose(marks.mean(0), 2 / 7, atol=0.03)
  assert np.square(y - 1).mean() == pytest.approx(1 / 6, abs=0.01)


def test_copies_come_at_the_end_and_chance_is_what_it_is_said_to_be():
  x, y = memory.copying(np.random.RandomState(0), 500, 30)
  assert x.shape == y.shape == (500, 50)
  np.testing.assert_array_equal(y[:, -10:], x[:, :10])
  assert set(np.unique(x[:, :10])) == set(range(1, 9))
  assert (x[:, 10:39] == 0).all()
  assert (x[:, 39:] == 9).all()
  assert not y[:, :-10].any()
  # It knows when to answer, and nothing of what.
  logits = np.full((*y.shape, 10), -1e3, np.float32)
  logits[:, :-10, 0] = logits[:, -10:, 1:9] = 0
  loss = jax.jit(losses.softmax_xent)(logits, y).mean()
  assert float(loss) == pytest.approx(10 * math.log(8) / 50, rel=1e-5)


@pytest.mark.parametrize(('draw', 'steps'), [(memory.adding, 1), (memory.copying, 0)])
def test_too_short_is_refused(draw, steps):
  with pytest.raises(ValueError, match=f'at least {steps + 1}, got {steps}'):
    draw(np.random.RandomState(0), 3, steps)
