"""What a run tells its user: tables at the start and the end, result.json, curves."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from seqjax import models
from seqjax.config import TrainConfig
from seqjax.training.state import TrainState
from seqjax.view import comparisons, console, plots
from seqjax.workdir.integrity import Restored
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
  checkpoints: Saves,
  restored: Restored | None,
  changes: Mapping[str, str],
  label: str = '',
) -> None:
  """Prints where the run goes on, what was refused, and what may change its bits.

  `label`, here and below, stands in front: which of several runs it is.
  """
  show_rejected(checkpoints, label)
  if restored is not None:
    console.say(f'{label}resumed from step {restored.step}')
    for name, change in changes.items():
      console.say(
        f'{label}{name} {change}: expect the same values, but not bit for bit'
      )
  elif checkpoints.rejected:
    console.say(f'{label}no intact checkpoint: starting at step 0')


def show_rejected(checkpoints: Saves, label: str = '') -> None:
  """Prints which checkpoints the last restore refused, and why."""
  for reason in checkpoints.rejected:
    console.say(f'{label}checkpoint {reason}: refused')


def show_stopped(
  signal: str, step: int, num_steps: int, folder: Path | None, label: str = ''
) -> None:
  """Prints where a run was stopped, and how it goes on."""
  done = f'{label}{signal}: step {step} of {num_steps} is'
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


def settings(config: TrainConfig, seeds: str = '') -> str:
  """The most important ones, in a line; `seeds` where there are several."""
  rate = f', rate {config.learning_rate:g}' if config.optimizer != 'custom' else ''
  seeds = seeds or f'seed {config.seed}'
  return f'{config.optimizer}{rate}, batch {config.batch_size}, {seeds}'


def make_summary(
  name: str, results: Mapping[int, Mapping[str, Any]], diverged: Mapping[int, str]
) -> dict[str, Any]:
  """What result.json holds of several seeds; `mean` and `spread` are as theirs.

  Spread: standard deviation over seeds (n - 1); None where there is one.
  """
  values = list(results.values())

  def fold(of: Callable[[list[float]], Any], parts: list[Any]) -> dict[str, Any]:
    summary = {}
    for key, first in parts[0].items() if parts else ():
      same = [part.get(key) for part in parts]
      if all(isinstance(value, Mapping) for value in same):
        summary[key] = fold(of, same)
      elif isinstance(first, int | float) and None not in same and key != 'seed':
        summary[key] = of(same)
    return summary

  def spread(numbers: list[float]) -> float | None:
    return float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None

  return {
    'experiment': name,
    'seeds': list(results),
    'diverged': {str(seed): reason for seed, reason in diverged.items()},
    'seconds': sum(value['seconds'] for value in values),
    'mean': fold(lambda numbers: float(np.mean(numbers)), values),
    'spread': fold(spread, values),
  }


def draw_seeds(
  title: str,
  folder: Path,
  places: Mapping[int, Path],
  config: TrainConfig,
  published: Mapping[str, float] | None,
) -> None:
  """Draws the learning curves of several seeds, which lie in `places`, in one."""
  comparisons.seed_curves(
    {seed: read_metrics(seed_folder) for seed, seed_folder in places.items()},
    folder / 'curves.png',
    title=f'{title}: {settings(config, f"{len(places)} seeds")}',
    published=published,
  )


def show_seeds(
  folder: Path,
  results: Mapping[int, Mapping[str, Any]],
  summary: Mapping[str, Any],
) -> None:
  """Prints the best epochs and tests of several seeds, mean and spread."""

  def row(result: Mapping[str, Any]) -> dict[str, Any]:
    best = {k: v for k, v in (result.get('best') or {}).items() if k.startswith('val_')}
    return best | {k: v for k, v in result.items() if k.startswith('test_')}

  rows = {f'seed {seed}': row(result) for seed, result in results.items()}
  rows |= {name: row(summary[name]) for name in ('mean', 'spread')}
  console.results_table(
    {
      name: {k: v for k, v in values.items() if isinstance(v, int | float)}
      for name, values in rows.items()
    }
  )
  console.facts_table(
    {
      'time in steps': console.format_seconds(summary['seconds']),
      'result': folder / 'result.json',
      'picture': folder / 'curves.png',
    }
  )


def show_end(folder: Path, result: Mapping[str, Any]) -> None:
  """Prints the results, and where they are."""
  rows = {}
  for label in ('final', 'best'):
    values = dict(result[label] or {})
    values.pop('step', None)
    if values:
      rows[f'{label} epoch ({int(values.pop("epoch"))})'] = values
  prefix = 'test_'
  test = {k.removeprefix(prefix): v for k, v in result.items() if k.startswith(prefix)}
  if test:
    rows[f'test, epoch {result["tested_epoch"]}'] = test
  console.results_table(rows)
  console.facts_table(
    {
      'time in steps': console.format_seconds(result['seconds']),
      'sequences/s': result['sequences_per_second'],
      'result': folder / 'result.json',
      'picture': folder / 'curves.png',
    }
  )
