"""Made-up texts for each task, to try an experiment without data.

All are drawn from RandomState, whose stream NumPy promises for all times: a seed gives
the same texts everywhere. What is to be found stands in the texts: words of a topic,
endings of a language, frames around a slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from seqjax.data.texts.known import Pairs, Parallel, Tagged
from seqjax.data.texts.labelled import Labelled, Splits, split

_T = TypeVar('_T', Tagged, Pairs, Parallel)

_VALIDATION = _TEST = 0.15

_TOPICS = {
  'food': 'bread soup oven salt butter onion cook taste plate kitchen',
  'garden': 'rose soil seed spade hedge bloom weed lawn bulb apple',
  'music': 'song choir drum piano chord tune concert singer violin rhythm',
  'space': 'star orbit moon rocket planet comet launch crew dust apple',
  'sport': 'goal team match coach player score league win drum race',
}
_FILLERS = ['the', 'a', 'of', 'in', 'and', 'to', 'was', 'it', 'they', 'we', 'on', 'for']

# Languages by their syllables and endings; the first are the most frequent.
_LANGUAGES = {
  'Arvic': ('dra vor mik zan gor', 'ov ev in'),
  'Belish': ('hal wen ast bur ton', 'ley ton ford'),
  'Cortan': ('ria bel lo mar ca', 'ini etti ano'),
  'Dunese': ('ka shi mo ta ya', 'ko ra mi'),
}

_ARTISTS = 'the silver foxes|anna bell|two rivers|miles|grey harbour choir'
_SONGS = 'rain at noon|silver|home again|two rivers|the long road'
_CITIES = 'oslo|new haven|san marco|bell|port grey'
_DAYS = 'today|tomorrow|next monday|on sunday night'
_TITLES = 'the long road|silver harbour|home|anna and the foxes'
_SLOTS = {
  'artist': _ARTISTS.split('|'),
  'song': _SONGS.split('|'),
  'city': _CITIES.split('|'),
  'date': _DAYS.split('|'),
  'title': _TITLES.split('|'),
}
_COMMANDS = {
  'BookTable': ('book a table in {city} {date}', 'we want to eat in {city} {date}'),
  'GetWeather': ('will it rain in {city} {date}', 'what is it like {date} in {city}'),
  'PlayMusic': ('play {song} by {artist}', 'i want to hear {artist} with {song}'),
  'RateBook': ('rate {title} with five stars', 'give {title} three points of six'),
}

# Words that are a noun or a verb by their place: 'the saw cuts', 'they saw the plans'.
_SPEECH = {
  'DET': ['the', 'a', 'every', 'some', 'this'],
  'ADJ': ['old', 'green', 'quick', 'plain', 'wooden', 'quiet', 'light'],
  'NOUN': ['saw', 'plan', 'dog', 'house', 'light', 'watch', 'river', 'cut', 'walk'],
  'VERB': ['saw', 'plan', 'cut', 'watch', 'light', 'walk', 'finds', 'takes'],
  'ADP': ['in', 'near', 'with', 'under', 'over'],
  'PRON': ['they', 'we', 'she', 'it', 'you'],
  'ADV': ['often', 'never', 'quickly', 'again'],
  'PUNCT': ['.'],
}
_SENTENCES = (
  'DET NOUN VERB DET NOUN PUNCT',
  'PRON VERB DET ADJ NOUN PUNCT',
  'PRON ADV VERB DET NOUN ADP DET NOUN PUNCT',
  'DET ADJ NOUN ADP DET NOUN VERB ADV PUNCT',
)

_PERSONS = ['a man', 'a woman', 'two children', 'a dog', 'an old sailor']
_DEEDS = ['is running', 'is playing a drum', 'sleeps', 'is eating soup', 'is painting']
_PLACES = ['in a garden', 'near the river', 'on a stage', 'at home', 'under a tree']


def topics(seed: int, number: int) -> Splits:
  """Texts of five topics; a word of another topic comes in now and then."""
  rng = np.random.RandomState(seed)
  words = {name: text.split() for name, text in _TOPICS.items()}
  texts, labels = [], []
  for _ in range(number):
    label = _pick(rng, list(words))
    text = []
    for _ in range(rng.randint(12, 40)):
      chance = rng.random_sample()
      topic = label if chance < 0.2 else _pick(rng, list(words))
      text.append(_pick(rng, _FILLERS if chance > 0.25 else words[topic]))
    texts.append(' '.join(text))
    labels.append(label)
  return _split(texts, labels)


def names(seed: int, number: int) -> Splits:
  """Names of four languages, each half as frequent as the one before it."""
  rng = np.random.RandomState(seed)
  kinds = list(_LANGUAGES)
  shares = 0.5 ** np.arange(len(kinds))
  texts, labels = [], []
  for _ in range(number):
    label = kinds[rng.choice(len(kinds), p=shares / shares.sum())]
    syllables, endings = (part.split() for part in _LANGUAGES[label])
    drawn = [_pick(rng, syllables) for _ in range(rng.randint(1, 4))]
    texts.append(''.join([*drawn, _pick(rng, endings)]).capitalize())
    labels.append(label)
  return _split(texts, labels)


def commands(seed: int, number: int) -> dict[str, Tagged]:
  """Commands of four intents with slots in BIO tags; some fillers fit several slots."""
  rng = np.random.RandomState(seed)
  words, tags, classes = [], [], []
  for _ in range(number):
    intent = _pick(rng, list(_COMMANDS))
    line: list[str] = []
    slots: list[str] = []
    for part in _pick(rng, _COMMANDS[intent]).split():
      name = part.strip('{}')
      first, *rest = [part] if name == part else _pick(rng, _SLOTS[name]).split()
      line += [first, *rest]
      slots += ['O'] if name == part else [f'B-{name}', *[f'I-{name}'] * len(rest)]
    words.append(line)
    tags.append(slots)
    classes.append(intent)
  return _parts(Tagged(words, tags, classes))


def sentences(seed: int, number: int) -> dict[str, Tagged]:
  """Sentences and the part of speech of each word, which its place tells."""
  rng = np.random.RandomState(seed)
  tags = [_pick(rng, _SENTENCES).split() for _ in range(number)]
  words = [[_pick(rng, _SPEECH[tag]) for tag in row] for row in tags]
  return _parts(Tagged(words, tags))


def pairs(seed: int, number: int) -> dict[str, Pairs]:
  """Pairs of sentences of three parts each: 1, and 4/3 for each part in common."""
  rng = np.random.RandomState(seed)
  sentence_pairs: list[tuple[str, str]] = []
  scores: list[float] = []
  for _ in range(number):
    a = [_pick(rng, part) for part in (_PERSONS, _DEEDS, _PLACES)]
    b = [_pick(rng, part) for part in (_PERSONS, _DEEDS, _PLACES)]
    b = [x if rng.random_sample() < 0.4 else y for x, y in zip(a, b, strict=True)]
    sentence_pairs.append((' '.join(a), ' '.join(b)))
    scores.append(1 + 4 / 3 * sum(x == y for x, y in zip(a, b, strict=True)))
  return _parts(Pairs(sentence_pairs, scores))


def play(seed: int, number: int) -> str:
  """A play of so many speeches, each a speaker and a sentence of `sentences`."""
  rng = np.random.RandomState(seed)
  lines = []
  for _ in range(number):
    tags = _pick(rng, _SENTENCES).split()[:-1]
    words = ' '.join(_pick(rng, _SPEECH[tag]) for tag in tags)
    lines.append(f'{_pick(rng, ["ANNA", "BRUNO", "CLARA"])}:\n{words}.\n')
  return '\n'.join(lines)


def _pick(rng: np.random.RandomState, choices: Sequence[str]) -> str:
  return choices[rng.randint(len(choices))]


def _split(texts: list[str], labels: list[str]) -> Splits:
  locations = [f'generated text {i}' for i in range(len(texts))]
  drawn = {'train': Labelled(texts, labels, locations)}
  return split(drawn, _VALIDATION, _TEST, seed=0)


def _parts(whole: _T) -> dict[str, _T]:
  number = len(whole[0])
  ends = int(number * (1 - _TEST - _VALIDATION)), int(number * (1 - _TEST))
  return cut(whole, *ends)


def cut(whole: _T, train: int, test: int) -> dict[str, _T]:
  """The examples of each part: those before row `train`, up to `test`, and from it."""
  rows = {
    'train': slice(train),
    'validation': slice(train, test),
    'test': slice(test, None),
  }
  return {
    name: type(whole)._make(column and column[part] for column in whole)
    for name, part in rows.items()
  }
