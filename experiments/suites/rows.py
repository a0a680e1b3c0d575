"""What `reproduce` runs: tables of experiments and their published numbers.

A new suite is a new entry of `SUITES`; nothing else has to know of it. A published
number stands here alone; experiments ask `published`.
"""

from typing import NamedTuple


class Number(NamedTuple):
  """A number of a result, and what was published of it."""

  metric: str  # path in result.json: 'best.val_accuracy', 'final.val_mae', 'test_loss'
  published: float | None = None
  published_text: str = ''  # what was published where that is no number: 'mid 50s %'
  peer: str = ''  # what another library came to on the same batches, and which


class Row(NamedTuple):
  """One run of a suite, to be repeated with several seeds."""

  name: str  # of the flag file, of the folder of its runs, and in the table
  experiment: str
  numbers: tuple[Number, ...]
  flags: tuple[str, ...] = ()  # beside those of the flag file
  fewest: int = 1  # seeds, however few are asked for
  most: int | None = None  # seeds, however many: 1 where nothing is random
  against: str = ''  # another row: its run of the same seed is this one's partner
  at_once: bool = False  # seeds on a CPU too: measured to be faster


_BEST = 'best.val_accuracy'  # of the epoch with the best validation accuracy
_TEST = 'test_accuracy'
_DRAWS = 10  # draws of 200 reviews: one alone says nothing

_TEXT = (
  Row(
    'imdb_embedding',
    'imdb_embedding',
    (Number(_BEST, 0.76), Number(_TEST)),
    at_once=True,
  ),
  Row(
    'imdb_glove_scratch',
    'imdb_glove',
    (Number(_BEST, published_text='mid 50s %'), Number(_TEST)),
    fewest=_DRAWS,
  ),
  Row(
    'imdb_glove',
    'imdb_glove',
    (Number(_BEST, published_text='high 50s %'), Number(_TEST, 0.58)),
    fewest=_DRAWS,
    against='imdb_glove_scratch',
  ),
  Row(
    'imdb_simple_rnn',
    'imdb_simple_rnn',
    (Number(_BEST, 0.84), Number(_TEST)),
    at_once=True,
  ),
  Row('imdb_stacked_rnn', 'imdb_stacked_rnn', (Number(_BEST), Number(_TEST))),
  Row('imdb_lstm', 'imdb_lstm', (Number(_BEST, 0.88), Number(_TEST)), at_once=True),
  Row('imdb_gru', 'imdb_gru', (Number(_BEST), Number(_TEST)), at_once=True),
  Row(
    'imdb_bidirectional', 'imdb_bidirectional', (Number(_BEST, 0.886), Number(_TEST))
  ),
  Row(
    'imdb_reversed',
    'imdb_reversed',
    (Number(_BEST, 0.877), Number(_TEST)),
    at_once=True,
  ),
  Row('imdb_conv1d', 'imdb_conv1d', (Number(_BEST, 0.85), Number(_TEST))),
  Row(
    'cookbook_simple_rnn',
    'cookbook_simple_rnn',
    (Number('test_loss', 0.856), Number(_TEST, 0.716)),
    at_once=True,
  ),
  Row(
    'cookbook_simple_rnn_clipped',
    'cookbook_simple_rnn',
    (Number('test_loss'), Number(_TEST)),
    at_once=True,
  ),
  Row(
    'cookbook_simple_rnn_relu',
    'cookbook_simple_rnn',
    (Number('test_loss'), Number(_TEST)),
    at_once=True,
  ),
)


def _weather(year: str = '') -> tuple[Row, ...]:
  """The experiments on one file; published are numbers of the file of 2009 to 2016."""
  published = {
    'jena_naive': 0.29,
    'jena_dense': 0.30,
    'jena_gru': 0.265,
    'jena_gru_dropout': 0.262,
    'jena_stacked_gru': 0.263,
    'jena_bidirectional': 0.262,
    'jena_reversed': 0.399,
    'jena_lstm': None,
    'jena_conv1d': 0.45,
    'jena_conv_gru': 0.27,
  }
  celsius = {'jena_naive': 2.57, 'jena_gru': 2.35}
  return tuple(
    Row(
      f'{name}{year}',
      name,
      (
        Number('val_mae', None if year else number),
        Number('val_mae_celsius', None if year else celsius.get(name)),
        Number('test_mae'),
        Number('test_mae_celsius'),
      ),
      most=1 if name == 'jena_naive' else None,
    )
    for name, number in published.items()
  )


