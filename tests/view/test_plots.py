"""plots.py: what is in the figures, and that the files are pictures."""

import ast
import itertools
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from seqjax.types import InputError
from seqjax.view import plots


def curves_figure(metrics, title, best_epoch=None, published=None):
  return plots.curves_figure(
    metrics, title=title, best_epoch=best_epoch, published=published
  )


def epoch_lines(num_epochs, names=('loss', 'accuracy')):
  rng = np.random.default_rng(1)
  lines = []
  for epoch in range(1, num_epochs + 1):
    lines.append({'event': 'train', 'step': 7 * epoch - 1, 'loss': 99.0})
    line = {'event': 'epoch', 'step': 7 * epoch, 'epoch': epoch}
    for name in names:
      line[name], line['val_' + name] = rng.uniform(size=2).tolist()
    lines.append(line)
  return lines


def pixels(path):
  from matplotlib.image import imread

  return imread(path)[..., :3]  # [height, width, 3]


def lines_by_label(axes):
  return {line.get_label(): line for line in axes.get_lines()}


@pytest.mark.parametrize('num_epochs', [1, 10, 40])
def test_panels_hold_the_metrics_of_each_epoch(num_epochs):
  metrics = epoch_lines(num_epochs)
  epochs = [line for line in metrics if line['event'] == 'epoch']
  figure = curves_figure(metrics, 'imdb_lstm: LSTM 32', None, None)
  assert figure.get_suptitle() == 'imdb_lstm: LSTM 32'
  loss, accuracy = figure.axes
  assert loss.get_ylabel() == 'Loss (mean per example)'
  assert accuracy.get_ylabel() == 'Accuracy (fraction correct)'
  for axes, name in ((loss, 'loss'), (accuracy, 'accuracy')):
    assert axes.get_xlabel() == 'Epoch'
    drawn = lines_by_label(axes)
    for label, key in (('training', name), ('validation', f'val_{name}')):
      np.testing.assert_array_equal(
        drawn[label].get_xdata(), np.arange(1, num_epochs + 1)
      )
      np.testing.assert_array_equal(
        drawn[label].get_ydata(), [line[key] for line in epochs]
      )
    # Told apart without colour: dots against a line, or a dash for a single point.
    assert drawn['training'].get_linestyle() == 'None'
    assert drawn['training'].get_marker() == 'o'
    assert drawn['validation'].get_linestyle() == '-'
    assert drawn['validation'].get_marker() == ('_' if num_epochs == 1 else 'None')
    ticks = axes.get_xticks()
    assert ticks[0] == 1
    assert len(ticks) <= 12
    np.testing.assert_array_equal(ticks, np.round(ticks))
  (legend,) = figure.legends
  assert [text.get_text() for text in legend.texts] == ['training', 'validation']


def test_best_epoch_and_published_value_are_marked():
  metrics = epoch_lines(6)
  figure = curves_figure(metrics, 'x', 4, {'accuracy': 0.88})
  loss, accuracy = figure.axes
  best = next(line for line in metrics if line.get('epoch') == 4)
  for axes, key in ((loss, 'val_loss'), (accuracy, 'val_accuracy')):
    assert list(lines_by_label(axes)['best epoch'].get_xdata()) == [4, 4]
    assert axes.get_title('right') == f'epoch 4: validation {best[key]:#.4g}'
  assert list(lines_by_label(accuracy)['published'].get_ydata()) == [0.88, 0.88]
  assert accuracy.get_title('left') == 'published 0.88'
  assert 'published' not in lines_by_label(loss)
  labels = [text.get_text() for text in figure.legends[0].texts]
  assert labels == ['training', 'validation', 'best epoch', 'published']


def test_only_metrics_with_a_validation_side_are_drawn():
  metrics = epoch_lines(3, ('mae_celsius',))
  for line in metrics:
    line['grad_norm'] = 1.0
  (axes,) = curves_figure(metrics, 'x', None, None).axes
  assert axes.get_ylabel() == 'MAE (°C)'


def test_a_run_without_validation_and_one_that_skips_epochs():
  metrics = epoch_lines(4)
  for line in metrics:
    line.pop('val_accuracy', None), line.pop('val_loss', None)
  figure = curves_figure(metrics, 'x', 2, None)
  assert len(figure.axes) == 2
  assert 'validation' not in lines_by_label(figure.axes[0])
  metrics[3]['val_loss'], metrics[7]['val_loss'] = 0.5, 0.25
  (axes,) = curves_figure(metrics, 'x', None, None).axes
  line = lines_by_label(axes)['validation']
  assert [list(line.get_xdata()), list(line.get_ydata())] == [[2, 4], [0.5, 0.25]]


@pytest.mark.parametrize('count', [4, 5])
def test_many_metrics_get_one_panel_each(count):
  names = [f'metric_{i}' for i in range(count)]
  figure = curves_figure(epoch_lines(2, names), 'x', None, None)
  assert [axes.get_ylabel() for axes in figure.axes] == [
    f'Metric {i}' for i in range(count)
  ]


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (([{'event': 'train', 'step': 1}], 'x', None, None), 'at least one line'),
    (([{'event': 'epoch', 'epoch': 1}], 'x', None, None), 'no metric'),
    ((epoch_lines(2), 'x', 3, None), 'best_epoch 3'),
    ((epoch_lines(2), 'x', None, {'mae': 0.3}), 'mae'),
  ],
)
def test_wrong_calls(arguments, message):
  with pytest.raises(ValueError, match=message):
    curves_figure(*arguments)


