"""Means over bins against a loop."""

import numpy as np
import pytest

from seqjax.view import means


def test_bins_hold_every_value_once(tmp_path):
  rng = np.random.default_rng(0)
  x, y = rng.integers(3, 103, 500), rng.random(500)  # 100 values: bins of five
  middles, found, errors = means.binned(x, y)
  assert len(middles) == 20
  for k in range(20):
    low = x.min() + 5 * k
    inside = [v for u, v in zip(x, y, strict=True) if low <= u < low + 5]
    assert found[k] == pytest.approx(np.mean(inside))
    assert errors[k] == pytest.approx(np.std(inside) / len(inside) ** 0.5)
    assert low <= middles[k] < low + 5
  names = {'title': 'Test', 'xlabel': 'x', 'ylabel': 'y'}
  means.draw(x, y, tmp_path / 'a.png', **names, levels={'chance': 0.5})
  assert (tmp_path / 'a.png').read_bytes()[:4] == b'\x89PNG'
  with pytest.raises(ValueError, match='must both be'):
    means.draw(x[:0], y[:0], tmp_path / 'b.png', **names)


def test_few_values_have_a_bin_each():
  middles, found, _ = means.binned(np.array([2, 1, 2, 4]), np.array([1.0, 5.0, 2.0, 7]))
  assert middles.tolist() == [1, 2, 4]
  assert found.tolist() == [5, 1.5, 7]
