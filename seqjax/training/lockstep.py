"""Runs that wait for each other, so that one program computes a step of all of them.

A run is a generator: it yields what it wants computed, and is sent what came of it.
Whatever else it does (logs, saves, early stopping) it does alone, as if it were alone.
"""

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from seqjax.cluster.watchdog import Watchdog
from seqjax.training.programs import Programs
from seqjax.types import Array, Batch, PyTree

T = TypeVar('T')


class Step(NamedTuple):
  """Asks for what a program of `train_steps` returns, and how many share its time."""

  step: int  # steps done
  steps: int  # to be done
  state: PyTree
  batch: Batch
  key: Array


class Evaluation(NamedTuple):
  """Asks for means over all examples of some batches."""

  step: float  # steps done; infinity: when no run trains any more
  params: PyTree
  batches: Iterable[Batch]


Request = Step | Evaluation
Run = Generator[Request, Any, T]


class Group(Generic[T]):
  """Runs on the same devices, whose programs compute one run or all of them at once.

  Those that are behind come first, until all are at the same step: a run that was
  killed between two of its saves has them at two steps. A run that waits, or has ended,
  is computed all the same, for nothing: a run's bits depend on its place in the
  program alone, and the program stays the same.
  """

  def __init__(
    self,
    runs: Sequence[Run[T]],
    programs: Programs,
    evaluate: Callable[[PyTree, Iterable[Batch]], Generator[None, None, Any]],
    watch: Watchdog,
    own: tuple[type[Exception], ...],
  ):
    """Takes the runs, `Programs` for so many, and `evaluation.make` of them.

    An error of the kinds `own` ends the run that raises it, others end all.
    """
    self._runs, self._programs, self._evaluate = runs, programs, evaluate
    self._watch, self._own = watch, own
    self._compiled, self._sent = {0}, 1  # lengths of dispatches, and of the last one
    self._requests: dict[int, Request] = {}
    self.outcomes: dict[int, T | Exception] = {}

  def start(self) -> None:
    """Brings each run to what it asks for first."""
    for lane in range(len(self._runs)):
      self._send(lane, None)

  def due(self) -> dict[int, Request]:
    """What the runs that are furthest behind ask for; {} at the end."""
    first = min(map(_priority, self._requests.values()), default=None)
    return {n: one for n, one in self._requests.items() if _priority(one) == first}

  def turn(self, requests: dict[int, Any], sharers: int) -> Iterator[None]:
    """Computes what is due; so many runs, of all groups, share the time it takes.

    Yields where the devices have been given something to do, and other groups may have
    their turn: before its runs wait for a step, and after each batch of an evaluation.
    """
    answers = yield from self._compute(requests)
    for lane, answer in answers.items():
      step = isinstance(requests[lane], Step)
      self._send(lane, (*answer, sharers) if step else answer)

  def close(self) -> None:
    """Ends the runs that have not ended."""
    with contextlib.ExitStack() as held:  # whatever one of them raises
      for run in self._runs:
        held.callback(run.close)

  def _send(self, lane: int, answer: Any) -> None:
    self._requests.pop(lane, None)
    try:
      self._requests[lane] = self._runs[lane].send(answer)
    except StopIteration as ended:
      self.outcomes[lane] = ended.value
    except self._own as error:
      self.outcomes[lane] = error

  def _compute(self, requests: dict[int, Any]) -> Generator[None, None, dict[int, Any]]:
    one = next(iter(requests.values()))
    if isinstance(one, Step):  # the program of another group may be compiled by now
      is_new = one.steps not in self._compiled
      self._watch.beat(compiles=is_new, steps=max(self._sent, one.steps))
      self._compiled.add(one.steps)
      self._sent = one.steps
    if self._programs.models is None:
      (lane,) = requests
      if isinstance(one, Evaluation):
        return {lane: (yield from self._evaluate(one.params, one.batches))}
      answer = self._programs.train_steps[one.steps](*one[2:])
      yield
      return {lane: answer}
    lanes = range(self._programs.models)
    if isinstance(one, Evaluation):
      params = tuple(requests.get(lane, one).params for lane in lanes)
      results = yield from self._evaluate(params, one.batches)
    else:
      # Copies: the step is given the memory of each state, and of none twice.
      states = tuple(
        requests[n].state if n in requests else jax.tree.map(jnp.copy, one.state)
        for n in lanes
      )
      batches = tuple(requests.get(lane, one).batch for lane in lanes)
      keys = tuple(requests.get(lane, one).key for lane in lanes)
      train_steps = self._programs.train_steps[one.steps]
      results = zip(*train_steps(states, batches, keys), strict=True)
      yield
    return {n: a for n, a in zip(lanes, results, strict=True) if n in requests}


def _priority(request: Request) -> tuple[float, bool]:
  """What is done first; an epoch is evaluated before the step that follows."""
  return request.step, isinstance(request, Step)


def drive(groups: Sequence[Group[T]]) -> None:
  """Brings all runs to their ends; groups on different devices work at once."""
  with contextlib.ExitStack() as held:
    for group in groups:
      held.callback(group.close)
    for group in groups:
      group.start()
    while any(due := [group.due() for group in groups]):
      sharers = sum(map(len, due))
      turns = [
        group.turn(requests, sharers)
        for group, requests in zip(groups, due, strict=True)
        if requests
      ]
      while turns:
        turns = [turn for turn in turns if next(turn, turn) is None]
