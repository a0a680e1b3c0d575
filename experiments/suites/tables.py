"""Tables and pictures of finished runs: what was published, mean and spread of ours."""

import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.suites.rows import Number, Row
from seqjax import workdir
from seqjax.files import whole
from seqjax.view import comparisons
from seqjax.workdir.folder import naming, to_json
from seqjax.workdir.log import read_metrics

MARKDOWN, JSON = 'table.md', 'table.json'
_MOST_EXACT = 16  # pairs whose 2^n signs are all tried


def write(folder: pathlib.Path, suite: str, rows: Sequence[Row]) -> None:
  """Writes table.md and table.json.

  Args:
    folder: Holds NAME/seedS/ or NAME/seeds/S/ of the rows; runs without a result.json
      do not count.
    suite: Its name.
    rows: Of the suite.

  Raises:
    InputError: The disk refuses.
  """
  entries, pairs = [], []
  for row in rows:
    results = _results(folder, row.name)
    partners = _results(folder, row.against) if row.against else {}
    for number in row.numbers:
      if results:
        entries.append(_entry(row, number, results))
      if results.keys() & partners.keys():
        pairs.append(_pair(row, number, results, partners))
  record = {'suite': suite, 'rows': entries, 'pairs': pairs}
  for name, text in (
    (JSON, to_json(record, indent=2) + '\n'),
    (MARKDOWN, markdown(entries, pairs)),
  ):
    with naming(folder, name):
      whole.write(folder / name, text.encode())


def draw(folder: pathlib.Path, row: Row) -> None:
  """Draws the curves of a row's finished runs, and the row against its partner."""
  places = finished(folder, row.name)
  results = {
    seed: result
    for seed, result in _results(folder, row.name).items()
    if (places[seed] / 'metrics.jsonl').exists()
  }
  if not results:  # nothing is finished, or nothing was trained
    return
  published = {
    number.metric.removeprefix('best.val_'): number.published
    for number in row.numbers
    if number.metric.startswith('best.val_') and number.published is not None
  }
  count = next(iter(results.values()))['num_params']
  comparisons.seed_curves(
    {seed: read_metrics(places[seed]) for seed in results},
    folder / f'{row.name}.png',
    title=f'{row.name}: {count:,} parameters, {len(results)} '
    f'{"seed" if len(results) == 1 else "seeds"}',
    published=published,
  )
  partners = _results(folder, row.against) if row.against else {}
  for number in row.numbers:
    if results.keys() & partners.keys():
      pair = _pair(row, number, results, partners)
      comparisons.paired(
        list(pair['without'].values()),
        list(pair['with'].values()),
        folder / f'{row.name}_pairs_{number.metric.split(".")[-1]}.png',
        title=f'{row.name} against {row.against}, {len(pair["with"])} pairs',
        names=(row.against, row.name),
        ylabel=label(number.metric),
      )


def finished(folder: pathlib.Path, name: str) -> dict[int, pathlib.Path]:
  """Seed -> folder of the finished runs of a row, alone or trained with others."""
  places = [
    *workdir.seed_folders(folder / name / workdir.SEEDS).items(),
    *workdir.seed_folders(folder / name, 'seed').items(),
  ]
  ended = {seed: path for seed, path in places if (path / 'result.json').exists()}
  return dict(sorted(ended.items()))


def label(metric: str) -> str:
  """'best.val_accuracy' -> 'validation accuracy'; 'test_loss' -> 'test loss'."""
  name = metric.removeprefix('best.')
  last = ' of the last epoch' if name.startswith('final.') else ''
  name = name.removeprefix('final.').replace('val_', 'validation ')
  return name.replace('_', ' ') + last


def value(result: Mapping[str, Any], metric: str) -> float:
  """The number at a path of result.json."""
  entry: Any = result
  for name in metric.split('.'):
    entry = entry[name]
  return float(entry)


