"""What a run tells its user: tables at the start and the end, result.json, curves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax

from seqjax import models
from seqjax.config import TrainConfig
from seqjax.training.state import TrainState
from seqjax.view import console, plots
from seqjax.workdir.checkpoint import Restored
from seqjax.workdir.leaves import digest
from seqjax.workdir.log import read_metrics
from seqjax.workdir.progress import Progress
from seqjax.workdir.record import Saves


def show_start(
  name: str,
  folder: Path | None,
  model: nn.Module,
  x: Any,
  environment: Mapping[str, Any],
  num_steps: int,
  facts: Mapping[str, Any] | None,
) -> None:
  """Prints layers, devices and sizes."""
  rows = models.summarize(model, x.shape, x.dtype)
  console.summary_table(
    [
      (row.name, row.kind, ('B', *row.output_shape[1:]), row.num_params) for row in rows
    ],
    title=name,
  )
  device = f'{environment["devices_used"]} x {environment["device_kind"]}'
  console.facts_table(
    {
      **(facts or {}),
      'steps': num_steps,
      'devices': device,
      **({'workdir': folder} if folder else {}),
    }
  )


def show_restored(
  checkpoints: Saves, restored: Restored | None, changes: Mapping[str, str]
) -> None:
  """Prints where the run goes on, what was refused, and what may change its bits."""
  show_rejected(checkpoints)
  if restored is not None:
    console.say(f'resumed from step {restored.step}')
    for name, change in changes.items():
      console.say(f'{name} {change}: expect the same values, but not bit for bit')
  elif checkpoints.rejected:
    console.say('no intact checkpoint: starting at step 0')


def show_rejected(checkpoints: Saves) -> None:
  """Prints which checkpoints the last restore refused, and why."""
  for reason in checkpoints.rejected:
    console.say(f'checkpoint {reason}: refused')


def show_stopped(signal: str, step: int, num_steps: int, folder: Path | None) -> None:
  """Prints where a run was stopped, and how it goes on."""
  done = f'{signal}: step {step} of {num_steps} is'
  if folder is not None:
    console.say(f'{done} saved in {folder}; started again, the run goes on from there')
  else:
    console.say(f'{done} kept in memory; resume() goes on from there')


def make_result(
  name: str,
  seed: int,
  progress: Progress,
  state: TrainState,
  tested_epoch: int,
  test: Mapping[str, float],
) -> dict[str, Any]:
  """What result.json holds; `seconds` are those of training steps, over all starts."""
  rate = None
  if progress.timed_seconds:
    rate = progress.timed_examples / progress.timed_seconds
  return {
    'experiment': name,
    'seed': seed,
    'steps': int(state.step),
    'epochs': progress.epochs,
    'best': progress.best,
    'final': progress.last,
    'tested_epoch': tested_epoch,
    **{f'test_{key}': value for key, value in test.items()},
    'num_params': sum(leaf.size for leaf in jax.tree.leaves(state.params)),
    'seconds': progress.seconds,
    'sequences_per_second': rate,
    'params_sha256': digest(state.params),
  }


def draw(
  title: str,
  folder: Path,
  config: TrainConfig,
  progress: Progress,
  published: Mapping[str, float] | None,
) -> None:
  """Draws the learning curves."""
  plots.curves(
    read_metrics(folder),
    folder / 'curves.png',
    title=f'{title}: {settings(config)}',
    best_epoch=int(progress.best['epoch']) if progress.best else None,
    published=published,
  )


def settings(config: TrainConfig) -> str:
  """The most important ones, in a line."""
  rate = f', rate {config.learning_rate:g}' if config.optimizer != 'custom' else ''
  return f'{config.optimizer}{rate}, batch {config.batch_size}, seed {config.seed}'


def show_end(folder: Path, result: Mapping[str, Any]) -> None:
  """Prints the results, and where they are."""
  rows = {}
  for label in ('final', 'best'):
    values = dict(result[label] or {})
    values.pop('step', None)
    if values:
      rows[f'{label} epoch ({int(values.pop("epoch"))})'] = values
  test = {k: v for k, v in result.items() if k.startswith('test_')}
  rows[f'test, epoch {result["tested_epoch"]}'] = {
    k.removeprefix('test_'): v for k, v in test.items()
  }
  console.results_table(rows)
  console.facts_table(
    {
      'time in steps': console.format_seconds(result['seconds']),
      'sequences/s': result['sequences_per_second'],
      'result': folder / 'result.json',
      'picture': folder / 'curves.png',
    }
  )
