"""Claim: an epoch of IMDB, masked and bucketed, takes a fraction of a padded one.

SEQJAX_TEST_DATA=folder python -m benchmarks.epoch

25,000 training reviews, 10,000 words, 500 steps, batches of 128, from the lengths of
the real reviews; without the folder, from lengths drawn like them. Peers run over the
padding, as they do by default.
"""

import dataclasses
import os
from collections.abc import Iterator

import numpy as np

from benchmarks import cli, ours, peers
from benchmarks.report import Row
from benchmarks.timing import Runner, Timing, interleave
from benchmarks.workload import Workload
from seqjax.data.batches import Bucketed, Examples

_BATCH, _LENGTH = 128, 500
_TARGET = 0.15  # of each cell


def rows(options: cli.Options) -> Iterator[Row]:
  """A row for each cell; the last, smaller batch is left out for everybody."""
  ids, y, source = _reviews()
  steps = range(0, len(ids) // _BATCH, 16 if options.quick else 4)
  starts = [_BATCH * step for step in steps]
  padded = [(ids[i : i + _BATCH], y[i : i + _BATCH]) for i in starts]
  feed = Bucketed(Examples(ids, y), np.count_nonzero(ids, 1), _BATCH, seed=0)
  bucketed = [(batch.x, batch.y) for batch in map(feed.batch, steps)]
  for cell in ours.LAYERS:
    workload = Workload(cell, B=_BATCH, T=_LENGTH, embedding=True)
    all_steps = ours.seqjax_runner(workload, batches=padded)
    runners = [
      ours.seqjax_runner(workload, batches=bucketed, mask_zero=True),
      dataclasses.replace(all_steps, name='seqjax auto, padded'),
    ]
    for peer in peers.PEERS.values():
      if runner := peer(workload):
        runners.append(_repeated(runner, len(steps)))
    for runner in runners:
      runner.run()
    timings = interleave(
      runners, seconds=options.seconds, least_rounds=3, untimed=0, timed=1
    )
    scaled = [_times(timing, steps.step) for timing in timings]
    yield Row(f'IMDB epoch ({source}): {workload.title}', scaled, _TARGET)


def _reviews() -> tuple[np.ndarray, np.ndarray, str]:
  """(ids [N, 500] padded in front, y [N], where from)."""
  folder = os.environ.get('SEQJAX_TEST_DATA')
  if folder:
    from seqjax.data.reviews import imdb

    train = imdb.load(folder, vocab_size=10_000, length=_LENGTH).train
    return train.x, train.y, 'real reviews'
  rng = np.random.default_rng(0)
  # Log-normal lengths with the median and the mean of the real ones, 178 and 238.
  lengths = np.clip(rng.lognormal(np.log(178), 0.76, 25_000), 11, _LENGTH).astype(int)
  ids = rng.integers(1, 10_000, (len(lengths), _LENGTH)).astype(np.int32)
  ids[np.arange(_LENGTH) < _LENGTH - lengths[:, None]] = 0
  return ids, rng.integers(0, 2, len(ids)).astype(np.float32), 'lengths like theirs'


def _repeated(runner: Runner, times: int) -> Runner:
  """One batch over and over: a padded step costs the same whatever the ids."""

  def run() -> None:
    for _ in range(times):
      runner.run()

  return dataclasses.replace(runner, run=run)


def _times(timing: Timing, part: int) -> Timing:
  """The time of all batches, from that of every `part`-th."""
  low, high = timing.quartiles
  return dataclasses.replace(
    timing,
    median=part * timing.median,
    least=part * timing.least,
    quartiles=(part * low, part * high),
  )


if __name__ == '__main__':
  cli.main('epoch', __doc__, rows)