def markdown(
  entries: Sequence[Mapping[str, Any]], pairs: Sequence[Mapping[str, Any]]
) -> str:
  """The tables as Markdown."""
  peers = any(entry['peer'] for entry in entries)  # a column where there are some
  column, rule = (' a peer here |', '---|') if peers else ('', '')
  lines = [
    f'| run | number | published |{column} mean ± spread | seeds | parameters '
    '| seconds |',
    f'|---|---|---|{rule}---|---|---|---|',
  ]
  for entry in entries:
    spread = '' if entry['spread'] is None else f' ± {entry["spread"]:.4f}'
    published = entry['said'] or (
      '' if entry['published'] is None else f'{entry["published"]:g}'
    )
    peer = f' {entry["peer"]} |' if peers else ''
    lines.append(
      f'| {entry["name"]} | {label(entry["metric"])} | {published} |{peer} '
      f'{entry["mean"]:.4f}{spread} | {len(entry["values"])} '
      f'| {entry["num_params"]:,} | {entry["seconds"]:.0f} |'
    )
  lines += [
    '',
    'Validation numbers are of the best epoch. Spread: standard deviation over seeds '
    '(n - 1). Seconds: median time in training steps.',
  ]
  if pairs:
    lines += [
      '',
      '| pairs of the same seed | number | mean difference ± standard error '
      '| better in | p (signs) |',
      '|---|---|---|---|---|',
    ]
  for pair in pairs:
    error = '' if pair['error'] is None else f' ± {pair["error"]:.4f}'
    chance = '' if pair['p'] is None else f'{pair["p"]:.3g}'
    lines.append(
      f'| {pair["name"]} minus {pair["against"]} | {label(pair["metric"])} '
      f'| {pair["mean"]:+.4f}{error} | {pair["greater"]} of {len(pair["with"])} '
      f'| {chance} |'
    )
  return '\n'.join(lines) + '\n'


def _results(folder: pathlib.Path, name: str) -> dict[int, dict[str, Any]]:
  """Seed -> result.json of the finished runs of a row."""
  return {
    seed: json.loads((run_folder / 'result.json').read_text())
    for seed, run_folder in finished(folder, name).items()
  }


def _entry(
  row: Row, number: Number, results: Mapping[int, Mapping[str, Any]]
) -> dict[str, Any]:
  """One line of the table."""
  values = {seed: value(result, number.metric) for seed, result in results.items()}
  numbers = list(values.values())
  return {
    'name': row.name,
    'experiment': row.experiment,
    'metric': number.metric,
    'published': number.published,
    'said': number.published_text,
    'peer': number.peer,
    'mean': float(np.mean(numbers)),
    'spread': float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None,
    'values': {str(seed): v for seed, v in values.items()},
    'num_params': next(iter(results.values()))['num_params'],
    'seconds': float(np.median([result['seconds'] for result in results.values()])),
  }


def _pair(
  row: Row,
  number: Number,
  results: Mapping[int, Mapping[str, Any]],
  partners: Mapping[int, Mapping[str, Any]],
) -> dict[str, Any]:
  """A row against its partner, seed by seed."""
  seeds = sorted(results.keys() & partners.keys())
  ours = [value(results[seed], number.metric) for seed in seeds]
  theirs = [value(partners[seed], number.metric) for seed in seeds]
  differences, n = np.subtract(ours, theirs), len(seeds)
  error = float(np.std(differences, ddof=1)) / math.sqrt(n) if n > 1 else None
  return {
    'name': row.name,
    'against': row.against,
    'metric': number.metric,
    'mean': float(differences.mean()),
    'error': error,
    'greater': int((differences > 0).sum()),
    'p': sign_flips(differences) if 1 < n <= _MOST_EXACT else None,
    'with': dict(zip(map(str, seeds), ours, strict=True)),
    'without': dict(zip(map(str, seeds), theirs, strict=True)),
  }


def sign_flips(differences: np.ndarray) -> float:
  """The share of all choices of signs whose mean is as far from 0 as this one's.

  The exact two-sided test of Fisher: if the partners were alike, each difference
  [n] could as well have had the other sign.
  """
  n = len(differences)
  signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)  # [2^n, n]
  sums = np.abs(signs @ differences)
  return float(np.mean(sums >= sums[0] - 1e-12))
