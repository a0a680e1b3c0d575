"""A look at labelled texts, and at what a trained classifier of them mistakes."""

import dataclasses
import math
import pathlib
import textwrap
from collections import Counter
from typing import Any

import numpy as np

from experiments import experiment, prediction
from experiments.texts import classification, running, vocabulary
from seqjax import config as config_lib
from seqjax.config import field
from seqjax.data.texts.labelled import Labelled, Splits, classes_of
from seqjax.types import InputError
from seqjax.view import console, plots

_SHARE = 0.005  # of a class's texts a word must be in to stand out in it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(config_lib.Flags):
  """See --help."""

  data: str = field(
    '', 'Table or folder of labelled texts, as for classify.', path=True
  )
  text_column: str = field('text', 'Column of a table that holds the texts.')
  label_column: str = field('label', 'Column that holds the labels.')
  workdir: str = field(
    '', 'Run whose data and mistakes to look at, in place of data.', path=True
  )
  out: str = field('runs/classify_explore', 'Folder of the picture.', path=True)
  words: int = field(6, 'Words of each class to show.', at_least=1)
  mistakes: int = field(5, 'Mistakes to show.', at_least=0)


def run(task: Any, settings_class: Any, config: Config) -> None:
  """Prints and draws.

  Args:
    task: Of the command that reads such data.
    settings_class: Its config.
    config: Which data, or which run.

  Raises:
    InputError: Data or run cannot be used, or both or neither are given.
  """
  if bool(config.data) == bool(config.workdir):
    raise InputError('give one of --data, --workdir')
  trained: experiment.Run | None = None
  settings: Any = settings_class(
    data=config.data, text_column=config.text_column, label_column=config.label_column
  )
  if config.workdir:
    trained = experiment.open_run(config.workdir)
    settings, task = trained.config, trained.task
    if not isinstance(task, classification.Of):
      raise InputError(
        f'--workdir={config.workdir} is a run of {trained.experiment}, which is no '
        'classification of texts'
      )
  texts = task.read(settings)
  words = _words(settings, texts)
  _show_sizes(texts, words, settings.tokens)
  _show_classes(texts, words, config.words)
  folder = pathlib.Path(config.out)
  folder.mkdir(parents=True, exist_ok=True)
  plots.histogram(
    np.array([len(row) for row in words['train']]),
    folder / 'lengths.png',
    title='Lengths of the training texts',
    xlabel=f'Length ({settings.tokens})',
  )
  console.facts_table({'picture': folder / 'lengths.png'})
  if trained is not None:
    _show_mistakes(trained, task.load(settings), config.mistakes)


def _words(settings: classification.Config, texts: Splits) -> dict[str, list[Any]]:
  """Words, or characters, of each text of each part."""
  tokenizer = vocabulary.fit(texts.train.texts, by=settings.tokens)
  return {
    name: [vocabulary.words_of(tokenizer, text) for text in part.texts]
    for name, part in texts._asdict().items()
  }


def _show_sizes(texts: Splits, words: dict[str, list[Any]], kind: str) -> None:
  known = {word for row in words['train'] for word in row}
  rows = {}
  for name, part in texts._asdict().items():
    lengths = np.array([len(row) for row in words[name]])
    tokens = [word for row in words[name] for word in row]
    rows[name] = {
      'texts': len(part.texts),
      'classes': len(set(part.labels)),
      'mean': float(lengths.mean()),
      'least': int(lengths.min()),
      'median': int(np.median(lengths)),
      '95 %': int(np.percentile(lengths, 95)),
      'most': int(lengths.max()),
      'unknown': float(np.mean([word not in known for word in tokens])),
    }
  console.results_table(rows, title=f'Texts, {kind} in a text, share of unknown ones')


def _show_classes(texts: Splits, words: dict[str, list[Any]], most: int) -> None:
  rows: dict[str, dict[str, Any]] = {}
  counts = {name: Counter(part.labels) for name, part in texts._asdict().items()}
  for label in classes_of(texts.train):
    rows[label] = {name: counts[name][label] for name in counts}
  console.results_table(rows, title='Texts of each class')
  for label, outstanding in _outstanding(texts.train, words['train'], most).items():
    print(textwrap.fill(f'{label}: {", ".join(outstanding)}', 80))
  print()


def _outstanding(part: Labelled, words: list[Any], most: int) -> dict[str, list[str]]:
  """Words that texts of a class have more often than others do, the clearest first.

  By the z of Monroe et al. 2008 (Political Analysis 16, 372-403), of the log odds that
  a text has the word, each count raised by 1/2.
  """
  sizes = Counter(part.labels)
  inside: dict[str, Counter] = {label: Counter() for label in sizes}
  everywhere: Counter = Counter()
  for label, row in zip(part.labels, words, strict=True):
    inside[label].update(set(row))
    everywhere.update(set(row))
  N = len(words)

  def z(word: str, label: str) -> float:
    a, n = inside[label][word], sizes[label]
    b, m = everywhere[word] - a, N - n
    cells = [a + 0.5, n - a + 0.5, b + 0.5, m - b + 0.5]
    odds = math.log(cells[0] * cells[3] / (cells[1] * cells[2]))
    return odds / math.sqrt(sum(1 / cell for cell in cells))

  outstanding = {}
  for label in sorted(sizes):
    least = _SHARE * sizes[label]
    zs = {w: -z(w, label) for w, count in inside[label].items() if count >= least}
    outstanding[label] = sorted(zs, key=lambda word: (zs[word], word))[:most]
  return outstanding


def _show_mistakes(
  trained: experiment.Run, data: classification.Data, most: int
) -> None:
  source: Any = data.parts[2]
  texts, classes = data.texts.test, data.classes
  params = experiment.best_params(trained, source.take(np.zeros(1, int)).x)
  logits = running.outputs(trained.config, trained.model, params, source)
  p = prediction.softmax(logits)
  predicted, labels = p.argmax(-1), source.labels
  wrong = np.flatnonzero(predicted != labels)
  print(f'{len(wrong):,} of {len(labels):,} texts of the test set are mistaken')
  pairs = Counter((classes[labels[i]], classes[predicted[i]]) for i in wrong)
  rows = {f'{a} for {b}': {'texts': n} for (a, b), n in pairs.most_common(10)}
  if rows:
    console.results_table(rows, title='Taken: true class, for which one')
  for i in wrong[np.argsort(-p[wrong].max(-1), kind='stable')][:most]:
    shown = ' '.join(texts.texts[i].split())
    print(f'{texts.locations[i]}: {classes[labels[i]]}, found {classes[predicted[i]]} '
          f'with {p[i].max():.3f}: {shown[:200]}')  # fmt: skip
