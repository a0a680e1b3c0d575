"""BLEU by hand, from n-grams of texts that need no splitting, and what is refused."""

import collections
import sys

import numpy as np
import pytest

from seqjax import text
from seqjax.types import InputError

_WANTED = ['a man walks his old dog in the park', 'two girls sing', 'It is a red house']
_WRITTEN = [
  'a man walks his dog in the green park',
  'two girls sing a song',
  'it is a red house',
]


def _by_hand(written, wanted):
  """100 * brevity penalty * geometric mean of the four precisions."""
  right, number = np.zeros(4), np.zeros(4)
  for a, b in zip(written, wanted, strict=True):
    a, b = a.split(), b.split()
    for n in range(1, 5):
      counts, limits = (
        collections.Counter(tuple(x[i : i + n]) for i in range(len(x) - n + 1))
        for x in (a, b)
      )
      right[n - 1] += (counts & limits).total()
      number[n - 1] += counts.total()
  lengths = [sum(len(x.split()) for x in texts) for texts in (written, wanted)]
  penalty = np.exp(min(0, 1 - lengths[1] / lengths[0]))
  return 100 * penalty * np.exp(np.mean(np.log(right / number)))


def test_bleu_of_a_set_is_that_by_hand():
  pytest.importorskip('sacrebleu')
  assert text.corpus_bleu(_WRITTEN, _WANTED) == pytest.approx(
    _by_hand(_WRITTEN, _WANTED)
  )
  lowered = [x.lower() for x in _WANTED]
  found = text.corpus_bleu(_WRITTEN, _WANTED, lower=True)
  assert found == pytest.approx(_by_hand(_WRITTEN, lowered))
  short = [x.rsplit(' ', 2)[0] for x in _WANTED[:1]] + _WANTED[1:]
  assert text.corpus_bleu(short, _WANTED) == pytest.approx(_by_hand(short, _WANTED))
  # Signs are tokens of their own.
  assert text.corpus_bleu(['A dog (old) ran.'], ['A dog ( old ) ran .']) > 99.9


def test_what_cannot_be_counted_is_refused(monkeypatch):
  for written in ([], ['a']):
    with pytest.raises(InputError, match=r'a reference for each translation'):
      text.corpus_bleu(written, _WANTED[: 2 * len(written)])
  monkeypatch.setitem(sys.modules, 'sacrebleu.metrics', None)
  with pytest.raises(InputError, match='BLEU needs sacrebleu: pip install'):
    text.check_bleu()
