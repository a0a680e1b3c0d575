"""How trained runs are asked: one, or several at once; plainly, or by samples.

Each task's `predict` takes the `Request` and the `Members` that answer. Each member
is a run, or a sample of one with its dropout left on. Outputs have the members as their
first axis; a task makes an answer of their mean, and says how far they are apart.
"""

import dataclasses
import functools
import json
import os
import pathlib
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import experiment
from seqjax import config as config_lib
from seqjax import workdir as workdir_lib
from seqjax.config import field
from seqjax.data.batches import InOrder, resident_of
from seqjax.training import evaluation
from seqjax.types import Batch, InputError, PyTree

LEVEL = 0.9  # the share of an interval
TEXTS = ('text', 'file', 'text_column')  # the flags by which texts are given
_BATCH = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request(config_lib.Flags):
  """See --help."""

  workdir: str = field(
    '',
    'Folder of the run; several, with commas between them, or a run of many seeds '
    'answer as one, by their mean.',
    path=True,
  )
  text: str | None = field(None, 'One text.')
  file: str | None = field(
    None,
    'Texts, UTF-8, one a line or a --text_column; or rows of weather; default stdin.',
    path=True,
  )
  text_column: str | None = field(
    None, 'Column of the texts in a CSV file or in JSON lines, by its name.'
  )
  json: bool = field(False, 'Print a JSON object a line, all unknown words in it.')
  samples: int | None = field(
    None,
    'Leave dropout on and answer so many times: mean, spread and an interval of 90 %.',
    at_least=2,
  )
  seed: int = field(0, 'Of the masks of samples.', at_least=0)
  held_out: int | None = field(
    None,
    'So many examples of the test set, which need the data of the run, show how far to '
    'trust the answers; default 500 of forecasts with an interval, else none.',
    at_least=1,
  )
  data_dir: str = field(
    '', "Folder of the run's data, if they are not where they were.", path=True
  )
  picture: str = field(
    '', 'PNG of the last forecasts, with their interval as a band.', path=True
  )


class Members:
  """The runs that answer together.

  Attributes:
    runs: One at least, of one task and with inputs alike.
    first: The first of them: its folder and config say what the inputs are.
    request: What they are asked.
    size: S, how many answers an example gets.
  """

  def __init__(self, request: Request) -> None:
    self.runs = _open_runs(request.workdir)
    self.first = self.runs[0]
    self.size = len(self.runs) * (request.samples or 1)
    self.request = request
    self._params: list[PyTree] = []
    # Runs of one model share a program.
    self._program = functools.cache(
      functools.partial(evaluation.make_outputs, samples=request.samples)
    )
    for other in self.runs[1:]:
      _check_alike(self.first, other)

  def outputs(
    self, batches: Iterable[Batch], num_examples: int, start: int = 0, **fields: Any
  ) -> PyTree:
    """Those for N examples, leaves [S, N, ...]; see `evaluation.make_outputs`.

    `fields` of the models are set to what is given.
    """
    if not self._params:
      batch = next(iter(batches))
      arrays, gather = resident_of(batches)
      self.params(jax.eval_shape(gather, arrays, batch).x)
    of_runs = []
    for i, (run, params) in enumerate(zip(self.runs, self._params, strict=True)):
      model = run.model.clone(**fields) if fields else run.model
      program = self._program(model, run.config.compute_dtype)
      seed = self.request.seed + i
      of_runs.append(program(params, batches, num_examples, start, seed))
    if self.request.samples is None:
      of_runs = jax.tree.map(lambda a: a[None], of_runs)
    return jax.tree.map(lambda *a: np.concatenate(a), *of_runs)

  def params(self, x: Any) -> list[PyTree]:
    """The best ones of each run, of inputs like x."""
    if not self._params:
      self._params = [experiment.best_params(run, x) for run in self.runs]
    return self._params

  def load(self) -> Any:
    """The data of the first run, as its task reads them.

    Raises:
      InputError: They are not there.
    """
    config: Any = self.first.config
    folder = self.request.data_dir
    own = {name: getattr(config, name, '') for name in ('data', 'labels')}
    if folder and own['data']:  # files or folders of one's own
      moved = {
        k: os.path.join(folder, pathlib.Path(v).name) for k, v in own.items() if v
      }
      config = dataclasses.replace(config, **moved)
    elif folder:
      config = dataclasses.replace(config, data_dir=folder)
    return self.first.task.load(config)

  def held_out(self, source: Any) -> tuple[PyTree, np.ndarray]:
    """Outputs, leaves [S, N, ...], and labels of some examples from all over a set."""
    chosen: Any = Chosen(source, spread_out(len(source), self.request.held_out or 0))
    labels = source.take(chosen.rows).y
    return self.outputs(InOrder(chosen, _BATCH), len(chosen)), labels


