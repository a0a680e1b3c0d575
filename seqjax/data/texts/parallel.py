"""Generated texts in pairs, of which the one is made into the other.

Drawn as in `synthetic`: a seed gives the same texts everywhere.
"""

from __future__ import annotations

import datetime

import numpy as np

from seqjax.data.texts.known import Parallel
from seqjax.data.texts.synthetic import cut
from seqjax.types import InputError


def most_sums(digits: int) -> int:
  """How many `addition` can draw: the last of all would have to be looked for."""
  return int(10 ** (2 * digits) // 4)


def addition(seed: int, num_pairs: int, digits: int) -> dict[str, Parallel]:
  """Sums such as '27+605' and what they come to, of up to so many digits; none twice.

  Numbers of each length are drawn as often, so that the short ones are soon all there.
  A tenth is validation, another the test; 27+605 and 605+27 are in one part.

  Raises:
    InputError: They are more than some half of the sums there are.
  """
  most = most_sums(digits)
  if num_pairs > most:
    raise InputError(
      f'`num_pairs` must be at most {most:,}, some half of the sums of {digits} '
      f'digits, got {num_pairs:,}'
    )
  rng = np.random.RandomState(seed)
  drawn: dict[tuple[int, int], tuple[int, int]] = {}
  while len(drawn) < num_pairs:
    lengths = rng.randint(1, digits + 1, 2)
    a, b = (int(rng.randint(10**n)) for n in lengths)
    drawn.setdefault((min(a, b), max(a, b)), (a, b))
  sums = list(drawn.values())
  return _cut(Parallel([f'{a}+{b}' for a, b in sums], [str(a + b) for a, b in sums]))


_MONTHS = (
  *('January', 'February', 'March', 'April', 'May', 'June', 'July', 'August'),
  *('September', 'October', 'November', 'December'),
)
_DAYS = (
  *('Monday', 'Tuesday', 'Wednesday', 'Thursday'),
  *('Friday', 'Saturday', 'Sunday'),
)
# How a date may be written; {n} is the day's number, {m} the month's.
_FORMS = (
  '{n} {month} {y}',
  '{n} {mon} {y}',
  '{month} {n}, {y}',
  '{mon} {n}, {y}',
  '{weekday}, {month} {n}, {y}',
  '{weekday} {n} {month} {y}',
  'the {nth} of {month} {y}',
  '{n}.{m}.{y}',
  '{n:02}.{m:02}.{yy:02}',
  '{m}/{n}/{y}',
  '{m:02}/{n:02}/{yy:02}',
  '{n} {mon} {yy:02}',
)


def dates(seed: int, num_pairs: int) -> dict[str, Parallel]:
  """Dates as people write them, and as ISO 8601: 'the 3rd of May 2021', '2021-05-03'.

  Of 1970 to 2069, so that two digits tell the year. Days are not twice in the set, and
  a tenth is validation, another the test: neither day of these is seen in training.

  Raises:
    InputError: There are not so many days.
  """
  first = datetime.date(1970, 1, 1)
  days = (datetime.date(2070, 1, 1) - first).days
  if num_pairs > days:
    raise InputError(
      f'`num_pairs` must be at most {days:,}, the days from 1970 to 2069, got '
      f'{num_pairs:,}'
    )
  rng = np.random.RandomState(seed)
  sources, targets = [], []
  for offset in rng.permutation(days)[:num_pairs].tolist():
    day = first + datetime.timedelta(offset)
    text = _FORMS[rng.randint(len(_FORMS))].format(
      n=day.day,
      nth=_ordinal(day.day),
      m=day.month,
      month=_MONTHS[day.month - 1],
      mon=_MONTHS[day.month - 1][:3],
      weekday=_DAYS[day.weekday()],
      y=day.year,
      yy=day.year % 100,
    )
    sources.append((text, text.lower(), text.upper())[rng.randint(3)])
    targets.append(day.isoformat())
  return _cut(Parallel(sources, targets))


def _ordinal(n: int) -> str:
  ending = {1: 'st', 2: 'nd', 3: 'rd'}.get(n % 10, 'th')
  return f'{n}{"th" if 10 < n < 14 else ending}'


# A made-up language: words of one for words of the other, and another order.
_NOUNS = {
  'hund': 'dog',
  'mann': 'man',
  'frau': 'woman',
  'kind': 'child',
  'ball': 'ball',
}
_LOOKS = {'klein': 'small', 'rot': 'red', 'alt': 'old', 'weiss': 'white'}
_DEEDS = {'sieht': 'sees', 'wirft': 'throws', 'holt': 'fetches', 'malt': 'paints'}
_TIMES = {'heute': 'today', 'dort': 'there', 'oft': 'often'}


def captions(seed: int, number: int) -> dict[str, Parallel]:
  """Sentences of a made-up language and their translation, verb and time elsewhere."""
  rng = np.random.RandomState(seed)

  def pick(words: dict[str, str]) -> tuple[str, str]:
    return list(words.items())[rng.randint(len(words))]

  sources, targets = [], []
  for _ in range(number):
    (who, a), (what, b), (deed, c) = pick(_NOUNS), pick(_NOUNS), pick(_DEEDS)
    (look, d), (time, e) = pick(_LOOKS), pick(_TIMES)
    if rng.randint(2):
      sources.append(f'{time} {deed} ein {who} den {what}, {look}.')
      targets.append(f'A {a} {c} the {d} {b} {e}.')
    else:
      sources.append(f'Der {who}, {look}, {deed} einen {what} {time}.')
      targets.append(f'The {d} {a} {c} a {b} {e}.')
  return _cut(Parallel(sources, targets))


def _cut(whole: Parallel) -> dict[str, Parallel]:
  """Eight tenths to train on, a tenth to validate and one to test."""
  number = len(whole.sources)
  return cut(whole, number * 8 // 10, number * 9 // 10)