_TEXTS = (
  Row('topics', 'topics', (Number(_TEST, 0.963), Number('test_macro_f1'))),
  # Peers: benchmarks/texts_torch.py, means of two seeds, of tagging three.
  Row('names', 'names', (Number(_TEST, peer='torch 0.832'), Number('test_macro_f1'))),
  Row(
    'tagging',
    'tagging',
    (Number(_TEST, peer='torch 0.930'), Number(_BEST, peer='torch 0.896')),
  ),
  Row(
    'slots',
    'slots',
    (Number('test_f1', 0.878), Number('test_intent', 0.967), Number('test_exact')),
  ),
  Row('compare', 'compare', (Number('test_pearson_r', 0.88),)),
  Row(
    'char_lm',
    'char_lm',
    (
      Number('best.val_loss', published_text='1.47, transformer', peer='torch 1.542'),
      Number('best.val_bits_per_character'),
    ),
  ),
)

_SEQ2SEQ = (
  Row(
    'addition',
    'addition',
    (Number(_TEST, 0.99), Number('test_exact_match')),
  ),
  Row('dates', 'dates', (Number('test_exact_match'), Number(_TEST))),
  Row(
    'translate',
    'translate',
    (
      Number('test_bleu', published_text='about 33, full size'),
      Number('test_bleu_greedy'),
      Number('test_perplexity'),
    ),
  ),
)
_SEQUENCES = (
  Row('adding', 'adding', (Number('test_loss', 5.3e-5), Number('test_right'))),
  Row('adding_lstm', 'adding', (Number('test_loss', 0.164), Number('test_right'))),
  Row('adding_chrono', 'adding', (Number('test_loss'), Number('test_right'))),
  Row(
    'copy_memory', 'copy_memory', (Number('test_loss', 0.0197), Number('test_recall'))
  ),
  Row(
    'copy_memory_lstm',
    'copy_memory',
    (Number('test_loss', 0.0204), Number('test_recall')),
  ),
  Row(
    'copy_memory_chrono', 'copy_memory', (Number('test_loss'), Number('test_recall'))
  ),
  Row('music', 'music', (Number('test_frame_nll', 8.45), Number('best.val_frame_nll'))),
  Row(
    'music_nottingham',
    'music',
    (Number('test_frame_nll', 3.29), Number('best.val_frame_nll')),
  ),
  *(
    Row(
      name, 'pixels', (Number(_TEST, published_text=f'{mnist}, MNIST'), Number(_BEST))
    )
    for name, mnist in {
      'pixels': 0.962,
      'pixels_permuted': 0.873,
      'pixels_lstm': 0.872,
      'pixels_lstm_permuted': 0.857,
    }.items()
  ),
  *(
    Row(f'answer_{n}', 'answer', (Number(_TEST), Number('test_attention_on_facts')))
    for n in (1, 2, 3)
  ),
  *(
    Row(f'answer_{n}_plain', 'answer', (Number(_TEST, number), Number(_BEST)))
    for n, number in ((1, 0.50), (2, 0.20), (3, 0.20))
  ),
)


SUITES: dict[str, tuple[Row, ...]] = {
  'text': _TEXT,
  'texts': _TEXTS,
  'sequences': _SEQ2SEQ + _SEQUENCES,
  'weather': _weather(),
  'weather_2020': _weather('_2020'),
}


def published(experiment: str, metric: str) -> float | None:
  """What was published of an experiment with its own settings, if anything was."""
  for row in (row for rows in SUITES.values() for row in rows):
    for number in row.numbers:
      if (row.name, number.metric) == (experiment, metric):
        return number.published
  return None