def test_ticks_are_the_first_epoch_and_round_ones():
  assert plots.epoch_ticks(1, 1) == [1]
  assert plots.epoch_ticks(1, 12) == list(range(1, 13))
  assert plots.epoch_ticks(1, 20) == [1, 5, 10, 15, 20]
  assert plots.epoch_ticks(1, 100) == [1, *range(10, 101, 10)]
  assert plots.epoch_ticks(4, 24) == [4, 10, 15, 20]


@pytest.mark.parametrize('names', [['loss'], ['loss', 'accuracy'], list('abcde')])
def test_nothing_overlaps_or_is_cut_off(names):
  from matplotlib.backends.backend_agg import FigureCanvasAgg

  title = 'imdb_lstm: ' + 'a long description of the config, ' * 5
  figure = curves_figure(epoch_lines(20, names), title, 3, {names[0]: 0.5})
  FigureCanvasAgg(figure).draw()
  boxes = [axes.get_tightbbox() for axes in figure.axes]
  boxes += [figure.legends[0].get_window_extent(), figure._suptitle.get_window_extent()]
  for box, other in itertools.combinations(boxes, 2):
    assert not box.overlaps(other)
  for box in boxes:
    assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
    assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1


def test_the_picture_shows_both_series(tmp_path):
  path = tmp_path / 'curves.png'
  plots.curves(epoch_lines(10), path, title='imdb_lstm', best_epoch=3)
  picture = pixels(path)
  for colour in ([0x00, 0x72, 0xB2], [0xD5, 0x5E, 0x00]):
    same = np.abs(picture - np.array(colour) / 255).max(axis=-1) < 0.01
    assert same.sum() > 300
  assert os.listdir(tmp_path) == ['curves.png']


def test_an_unwritable_picture_is_named(tmp_path):
  path = tmp_path / 'missing' / 'curves.png'
  with pytest.raises(InputError, match=rf'cannot write {path}: No such file'):
    plots.curves(epoch_lines(2), path, title='x')


def test_histogram_counts_every_value(tmp_path):
  lengths = np.random.default_rng(2).lognormal(5, 1, 999).astype(np.int32)
  figure = plots.histogram(
    lengths, tmp_path / 'h.png', title='Reviews', xlabel='Length (words)'
  )
  (axes,) = figure.axes
  assert axes.get_xlabel() == 'Length (words)'
  assert axes.get_ylabel() == 'Count'
  assert axes.get_title('right') == 'N = 999'
  assert sum(bar.get_height() for bar in axes.patches) == 999
  assert 1 < len(axes.patches) <= 61
  (median,) = axes.get_lines()
  assert list(median.get_xdata()) == [np.median(lengths)] * 2
  assert pixels(tmp_path / 'h.png').std() > 0.1


@pytest.mark.parametrize('values', [[0, 1, 1, 4], [5], list(range(40))])
def test_bins_of_whole_numbers_are_centred_on_them(values):
  edges = plots._bins(np.array(values))
  assert edges[0] == min(values) - 0.5
  assert edges[-1] >= max(values) + 0.5
  np.testing.assert_array_equal(edges % 1, 0.5)
  counts, _ = np.histogram(values, edges)
  assert counts.sum() == len(values)


def test_bins_of_few_distinct_whole_numbers_hold_one_each():
  np.testing.assert_array_equal(np.diff(plots._bins(np.array([0, 0, 0, 5, 9]))), 1)


@pytest.mark.parametrize('values', [[2.5] * 7, [1e9, 1e9], [0.0, 1e-300], [1.0]])
def test_bins_of_alike_values_hold_them(values):
  edges = plots._bins(np.array(values))
  assert (np.diff(edges) > 0).all()
  counts, _ = np.histogram(values, edges)
  assert counts.sum() == len(values)


def test_bins_of_a_long_tail_are_few():
  values = np.append(np.random.default_rng(0).normal(size=1000), 1e9)
  assert len(plots._bins(values)) <= 61


def test_histogram_of_truth_values(tmp_path):
  values = np.array([True, False, True])
  (axes,) = plots.histogram(values, tmp_path / 'h.png', title='x', xlabel='y').axes
  assert [bar.get_height() for bar in axes.patches] == [1, 2]


@pytest.mark.parametrize('values', [[], [[1.0]], [1.0, np.nan]])
def test_histogram_refuses_what_it_cannot_count(values, tmp_path):
  with pytest.raises(ValueError, match='histogram needs finite values'):
    plots.histogram(np.array(values), tmp_path / 'h.png', title='x', xlabel='y')


def test_importing_plots_does_not_import_matplotlib():
  tree = ast.parse(Path(plots.__file__).read_text())
  imports = [
    node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)
  ]
  assert imports
  assert not any('matplotlib' in ast.unparse(node) for node in imports)


def test_drawing_leaves_pyplot_alone(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'matplotlib.pyplot', None)  # an import would raise
  plots.curves(epoch_lines(2), tmp_path / 'c.png', title='x')
  plots.histogram([1, 2, 2], tmp_path / 'h.png', title='x', xlabel='y')
