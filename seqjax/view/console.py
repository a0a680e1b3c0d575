"""What a run shows on the screen: tables, a progress bar, plain lines for a file.

On a terminal there are colours and a bar that rewrites itself, in a notebook a bar
below the cell. Anything else (a pipe, a job's output file) gets the same tables and one
plain line per event, without a single escape code.
"""

from __future__ import annotations

import html
import io
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self, TextIO

from rich import box, progress
from rich.console import Console
from rich.table import Table

_PAIR = 'val_'  # `val_loss` is the validation side of `loss`


class Display:
  """Shows how far a run is: a bar with ETA and loss, or plain lines now and then.

  with Display(config.num_steps, start_step=int(state.step)) as shown:
    shown.update(step, loss=0.43)  # after each window that was fetched
    shown.epoch_line(1, 10, {'loss': 0.43, 'val_loss': 0.41}, seconds=12.3)
  """

  def __init__(
    self,
    num_steps: int,
    *,
    start_step: int = 0,
    stream: TextIO | None = None,
    quiet: bool = False,
    min_seconds: float = 5.0,
    clock: Callable[[], float] = time.monotonic,
  ):
    """Prepares; the bar appears on entering the context.

    Args:
      num_steps: Step at which the run ends.
      start_step: Finished steps, not 0 when resumed.
      stream: Where to print; sys.stdout by default.
      quiet: Show nothing.
      min_seconds: Least time between two plain lines of `update`.
      clock: Seconds that never run backwards.
    """
    self._num_steps = num_steps
    self._min_seconds = min_seconds
    self._clock = clock
    self._first: tuple[float, int] | None = None  # time and step of the first update
    self._last_line = -float('inf')
    self._console = _console(stream)
    self._console.quiet = quiet
    self._bar: progress.Progress | None = None
    self._cell: Any = None  # IPython's handle of what is shown below a cell
    self._shows_cell = not quiet and stream is None and _in_notebook()
    if not quiet and self._console.is_terminal and not self._console.is_dumb_terminal:
      self._bar = progress.Progress(
        progress.BarColumn(bar_width=None),
        progress.MofNCompleteColumn(),
        progress.TextColumn('{task.fields[shown]}'),
        console=self._console,
        refresh_per_second=4,
        expand=True,
      )
      self._bar.add_task('', total=num_steps, completed=start_step, shown='')

  def update(self, step: int, label: str = '', **values: float) -> None:
    """Shows the step reached, the time left and e.g. the loss of the last window.

    Args:
      step: So many are finished.
      label: To stand before the values: whose they are.
      **values: Shown by name.
    """
    now = self._clock()
    if self._first is None:
      self._first = now, step  # the first window compiles: it says nothing of the rest
    shown = f'{label}{_numbers(values)}{self._time_left(now, step)}'
    if self._bar is not None:
      self._bar.update(progress.TaskID(0), completed=step, shown=shown)
    elif self._cell is not None:
      self._cell.update(_CellBar(step, self._num_steps, shown))
    elif now - self._last_line >= self._min_seconds:
      self._last_line = now
      width = len(str(self._num_steps))
      self.note(f'step {step:{width}d}/{self._num_steps}  {shown}')

  def epoch_line(
    self,
    epoch: int,
    num_epochs: int,
    metrics: Mapping[str, float],
    seconds: float,
    label: str = '',
  ) -> None:
    """Prints the metrics of an epoch, `val_loss` beside `loss`, in one line that stays.

    Args:
      epoch: 1 for the first.
      num_epochs: Epochs of the whole run.
      metrics: `loss`, `accuracy`, ... and `val_loss`, `val_accuracy`, ...
      seconds: Time that the epoch took, validation included.
      label: To stand in front: whose epoch it is.
    """
    width = len(str(num_epochs))
    line = f'{label}epoch {epoch:{width}d}/{num_epochs}  {_numbers(metrics)}'
    self.note(f'{line}  {format_seconds(seconds)}')

  def note(self, line: str) -> None:
    """Prints a line, above the bar where there is one."""
    self._console.print(line, soft_wrap=True)

  def __enter__(self) -> Self:
    if self._bar is not None:
      self._bar.start()
    if self._shows_cell:
      from IPython.display import display  # a notebook has it

      self._cell = display(_CellBar(0, self._num_steps, ''), display_id=True)
    return self

  def __exit__(self, *error: object) -> None:
    if self._bar is not None:
      self._bar.stop()

  def _time_left(self, now: float, step: int) -> str:
    if self._first is None or not self._first[1] < step < self._num_steps:
      return ''
    start, first_step = self._first
    rate = (now - start) / (step - first_step)
    return f'  {format_seconds(rate * (self._num_steps - step))} left'


class _CellBar(NamedTuple):
  """A bar as a notebook shows it."""

  step: int
  num_steps: int
  shown: str

  def __repr__(self) -> str:
    return f'step {self.step}/{self.num_steps}  {self.shown}'

  def _repr_html_(self) -> str:
    bar = f'<progress value="{self.step}" max="{self.num_steps}"></progress>'
    return f'{bar} <code>{html.escape(repr(self))}</code>'


def _in_notebook() -> bool:
  """Whether this process is a kernel, which shows more than text."""
  ipython = sys.modules.get('IPython')
  shell = None if ipython is None else ipython.get_ipython()
  return getattr(shell, 'kernel', None) is not None