def _open_runs(workdir: str) -> list[experiment.Run]:
  """The runs that --workdir names; one that `num_seeds` made is all of its seeds."""
  names = workdir.split(',')
  if pathlib.Path(workdir).exists():  # a comma may be part of its name
    names = [workdir]
  runs = []
  for name in names:
    name = os.path.expanduser(name)
    folder = pathlib.Path(name)
    of_seeds = workdir_lib.seed_folders(folder / workdir_lib.SEEDS) if name else {}
    if of_seeds and (folder / 'result.json').exists():
      for seed in json.loads((folder / 'result.json').read_text())['diverged']:
        place = of_seeds.get(int(seed))
        if place and not (place / 'result.json').exists():  # else it has ended since
          del of_seeds[int(seed)]
          print(f'{name}: seed {seed} diverged, and is left out', file=sys.stderr)
      if not of_seeds:
        raise InputError(f'--workdir={name}: all of its seeds diverged')
    runs += [experiment.open_run(str(place)) for place in of_seeds.values() or [name]]
  if len({run.folder.resolve() for run in runs}) < len(runs):
    raise InputError(f'--workdir={workdir} names a run twice')
  return runs


def _check_alike(first: experiment.Run, other: experiment.Run) -> None:
  """Raises InputError unless the same inputs can be handed to both."""
  pair = f'--workdir: {first.folder} and {other.folder}'
  if first.task is not other.task:
    raise InputError(
      f'{pair} are runs of {first.experiment} and {other.experiment}, which do not '
      'answer the same'
    )
  for name in first.task.INPUTS:
    inputs = []
    for run in (first, other):
      path = run.folder / name
      kept = path.read_bytes() if path.exists() else None
      inputs.append(getattr(run.config, name, None) if '.' not in name else kept)
    if inputs[0] != inputs[1]:
      what = 'content' if '.' in name else f'{inputs[0]!r} and {inputs[1]!r}'
      raise InputError(f'{pair} take other inputs: {name} differs ({what})')


def check_asked(members: Members) -> None:
  """Raises InputError for what the task of the runs is not asked, by its `ASKED`."""
  # A task of one's own that names none takes all.
  every = (*TEXTS, 'held_out', 'picture')
  asked = getattr(members.first.task, 'ASKED', every)
  for name in every:
    if name not in asked and getattr(members.request, name) not in (None, ''):
      known = ', '.join(f'--{other}' for other in asked)
      raise InputError(f'--{name}: a run of {members.first.experiment} takes {known}')


def check_several(members: Members) -> None:
  """Raises InputError if intervals of one answer are to be tried on examples."""
  if members.size == 1 and members.request.held_out:
    raise InputError(
      '--held_out: one answer has no interval; give --samples or several runs'
    )


def spread(values: np.ndarray) -> dict[str, Any]:
  """Facts on a number by its members' [S]: nothing where S is 1."""
  if len(values) == 1:
    return {}
  low, high = interval(values)
  return {'spread': float(values.std(ddof=1)), 'low': float(low), 'high': float(high)}


def spread_line(facts: dict[str, Any]) -> str:
  """The same for a reader."""
  if not facts:
    return ''
  return f' +- {facts["spread"]:.4f} ({facts["low"]:.4f} to {facts["high"]:.4f})'


def of_class(
  logits: np.ndarray, classes: Sequence[Any], name: str = 'label'
) -> tuple[dict[str, Any], str]:
  """The likeliest class by the members' logits [S, C], for a program and a reader."""
  each = softmax(logits)
  p = each.mean(0)
  best = int(p.argmax())
  apart = spread(each[:, best])
  answer = {
    name: classes[best],
    'probability': float(p.max()),
    **apart,
    'probabilities': dict(zip(classes, p.tolist(), strict=True)),
  }
  return answer, f'{p.max():.4f}{spread_line(apart)}  {classes[best]}'


def interval(values: np.ndarray) -> np.ndarray:
  """Where the middle 90 % of the members lie: [S, ...] -> [2, ...]."""
  return np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)


