"""BLEU of a set of translations, as sacrebleu counts it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seqjax.types import InputError


def check_bleu() -> None:
  """Raises InputError where there is no sacrebleu: before a run, not at its end.

  Example:
    >>> text.check_bleu()
  """
  _metric(lower=False)


def corpus_bleu(
  translations: Sequence[str], references: Sequence[str], *, lower: bool = False
) -> float:
  """BLEU of all translations together, 0 to 100.

  Args:
    translations: Texts as they would be read, not split into words: sacrebleu splits
      both sides as mteval-v13a does.
    references: As many, one for each.
    lower: Upper and lower case are the same.

  Raises:
    InputError: There is no sacrebleu, or there are not as many of both, or none.

  Source: Papineni et al. 2002 (ACL); Post 2018, arXiv:1804.08771.

  Example:
    >>> references = ['The cat sat on the mat.', 'The dog ate my homework.']
    >>> score = text.corpus_bleu(['The cat sat on a mat.', 'A dog ate it.'], references)
    >>> round(score, 1)
    32.5
  """
  if len(translations) != len(references) or not references:
    raise InputError(
      f'BLEU needs a reference for each translation, one at least; got '
      f'{len(translations)} translations and {len(references)} references'
    )
  result = _metric(lower).corpus_score(list(translations), [list(references)])
  return float(result.score)


def _metric(lower: bool) -> Any:
  try:
    from sacrebleu.metrics import BLEU  # an extra
  except ImportError as error:
    raise InputError('BLEU needs sacrebleu: pip install sacrebleu') from error
  return BLEU(lowercase=lower)
