"""Made-up film reviews in which the order of the words decides the label.

Every opinion sentence holds one word of praise and one of blame. Which of the two wins
is told by order alone:

- negation: 'I found the plot clever and I didn't find the cast dull' is praise; with
  'didn't find' moved to the plot it is blame;
- contrast: what follows 'but' and 'yet' counts, what 'although' and 'even though'
  introduce does not, nor does the clause that opens with 'while' or 'granted';
- weight: 'very' counts more than 'slightly'. 'The plot was very clever and the cast
  was slightly dull' is praise.

The same words rearranged give a sentence of the other sign, so the bag of words of a
review says nothing at all about its label; pairs of neighbours say something ('not
clever'), but not across a clause. A review is positive when most of its opinion
sentences are: two that agree, or three of which at most one dissents. Sentences about
the plot and the evening stand in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

from seqjax.data.reviews.word_ids import Reviews
from seqjax.types import InputError

# This share of the reviews says the opposite of its label, as careless raters do: no
# model can be right on more than 0.98 of them.
LABEL_NOISE = 0.02


def reviews(seed: int, num_train: int, num_test: int) -> tuple[Reviews, Reviews]:
  """Writes reviews whose labels depend on the order of their words.

  The words are drawn from the raw stream of PCG64, which NumPy keeps fixed: a seed
  gives the same texts on every machine and under every version of NumPy.

  Args:
    seed: Any integer >= 0. Training and test reviews have independent streams.
    num_train: Training reviews, half of them positive, shuffled.
    num_test: Test reviews, likewise.

  Returns:
    (train, test): texts of 20 to 95 words, 51 in the mean; labels int8 [N], 1 for
    praise.

  Raises:
    InputError: A number is negative.

  Example:
    >>> from seqjax.data.reviews import synthetic
    >>> train, test = synthetic.reviews(seed=0, num_train=100, num_test=20)
    >>> len(train.texts), int(train.labels.sum())
    (100, 50)
  """
  given = {'seed': seed, 'num_train': num_train, 'num_test': num_test}
  for name, value in given.items():
    if value < 0:
      raise InputError(f'{name}: expected an integer >= 0, got {value}')
  return _draw(seed, 0, num_train), _draw(seed, 1, num_test)


def _draw(seed: int, stream: int, num: int) -> Reviews:
  """One part of the set: `num` reviews from the stream of this number."""
  order_bits, word_bits = (
    np.random.PCG64(sequence)
    for sequence in np.random.SeedSequence((seed, stream)).spawn(2)
  )
  order = np.argsort(order_bits.random_raw(num), kind='stable')
  labels = np.zeros(num, np.int8)
  labels[order[num // 2 :]] = 1
  praise = labels.astype(bool)  # what the text says, True for praise
  noisy = round(LABEL_NOISE * num / 2)  # in each class, so the classes stay balanced
  flipped = np.concatenate([order[:noisy], order[num - noisy :]])
  praise[flipped] = ~praise[flipped]
  dice = _dice(word_bits)
  return Reviews([_review(dice, bool(says)) for says in praise], labels)


def _dice(bits: np.random.PCG64) -> Iterator[int]:
  """The 64-bit numbers of the stream, without end."""
  while True:
    yield from bits.random_raw(4096).tolist()


_T = TypeVar('_T')


def _pick(dice: Iterator[int], options: Sequence[_T]) -> _T:
  return options[next(dice) % len(options)]


def _pick_two(dice: Iterator[int], options: Sequence[_T]) -> tuple[_T, _T]:
  """Two different ones."""
  first = next(dice)
  second = first + 1 + next(dice) % (len(options) - 1)
  return options[first % len(options)], options[second % len(options)]


def _review(dice: Iterator[int], praise: bool) -> str:
  """One review. What is drawn does not depend on `praise`, only where it is put."""
  verdicts = [praise] * _pick(dice, (2, 3, 3))
  dissenter = next(dice) % 8  # three of eight: so many reviews of three have a dissent
  if len(verdicts) == 3 and dissenter < 3:
    verdicts[dissenter] = not praise
  sentences = [
    _pick(dice, (_negation, _contrast, _contrast, _weight))(dice, verdict)
    for verdict in verdicts
  ]
  for _ in range(_pick(dice, (1, 2, 2, 3))):
    sentences.insert(next(dice) % (len(sentences) + 1), _remark(dice))
  text = ''
  for sentence in sentences:
    gap = _pick(dice, _GAPS) if text else ''
    text += gap + sentence[0].upper() + sentence[1:] + _pick(dice, _STOPS)
  return text


def _negation(dice: Iterator[int], praise: bool) -> str:
  """Two clauses of which one is negated: the blame if this is praise."""
  frame = _pick(dice, _FRAMES)
  good_first = next(dice) % 2 == 0
  words = _opinions(dice, good_first)
  # The first clause is negated if it holds what the verdict is not.
  negate_first = good_first != praise
  clauses = _clauses(dice, frame, words, (negate_first, not negate_first))
  return _pick(dice, _AND).join(clauses)


def _weight(dice: Iterator[int], praise: bool) -> str:
  """Two clauses that count: the verdict's word has the strong adverb."""
  frame = _pick(dice, _FRAMES)
  good_first = next(dice) % 2 == 0
  words = _opinions(dice, good_first)
  adverbs = [_pick(dice, _STRONG), _pick(dice, _WEAK)]
  if good_first != praise:
    adverbs.reverse()
  words = [f'{adverb} {word}' for adverb, word in zip(adverbs, words, strict=True)]
  clauses = _clauses(dice, frame, words)
  return _pick(dice, _AND).join(clauses)


