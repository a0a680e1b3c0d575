"""The picture of attention has a field for each weight, and its tokens beside."""

import numpy as np
import pytest

from seqjax.view import attention


def test_each_weight_is_in_its_place(tmp_path):
  rng = np.random.default_rng(0)
  several = [
    attention.Looks(list('abc'), ['x', 'end'], rng.dirichlet(np.ones(3), 2)),
    attention.Looks(list('defgh'), ['y'], rng.dirichlet(np.ones(5), 1)),
    attention.Looks(list('ij'), list('uvw'), rng.dirichlet(np.ones(2), 3)),
  ]
  path = tmp_path / 'attention.png'
  figure = attention.draw(several, path, title='a model')
  assert path.stat().st_size > 5_000
  assert len(figure.axes) == 3
  for axes, looks in zip(figure.axes, several, strict=True):
    np.testing.assert_array_equal(axes.images[0].get_array(), looks.weights)
    assert [t.get_text() for t in axes.get_xticklabels()] == list(looks.source)
    assert [t.get_text() for t in axes.get_yticklabels()] == list(looks.target)
  wrong = several[1]._replace(weights=several[1].weights.T)
  with pytest.raises(ValueError, match=r'weights must be \(1, 5\), got \(5, 1\)'):
    attention.draw([wrong], path, title='')
