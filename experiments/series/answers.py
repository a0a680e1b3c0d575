"""What forecasts for the rows of a file share: intervals, what came, a picture."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.prediction import (
  LEVEL,
  Calibration,
  Members,
  check_several,
  say_coverage,
  spread_out,
)
from seqjax.view import time_plots

_HELD_OUT = 500  # windows of validation and of test, for intervals


def calibrate(
  members: Members,
  held_out: Callable[[Any, np.ndarray], tuple[np.ndarray, np.ndarray]],
) -> Calibration | None:
  """What makes intervals of forecasts, by validation windows of the first run.

  How many test windows they hold is said on the error stream.

  Args:
    members: Who forecast.
    held_out: (data of the run, anchors [N]) -> what the members forecast from there,
      [S, N], and what came, [N]; of several targets and horizons [S, N, ...].

  Returns:
    None where there is one forecast alone.

  Raises:
    InputError: The data of the run are not there; or held-out windows are asked for,
      and there is one forecast alone.
  """
  check_several(members)
  if members.size == 1:
    return None
  data, most = members.load(), members.request.held_out or _HELD_OUT
  of_validation, of_test = (
    held_out(data, part.rows[spread_out(len(part.rows), most)])
    for part in (data.validation, data.test)
  )
  calibration = Calibration.of(*of_validation)
  say_coverage(calibration, *of_test, 'test windows')
  return calibration


def due(
  times: np.ndarray,
  rows: np.ndarray,
  ahead: int | np.ndarray,
  step: int,
  *,
  across_gaps: bool,
) -> np.ndarray:
  """When that comes which is forecast from some rows.

  Windows that cross gaps were trained on the row so far on, whatever its time; what
  lies beyond the last row is some steps of time after it.

  Args:
    times: Of the file's rows [N], increasing.
    rows: The last that each forecast has seen.
    ahead: How many rows later; may be of another shape, by the rules of NumPy.
    step: From a row to the next, in the unit of `times`.
    across_gaps: If windows cross gaps.
  """
  there = np.minimum(rows + ahead, len(times) - 1) if across_gaps else rows
  beyond = np.asarray((rows + ahead - there) * step)
  if times.dtype.kind == 'M':  # NumPy deprecates numbers without a unit
    beyond = beyond.astype(times.dtype.str.replace('M8', 'm8'))
  return times[there] + beyond


def measured(times: np.ndarray, values: np.ndarray, due: np.ndarray) -> np.ndarray:
  """What came at the times that are due; NaN where the file does not have them.

  Args:
    times: Of the file's rows [N], increasing.
    values: [N].
    due: Of any shape, which the result has.
  """
  index = np.minimum(np.searchsorted(times, due), len(times) - 1)
  return np.where(times[index] == due, values[index], np.nan)


def draw(answers: Mapping[str, np.ndarray], path: str, name: str, target: str) -> None:
  """Draws the last forecasts, what was measured, and the interval where there is one.

  Args:
    answers: 'for', 'forecast', 'now', 'measured', and maybe 'low' and 'high', [N] each.
    path: PNG file.
    name: Who forecasts.
    target: Quantity and unit.
  """
  title = f'{target}, the last {len(answers["for"]):,} forecasts'
  title += f', with intervals of {LEVEL:.0%}' if 'low' in answers else ''
  time_plots.forecasts(
    answers['for'],
    answers['measured'],
    {name: answers['forecast'], 'naive': answers['now']},
    Path(path),
    title=title,
    ylabel=target,
    band=np.stack([answers['low'], answers['high']]) if 'low' in answers else None,
  )