def _contrast(dice: Iterator[int], praise: bool) -> str:
  """Two clauses of which one counts: its word agrees with the verdict."""
  pattern, first_counts = _pick(dice, _CONTRASTS)
  frame = _pick(dice, _FRAMES)
  negated = next(dice) % 4 == 0 and '{first}' in pattern  # both of them, or none
  words = _opinions(dice, good_first=(first_counts == praise) != negated)
  # A weight changes nothing here: the other clause does not count at all.
  if next(dice) % 3 == 0:
    words = [f'{_pick(dice, _STRONG + _WEAK)} {word}' for word in words]
  first, second = _clauses(dice, frame, words, (negated, negated))
  return pattern.format(first=first, second=second, a=words[0], b=words[1])


def _opinions(dice: Iterator[int], good_first: bool) -> list[str]:
  good, bad = _pick(dice, GOOD), _pick(dice, BAD)
  return [good, bad] if good_first else [bad, good]


def _clauses(
  dice: Iterator[int],
  frame: tuple[str, str],
  words: list[str],
  negated: tuple[bool, bool] = (False, False),
) -> list[str]:
  """What is said of two aspects."""
  aspects = _pick_two(dice, _ASPECTS)
  return [
    frame[no].format(aspect=aspect, word=word)
    for no, aspect, word in zip(negated, aspects, words, strict=True)
  ]


def _remark(dice: Iterator[int]) -> str:
  """A sentence without an opinion."""
  role, other = _pick_two(dice, _ROLES)
  return _pick(dice, _REMARKS).format(
    person=_pick(dice, _PERSONS),
    role=role,
    other=other,
    place=_pick(dice, _PLACES),
    time=_pick(dice, _TIMES),
    name=f'{_pick(dice, _FIRST_NAMES)} {_pick(dice, _LAST_NAMES)}',
  )


def _words(text: str) -> tuple[str, ...]:
  return tuple(text.split())


# All opinion words begin with a consonant, so no article betrays what follows.
GOOD = _words(
  """good great wonderful brilliant superb moving charming clever funny fresh gripping
  touching beautiful lovely perfect powerful memorable convincing stunning
  delightful witty remarkable terrific fantastic"""
)
BAD = _words(
  """bad terrible dull boring dreadful weak poor clumsy stale flat tedious lifeless
  predictable shallow silly messy hollow painful ridiculous forgettable pointless
  tiresome bland horrible"""
)

_STRONG = ('very', 'truly', 'extremely', 'really', 'hugely', 'deeply')
_WEAK = ('slightly', 'barely', 'mildly', 'somewhat', 'faintly', 'a little')