class Calibration(NamedTuple):
  """What makes of the members of a forecast an interval that holds what is measured.

  The members' spread is what the model does not know; what is measured scatters
  besides, and by how much is asked of examples that the model has not learned from:
  the interval is their mean +- factor * sqrt(variance + noise). Sources: Gal &
  Ghahramani 2016, arXiv:1506.02142, for the two variances; Lei et al. 2018,
  arXiv:1604.04173, for the factor, the quantile of what was seen.

  Where an example has several numbers, [...], each has its own of both.
  """

  noise: np.ndarray
  factor: np.ndarray

  @classmethod
  def of(cls, members: np.ndarray, y: np.ndarray) -> 'Calibration':
    """From members [S, N, ...] and what was measured [N, ...]."""
    error, variance = y - members.mean(0), members.var(0, ddof=1)
    noise = np.maximum(0, np.mean(error**2 - variance, axis=0))
    scores = np.abs(error) / np.sqrt(np.maximum(variance + noise, 1e-12))
    share = min(1.0, LEVEL * (1 + 1 / len(y)))  # so that a new one lies within
    return cls(noise, np.quantile(scores, share, axis=0, method='higher'))

  def interval(self, members: np.ndarray) -> np.ndarray:
    """[S, N, ...] -> lower and upper ends [2, N, ...]."""
    mean, variance = members.mean(0), members.var(0, ddof=1)
    half = self.factor * np.sqrt(variance + self.noise)
    return np.stack([mean - half, mean + half])


def coverage(interval: np.ndarray, y: np.ndarray) -> np.ndarray:
  """The share of y [N, ...] within an interval [2, N, ...]: [...]."""
  return np.mean((interval[0] <= y) & (y <= interval[1]), axis=0)


class Confidence(NamedTuple):
  """How often the likeliest class is right, and how often the members say it is."""

  right: float
  confidence: float  # mean probability of the likeliest class
  error: float  # expected calibration error, of ten bins (Guo et al., arXiv:1706.04599)

  @classmethod
  def of(cls, probabilities: np.ndarray, y: np.ndarray) -> 'Confidence':
    """From the members' mean [N, C] and classes [N]."""
    confidence, right = probabilities.max(-1), probabilities.argmax(-1) == y
    bins = np.minimum((confidence * 10).astype(int), 9)
    gaps = np.bincount(bins, right - confidence, minlength=10)
    return cls(
      float(right.mean()), float(confidence.mean()), float(np.abs(gaps).sum()) / len(y)
    )


def of_steps(each: np.ndarray, names: Sequence[Any]) -> tuple[list[dict], str]:
  """How sure the members [S, T, C] are of the likeliest class of each step, by name.

  Returns:
    (facts on each step, what a reader is told of the least sure one); nothing of one
    member.
  """
  p = each.mean(0)[: len(names)]
  best = p.argmax(-1)
  if len(each) == 1 or not len(best):
    return [], ''
  facts = [
    {'probability': float(p[t, i]), **spread(each[:, t, i])} for t, i in enumerate(best)
  ]
  t = int(p.max(-1).argmin())
  apart = spread_line(facts[t])
  return facts, f', least sure of {names[t]}: {p[t].max():.4f}{apart}'


def softmax(logits: np.ndarray) -> np.ndarray:
  """Probabilities of logits [..., C]."""
  p = np.exp(logits - logits.max(-1, keepdims=True))
  return p / p.sum(-1, keepdims=True)


class Chosen:
  """Some rows of a source, as one."""

  def __init__(self, source: Any, rows: np.ndarray):
    self._source, self.rows = source, rows

  def __len__(self) -> int:
    return len(self.rows)

  def take(self, rows: np.ndarray) -> Any:
    return self._source.take(self.rows[rows])


def spread_out(number: int, most: int) -> np.ndarray:
  """Of `number` rows `most`, or all, at even distances."""
  return np.linspace(0, number - 1, min(most, number)).astype(np.int64)


def say_confidence(probabilities: np.ndarray, y: np.ndarray, of: str) -> None:
  """Says on the error stream how far the members' probabilities [S, N, C] hold."""
  together, first = (
    Confidence.of(p, y) for p in (probabilities.mean(0), probabilities[0])
  )
  print(
    f'held out, {len(y):,} {of}: {together.right:.4f} right, mean probability '
    f'{together.confidence:.4f}, calibration error {together.error:.4f} '
    f'(one of {len(probabilities)} alone: {first.right:.4f}, {first.confidence:.4f}, '
    f'{first.error:.4f})',
    file=sys.stderr,
  )


def say_coverage(
  calibration: Calibration, members: np.ndarray, y: np.ndarray, of: str
) -> None:
  """Says on the error stream how often intervals of members [S, N, ...] hold y."""
  found = coverage(calibration.interval(members), y)
  alone = coverage(interval(members), y)
  apart = ''
  if found.size > 1:
    apart = f' (by target and horizon {found.min():.1%} to {found.max():.1%})'
  print(
    f'held out, {len(y):,} {of}: the interval of {LEVEL:.0%} holds {found.mean():.1%}'
    f'{apart}, that of the members alone {alone.mean():.1%}',
    file=sys.stderr,
  )
