"""A look at the weather: all quantities, the faults found, the target in pictures."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from experiments.weather import data
from experiments.weather.training import PLACES
from seqjax import workdir
from seqjax.data.series import quality
from seqjax.view import console, time_plots

_DAYS = 10


def run(config: data.Untrained) -> dict[str, Any]:
  """Shows the series; returns what result.json holds."""
  raw, name, _ = data.read(config)
  series, _, _, report, _ = quality.clean(
    raw, name, step_minutes=config.step_minutes, sentinel=config.sentinel
  )
  target = data.column(series, config.target, name)
  columns = {
    column: {
      'mean': float(np.mean(values, dtype=np.float64)),
      'std': float(np.std(values, dtype=np.float64)),
      'least': float(values.min()),
      'median': float(np.median(values)),
      'most': float(values.max()),
    }
    for column, values in zip(series.columns, series.values.T, strict=True)
  }
  result = {
    'experiment': 'jena_explore',
    'data': dataclasses.asdict(report),
    'columns': columns,
  }
  folder = Path(config.workdir or 'runs/jena_explore')
  with workdir.lock(folder):
    workdir.start_config(
      folder, dataclasses.asdict(config), workdir.environment(), PLACES
    )
    workdir.write_result(folder, result)
    days = series.times < series.times[0] + np.timedelta64(_DAYS, 'D')
    for file, rows, what in (
      ('series.png', slice(None), 'all rows'),
      ('first_days.png', days, f'the first {_DAYS} days'),
    ):
      time_plots.series(
        series.times[rows],
        series.values[rows, target],
        folder / file,
        title=f'{config.target}, {what}',
        ylabel=config.target,
      )
  console.facts_table({'data': name, **report.lines()}, title='jena_explore')
  console.results_table(columns, title='Quantities')
  console.facts_table({'result': folder / 'result.json', 'pictures': folder / '*.png'})
  return result
