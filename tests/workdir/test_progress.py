"""Sums, windows, and which epoch is the best."""

import json
import math

import pytest

from seqjax.workdir.progress import Monitor, Progress, means

_ACCURACY = Monitor('accuracy', higher_is_better=True)


def _sums(loss, weight, grad_norm=1.0):
  return {'accuracy': 0.0, 'grad_norm': grad_norm, 'loss': loss, 'weight': weight}


def test_means_are_over_examples_and_the_norm_over_steps():
  progress = Progress()
  progress.add(_sums(loss=6.0, weight=4, grad_norm=1.0))
  progress.add(_sums(loss=3.0, weight=2, grad_norm=2.0))
  assert means(progress.window) == {'loss': 1.5, 'accuracy': 0.0, 'grad_norm': 1.5}
  assert next(iter(means(progress.window))) == 'loss'


def test_closing_a_window_leaves_the_epoch():
  progress = Progress()
  progress.add(_sums(loss=4.0, weight=4))
  assert progress.close_window()['loss'] == 1
  assert progress.close_window() == {}
  progress.add(_sums(loss=8.0, weight=2))
  values, _ = progress.close_epoch({'accuracy': 0.5}, 2, _ACCURACY)
  assert values == {'loss': 2.0, 'accuracy': 0.0, 'val_accuracy': 0.5}


def test_survives_json_in_the_middle_of_a_window():
  progress = Progress()
  progress.add(_sums(loss=0.1, weight=3))
  again = Progress(**json.loads(json.dumps(progress.to_json())))
  for one in (progress, again):
    one.add(_sums(loss=0.2, weight=3))
    one.close_epoch({'accuracy': 0.7}, 2, _ACCURACY)
  assert again == progress


@pytest.mark.parametrize(
  ('monitor', 'values', 'best'),
  [
    (_ACCURACY, [0.5, 0.7, 0.7, 0.6], 2),
    (Monitor(), [0.5, 0.4, 0.45, 0.4], 2),
    (_ACCURACY, [math.nan, 0.2, math.nan], 2),
    (Monitor(), [0.5, math.nan, math.inf], 1),
  ],
)
def test_best_epoch(monitor, values, best):
  progress, marked = Progress(), []
  for epoch, value in enumerate(values, 1):
    progress.add(_sums(loss=1.0, weight=1))
    _, is_best = progress.close_epoch({monitor.metric: value}, epoch, monitor)
    marked += [epoch] if is_best else []
  assert progress.best['epoch'] == best == marked[-1]
  assert progress.epochs_since_best == len(values) - best


def test_time_of_a_window_that_compiles_tells_nothing_of_speed():
  progress = Progress()
  progress.add_time(60.0, 100, compiled=True)
  progress.add_time(1.0, 100, compiled=False)
  assert progress.seconds == 61
  assert progress.timed_examples / progress.timed_seconds == 100
