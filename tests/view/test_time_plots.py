"""Pictures over time: every extreme is drawn, gaps are, files are whole."""

import matplotlib.image
import numpy as np
import pytest

from seqjax.view import time_plots


def _times(minutes):
  return np.datetime64('2020-01-01T00:00:00') + np.timedelta64(1, 'm') * np.asarray(
    minutes
  )


def test_a_line_breaks_in_a_gap():
  times = _times([0, 10, 20, 60, 70])
  at, values = time_plots._broken(times, np.arange(5.0))
  assert len(at) == 6
  assert (at[:-1] < at[1:]).all()
  np.testing.assert_array_equal(values, [0, 1, 2, np.nan, 3, 4])
  at, values = time_plots._broken(times[:1], np.arange(1))
  assert (at, values) == (times[:1], [0.0])


def test_a_long_series_shows_its_extremes():
  values = np.random.default_rng(0).normal(size=50_000)
  values[12_345], values[33_333] = 40, -50
  low, high, at = time_plots._bands(_times(np.arange(50_000)), values)
  assert (high.max(), low.min()) == (40, -50)
  assert len(at) == len(low) == 1000
  assert abs((at[high.argmax()] - _times(12_345)).astype(int)) <= 50 * 60


def test_pictures_are_written(tmp_path):
  times = _times(np.r_[0:3000:10, 4000:5000:10])
  truth = np.sin(np.arange(len(times)) / 20)
  time_plots.series(times, truth, tmp_path / 'a.png', title='T', ylabel='T (degC)')
  predicted = {'GRU': truth + 0.5, 'naive': truth - 1}
  names = {'title': 'T', 'ylabel': 'T (degC)'}
  figure = time_plots.forecasts(times, truth, predicted, tmp_path / 'b.png', **names)
  (axes,) = figure.axes
  labels = [line.get_label() for line in axes.lines]
  assert labels == ['measured', 'GRU: mean error here 0.5', 'naive: mean error here 1']
  truth[-5:] = np.nan  # not there yet
  band = np.stack([truth - 1, truth + 2])
  path = tmp_path / 'c.png'
  figure = time_plots.forecasts(times, truth, predicted, path, **names, band=band)
  (area,) = figure.axes[0].collections
  ends = area.get_paths()[0].get_extents()
  assert (ends.y0, ends.y1) == pytest.approx((-2, 3), abs=0.01)
  assert figure.axes[0].lines[1].get_label() == labels[1]
  for name in ('a.png', 'b.png', 'c.png'):
    picture = matplotlib.image.imread(tmp_path / name)
    assert picture[..., :3].std() > 0.05


@pytest.mark.parametrize('timed', [True, False])
def test_a_fan_holds_its_quantiles(tmp_path, timed):
  times = _times(np.arange(0, 500, 10)) if timed else np.arange(1, 51)
  truth, ahead = np.sin(np.arange(50) / 8), times[-20:]
  quantiles = {0.5: truth[-20:], 0.9: truth[-20:] + 1, 0.1: truth[-20:] - 2}
  figure = time_plots.fan(
    times, truth, ahead, quantiles, tmp_path / 'f.png', title='T', ylabel='T'
  )
  (axes,) = figure.axes
  (band,) = axes.collections
  assert band.get_label() == '0.1 to 0.9'
  heights = band.get_paths()[0].vertices[:, 1]
  np.testing.assert_allclose(heights.max(), (truth[-20:] + 1).max())
  np.testing.assert_allclose(heights.min(), (truth[-20:] - 2).min())
  assert [line.get_label() for line in axes.lines] == ['median', 'measured']
  assert axes.get_xlabel() == ('' if timed else 'row')
  picture = matplotlib.image.imread(tmp_path / 'f.png')
  assert picture[..., :3].std() > 0.05