def summary_table(
  rows: Iterable[tuple[str, str, Sequence[int | str | None], int]],
  *,
  title: str = 'Model',
  stream: TextIO | None = None,
) -> None:
  """Prints the layers of a model and the number of its parameters.

  Args:
    rows: Name, kind, output shape (None or 'B' for a free axis) and number of
      parameters of each layer.
    title: Printed above.
    stream: Where to print; sys.stdout by default.
  """
  rows = list(rows)
  table = _table(['layer', 'kind', 'output'], ['params'])
  for name, kind, shape, params in rows:
    axes = ', '.join('B' if axis is None else str(axis) for axis in shape)
    table.add_row(name, kind, f'[{axes}]', f'{params:,}')
  table.add_section()
  table.add_row('total', '', '', f'{sum(row[3] for row in rows):,}', style='bold')
  _print(stream, title, table)


def facts_table(
  facts: Mapping[str, Any], *, title: str = '', stream: TextIO | None = None
) -> None:
  """Prints names and values, one a line: devices, sizes, paths.

  Args:
    facts: What to show, in this order. Floats get four digits, integers separators.
    title: Printed above.
    stream: Where to print; sys.stdout by default.
  """
  width = max(map(len, facts), default=0)
  lines = (f'{name:{width}}  {format_value(value)}' for name, value in facts.items())
  _print(stream, title, '\n'.join(lines))


def results_table(
  splits: Mapping[str, Mapping[str, float]],
  *,
  title: str = 'Results',
  stream: TextIO | None = None,
) -> None:
  """Prints one row per split (or epoch, or model) and one column per metric.

  Args:
    splits: Row name -> metric -> value; a metric that a row lacks stays empty.
    title: Printed above.
    stream: Where to print; sys.stdout by default.
  """
  metrics = list(dict.fromkeys(name for row in splits.values() for name in row))
  table = _table([''], metrics)
  for split, row in splits.items():
    cells = (format_value(row[name]) if name in row else '' for name in metrics)
    table.add_row(split, *cells)
  _print(stream, title, table)


def format_value(value: Any) -> str:
  """A value for a reader: 0.8812, 0.001, 328,353, 1.250e-07, anything else by str."""
  if isinstance(value, bool) or not isinstance(value, int | float):
    return str(value)
  if isinstance(value, int):
    return f'{value:,}'
  size = abs(value)
  if size == 0 or 0.1 <= size < 1e4:
    return f'{value:.4f}'
  return f'{value:.4g}' if 1e-3 <= size < 0.1 else f'{value:.3e}'


def format_seconds(seconds: float) -> str:
  """A time for a reader: 4.2 s, 3 min 05 s, 2 h 07 min."""
  if seconds < 59.95:
    return f'{seconds:.1f} s'
  minutes, rest = divmod(round(seconds), 60)
  if minutes < 60:
    return f'{minutes} min {rest:02d} s'
  return f'{minutes // 60} h {minutes % 60:02d} min'


def _numbers(values: Mapping[str, float]) -> str:
  """loss 0.4312 (val 0.4501)  accuracy 0.8123 (val 0.7990)."""
  parts = []
  for name, value in values.items():
    if name.startswith(_PAIR) and name.removeprefix(_PAIR) in values:
      continue  # shown beside its partner
    part = f'{name} {format_value(value)}'
    if _PAIR + name in values:
      part += f' (val {format_value(values[_PAIR + name])})'
    parts.append(part)
  return '  '.join(parts)


def _table(left: Iterable[str], right: Iterable[str]) -> Table:
  table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False, header_style='bold')
  for name in left:
    table.add_column(name, overflow='fold')
  for name in right:
    table.add_column(name, justify='right', overflow='fold')
  return table


def _print(stream: TextIO | None, title: str, body: Table | str) -> None:
  console = _console(stream)
  if title:
    console.print(title, style='bold')
  # Lines of text are left to the terminal to wrap: a path stays one word to copy.
  console.print(body, soft_wrap=isinstance(body, str))
  console.print()


def say(line: str) -> None:
  """Prints a line at once, where there is a stream to print to."""
  _console(None).print(line, soft_wrap=True)


class _Stream(io.TextIOBase):
  """A stream that takes any text: what it can't encode is a question mark.

  One that breaks, as a pipe whose reader has gone, is let go: no run ends for it.
  """

  def __init__(self, stream: TextIO | None):
    self._stream = None if stream is None or stream.closed else stream
    self._encoding = getattr(stream, 'encoding', None) or 'utf-8'

  @property
  def encoding(self) -> str:  # type: ignore[override]
    return self._encoding

  def isatty(self) -> bool:
    return self._stream is not None and self._stream.isatty()

  def _do(self, act: Callable[[TextIO], object]) -> None:
    # Whoever lends a stream may also close it before this one is collected, which
    # flushes: a ValueError.
    try:
      if self._stream is not None:
        act(self._stream)
    except (OSError, ValueError):
      self._stream = None

  def write(self, text: str) -> int:
    safe = text.encode(self._encoding, 'replace').decode(self._encoding)
    self._do(lambda stream: stream.write(safe))
    return len(text)

  def flush(self) -> None:
    self._do(lambda stream: stream.flush())

  def fileno(self) -> int:
    if self._stream is None:
      raise OSError('there is no stream')
    return self._stream.fileno()


def _console(stream: TextIO | None) -> Console:
  safe = _Stream(sys.stdout if stream is None else stream)
  # Said outright, as rich otherwise believes FORCE_COLOR more than the stream.
  # Markup is off: a shape [B, 32] is no style.
  terminal = safe.isatty()
  width = None if terminal or 'COLUMNS' in os.environ else 80
  return Console(
    file=safe,  # type: ignore[arg-type]
    force_terminal=terminal,
    force_jupyter=False,
    width=width,
    markup=False,
    highlight=False,
    emoji=False,
  )
