"""A small task that can be learnt, for tests of whole runs.

As a command it trains in a workdir: `python tests/toy.py WORKDIR [field=value ...]`.
"""

import dataclasses
import pathlib
import sys
import time

import jax
import numpy as np

import seqjax as sj
from seqjax import train as train_lib
from seqjax.config import TrainConfig, parse
from seqjax.data.batches import InOrder, Shuffled
from seqjax.training import losses
from seqjax.training.plan import Data, Task
from seqjax.types import CommandError, Examples
from seqjax.workdir.progress import Monitor

SETTINGS = {
  'num_epochs': 4,
  'batch_size': 32,
  'learning_rate': 0.01,
  'log_every': 3,
  'save_every': 3,
}


def examples(N=200, T=9, V=12):
  """Label 1 where id 3 comes before id 5 does."""
  x = np.random.default_rng(0).integers(1, V, (N, T)).astype(np.int32)
  first3, first5 = (np.where((x == i).any(1), (x == i).argmax(1), T) for i in (3, 5))
  return Examples(x, (first3 < first5).astype(np.float32))


def model(features=6, rate=0.1):
  encoder = sj.LSTM(features, dropout=rate, recurrent_dropout=rate)
  return sj.SequenceClassifier(12, 5, encoder)


def train(
  workdir, *, wrap_feed=lambda feed: feed, features=6, rate=0.1, data=None, **settings
):
  """Trains the toy; `wrap_feed` may put something between the feed and the loop.

  Further arguments are fields of the config, or go to `train.run`.
  """
  fields = {spec.name for spec in dataclasses.fields(TrainConfig)}
  more = {name: settings.pop(name) for name in settings.keys() - fields}
  config = TrainConfig(workdir=str(workdir), **{**SETTINGS, **settings})
  data = examples() if data is None else data
  fit, held_out = (
    Examples(data.x[:150], data.y[:150]),
    Examples(data.x[150:], data.y[150:]),
  )
  task = Task(
    more.pop('model', None) or model(features, rate),
    losses.binary_xent,
    {'accuracy': losses.binary_accuracy},
    Monitor('accuracy', higher_is_better=True),
    more.pop('frozen', ()),
  )
  feed = wrap_feed(Shuffled(fit, config.batch_size, config.seed))
  test = InOrder(held_out, config.batch_size)
  return train_lib.run(
    config, task, Data(feed, test, test), name='toy', title='A toy', **more
  )


class _Stuck:
  """A feed that does not return from a step in process 1, once in a workdir."""

  def __init__(self, feed, step, workdir):
    self._feed, self._step = feed, step
    self._mark = pathlib.Path(workdir, 'was-stuck')
    self.steps_per_epoch, self.fingerprint = feed.steps_per_epoch, feed.fingerprint
    self.resident = feed.resident

  def batch(self, step):
    if step == self._step and jax.process_index() == 1 and not self._mark.exists():
      self._mark.touch()
      while True:
        time.sleep(1)
    return self._feed.batch(step)


def _spoil(kind):
  """Data with something wrong: NaN in a label, or an id outside the vocabulary."""
  data = examples()
  if kind == 'nan':
    data.y[40] = np.nan
  if kind == 'id':
    data.x[40, 2] = 12
  return data


def main(arguments):
  """Trains as flags say; further ones: rate, bad=nan|id, stuck_at=STEP."""
  workdir, *pairs = arguments
  found = dict(pair.split('=') for pair in pairs)
  more = {'rate': float(found.pop('rate', 0.1)), 'data': _spoil(found.pop('bad', ''))}
  if stuck_at := found.pop('stuck_at', None):
    more['wrap_feed'] = lambda feed: _Stuck(feed, int(stuck_at), workdir)
  config = parse(TrainConfig, [f'--{name}={value}' for name, value in found.items()])
  train(workdir, **{name: getattr(config, name) for name in found}, **more)


if __name__ == '__main__':
  try:
    main(sys.argv[1:])
  except CommandError as error:
    print(f'toy: {error}', file=sys.stderr)
    sys.exit(error.exit_code)
