"""Short stories with a question each, in the manner of bAbI's tasks 1 to 3.

Persons go from place to place, take things up and put them down. Task 1 asks where a
person is, 2 where a thing is, 3 where a thing was before it was somewhere: what the
answer follows from are one, two and three sentences of the story.

Source: Weston et al. 2015, arXiv:1502.05698; the sentences are our own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

PERSONS = ('anna', 'bruno', 'clara', 'david')
PLACES = ('attic', 'cellar', 'garden', 'hall', 'kitchen', 'office')
THINGS = ('apple', 'book', 'lamp')
TASKS = (1, 2, 3)
_GOES = ('went to', 'moved to', 'walked to', 'ran back to')
_TAKES = ('picked up', 'took', 'grabbed')
_DROPS = ('put down', 'dropped', 'left')
_LEAST = {1: 2, 2: 5, 3: 8}  # sentences before the question, at least and at most
_MOST = {1: 10, 2: 16, 3: 24}


class Story(NamedTuple):
  """What is told, what is asked, and what is to be answered."""

  sentences: list[str]  # without full stops
  question: str  # without a question mark
  answer: str  # one of PLACES
  facts: tuple[int, ...]  # the sentences that it follows from

  @property
  def text(self) -> str:
    """As one would write it."""
    return ''.join(f'{sentence}. ' for sentence in self.sentences) + f'{self.question}?'


class _World:
  """Who and what is where, and in which sentences that was said."""

  def __init__(self) -> None:
    self.sentences: list[str] = []
    self.location: dict[str, str] = {}  # of persons
    self.stated_in: dict[str, int] = {}  # the sentence that says so
    self.holder: dict[str, str] = {}
    # The places that a thing was at one after the other, and the facts of each.
    self.places: dict[str, list[tuple[str, tuple[int, ...]]]] = {}

  def go_on(self, rng: np.random.RandomState, *, moves_alone: bool) -> None:
    """Adds a sentence."""
    person, now = _pick(rng, PERSONS), len(self.sentences)
    held = [thing for thing in THINGS if self.holder.get(thing) == person]
    here = self.location.get(person)
    free = [t for t in THINGS if t not in self.holder and here is not None
            and (t not in self.places or self.places[t][-1][0] == here)]  # fmt: skip
    chance = 1.0 if moves_alone else rng.random_sample()
    if chance < 0.3 and free:
      thing = _pick(rng, free)
      self.places.setdefault(
        thing, [(self.location[person], (self.stated_in[person], now))]
      )
      self.holder[thing], self.stated_in[thing] = person, now
      done = f'{_pick(rng, _TAKES)} the {thing}'
    elif chance < 0.4 and held:
      thing = _pick(rng, held)
      del self.holder[thing]
      done = f'{_pick(rng, _DROPS)} the {thing}'
    else:
      there = _pick(rng, [location for location in PLACES if location != here])
      self.location[person], self.stated_in[person] = there, now
      for thing in held:
        self.places[thing].append((there, (self.stated_in[thing], now)))
      done = f'{_pick(rng, _GOES)} the {there}'
    self.sentences.append(f'{person} {done}')


def words(task: int) -> list[str]:
  """All words that stories of a task and their questions are made of, each once.

  Raises:
    ValueError: There is no such task.
  """
  _check_task(task)
  said = ['where', 'the', *PERSONS, *PLACES, *_GOES]
  said += ['was', 'before'] if task == 3 else ['is']
  if task > 1:
    said += [*THINGS, *_TAKES, *_DROPS]
  return list(dict.fromkeys(' '.join(said).split()))


def tell(rng: np.random.RandomState, task: int) -> Story:
  """Draws a story.

  Raises:
    ValueError: There is no such task.
  """
  _check_task(task)
  length = rng.randint(_LEAST[task], _MOST[task] + 1)
  while True:
    world = _World()
    for _ in range(length):
      world.go_on(rng, moves_alone=task == 1)
    asked = _ask(rng, world, task)
    if asked is not None:
      question, answer, facts = asked
      return Story(world.sentences, question, answer, tuple(sorted(set(facts))))


def _ask(
  rng: np.random.RandomState, world: _World, task: int
) -> tuple[str, str, tuple[int, ...]] | None:
  """Question, answer and facts; None: the story is too poor for one."""
  if task == 1:
    person = _pick(rng, sorted(world.location))
    return f'where is {person}', world.location[person], (world.stated_in[person],)
  if task == 2:
    if not world.places:
      return None
    thing = _pick(rng, sorted(world.places))
    location, facts = world.places[thing][-1]
    return f'where is the {thing}', location, facts
  candidates = []
  for thing in sorted(world.places):
    visited = [location for location, _ in world.places[thing]]
    for i in range(1, len(visited)):
      if visited.count(visited[i]) == 1:  # else it was there twice
        candidates.append((thing, i))
  if not candidates:
    return None
  thing, i = candidates[rng.randint(len(candidates))]
  (before, facts), (location, later) = world.places[thing][i - 1 : i + 1]
  return f'where was the {thing} before the {location}', before, facts + later


def stories(seed: int, number: int, task: int) -> list[Story]:
  """So many stories of a task.

  Drawn from RandomState, whose stream NumPy promises for all times.
  """
  rng = np.random.RandomState(seed)
  return [tell(rng, task) for _ in range(number)]


def _check_task(task: int) -> None:
  if task not in TASKS:
    raise ValueError(f'task must be one of {TASKS}, got {task}')


def _pick(rng: np.random.RandomState, choices: tuple[str, ...] | list[str]) -> str:
  return choices[rng.randint(len(choices))]