# A clause, and the clause that denies it.
_FRAMES = (
  ('the {aspect} was {word}', 'the {aspect} was not {word}'),
  ('the {aspect} was {word}', "the {aspect} wasn't {word}"),
  ('the {aspect} was {word}', 'the {aspect} was not at all {word}'),
  ('the {aspect} was {word}', 'the {aspect} was by no means {word}'),
  ('the {aspect} felt {word}', 'the {aspect} never felt {word}'),
  ('the {aspect} struck me as {word}', 'the {aspect} never struck me as {word}'),
  ('the {aspect} looked {word} to me', 'the {aspect} never looked {word} to me'),
  ('I found the {aspect} {word}', "I didn't find the {aspect} {word}"),
  ('I thought the {aspect} was {word}', "I didn't think the {aspect} was {word}"),
  ('I would call the {aspect} {word}', "I wouldn't call the {aspect} {word}"),
  ('everybody will find the {aspect} {word}', 'nobody will find the {aspect} {word}'),
)

_AND = (' and ', ', and ', ' and also ')

# The sentence, and whether its first clause is the one that counts.
_CONTRASTS = (
  ('{first}, but {second}', False),
  ('{first}, but {second}', False),
  ('{first}, yet {second}', False),
  ('while {first}, {second}', False),
  ('granted, {first}; {second}', False),
  ('{first}, although {second}', True),
  ('{first}, although {second}', True),
  ('{first}, even though {second}', True),
  ('I expected something {a}, but it was {b}', False),
  ('I was promised something {a}, but what I got was {b}', False),
  ('it was {a}, although I had expected something {b}', True),
  ('my friends called it {a}, but I would call it {b}', False),
  ('I would call it {a}, although my friends called it {b}', True),
)

_GAPS = (' ',) * 7 + ('<br /><br />',)
_STOPS = ('.',) * 8 + ('!', '...')

_ASPECTS = _words(
  """acting plot script music camerawork dialogue story ending opening cast direction
  lighting editing pacing score setting humour romance action finale premise soundtrack
  villain hero heroine narration mood atmosphere photography choreography makeup twist
  screenplay sequel chemistry scenery"""
)
_PERSONS = _words(
  """sister brother mother father wife husband neighbour roommate daughter son cousin
  boss grandmother uncle niece nephew girlfriend boyfriend"""
)
_ROLES = _words(
  """teacher doctor sailor detective farmer lawyer painter soldier waitress pianist
  thief widow priest boxer nurse pilot baker spy clerk dancer gardener reporter
  hunter student judge singer butcher captain jeweller driver banker magician
  plumber tailor chemist poet ranger smuggler"""
)
_PLACES = _words(
  """Boston Paris Texas Berlin Chicago London Rome Dublin Vienna Tokyo Prague Lisbon
  Denver Oslo Cairo Madrid Alaska Nevada Hamburg Naples Sydney Athens Glasgow Lyon
  Havana Warsaw"""
)
_TIMES = _words(
  """Monday Tuesday Wednesday Thursday Friday Saturday Sunday Christmas
  Halloween"""
)
_FIRST_NAMES = _words(
  """Anna Peter Laura Martin Helen Frank Julia Victor Nora Simon Clara Oscar Emma Hugo
  Alice Walter Irene Ralph Stella Edgar Ruth Leon Greta Philip Vera Conrad"""
)
_LAST_NAMES = _words(
  """Marsh Keller Novak Lindt Hale Moreau Brandt Sato Quinn Doyle Rossi Vance Alder
  Costa Hobbs Petrov Lang Ferrer Okafor Whitby Larsen Dumas Thorne Egan Falk Merrick"""
)
_REMARKS = (
  'I saw this with my {person} on {time}',
  'my {person} picked it on {time}',
  "we rented it on {time} because my {person} couldn't sleep",
  '{name} plays a {role} from {place}',
  '{name} plays the {role}, who moves to {place}',
  'the {role} is played by {name}',
  'it is about a {role} and a {other} in {place}',
  "a {role} meets a {other} and they travel to {place}; that's where it begins",
  'it was made in {place} by {name}',
  'it was shown on {time} in {place}',
  "I hadn't heard of {name} before",
  'I watched the whole thing on {time}',
  'it runs for about two hours',
  "it's the first film of {name} that I have seen",
  'the {role} loses a letter in {place}',
  'there is a {role}, there is a {other}, and there is a train to {place}',
  'most of it takes place in {place}',
  'halfway through, the {role} leaves {place} by boat',
  'my {person} and I talked about the {role} on the way home',
  'the book by {name} is set in {place}',
)
