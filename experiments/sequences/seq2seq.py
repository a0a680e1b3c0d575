"""The task of the experiments that make one text into another."""

import dataclasses
import functools
import itertools
import math
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from experiments import layer_flags
from experiments.prediction import TEXTS, Members, Request, spread, spread_line
from experiments.texts import running, vocabulary
from seqjax import decoding
from seqjax.config import field
from seqjax.data.batches import InOrder
from seqjax.data.sources import Arrays, Rows
from seqjax.data.texts.known import Parallel
from seqjax.files import whole
from seqjax.text import Tokenizer, check_bleu, corpus_bleu, pad_sequences
from seqjax.training import losses, metrics, plan
from seqjax.types import NO_LABEL, InputError, PyTree
from seqjax.view import attention as picture
from seqjax.workdir.progress import Monitor

TARGET_FILE, WRITTEN, PICTURE = 'target.json', 'written.tsv', 'attention.png'
_WORD = re.compile(r" ?\w+(?:'\w+)?| ?[^\w\s]")  # with the space before it
_BATCH, _SHOWN = 64, 4
_EIGHTS = 8  # lengths are rounded up to them: few, so few programs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(layer_flags.BothWays):
  """What they can be told; see --help."""

  tokens: Literal['characters', 'words'] = field(
    'characters', 'What is read and written at each step; words in lower case.'
  )
  min_count: int = field(
    1, 'Tokens that occur less often are unknown, and never written.', at_least=1
  )
  length: int = field(40, 'Tokens of a text, T: its first ones.', at_least=1)
  reverse: bool = field(False, 'Read from the last token to the first.')
  attention: Literal['additive', 'dot', 'none'] = field(
    'additive', 'How the decoder looks at what was read.'
  )
  input_feeding: bool = field(
    False, 'What a step found is an input of the next one; takes longer.'
  )
  teacher_forcing: float = field(
    1.0, 'Rate at which a step of training reads the right token, not its own.',
    at_least=0,
  )  # fmt: skip
  output_dropout: float = field(
    0.0, 'Rate on what the logits are made of.', at_least=0, below=1
  )
  beam_size: int = field(5, 'Beginnings that the search keeps; 1: none.', at_least=1)
  length_penalty: float = field(
    1.0, 'Of the search: 0 prefers short texts.', at_least=0, below=math.inf
  )
  clip_global_norm: float | None = 1.0
  batch_size: int = 64
  steps_per_dispatch: int | None = field(
    1,
    'Steps that a device is sent at once. If they are more, or with --num_seeds or '
    '--resident, all texts are padded to the longest, not to that of their batch.',
    at_least=1,
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.teacher_forcing > 1:
      raise InputError(
        f'`teacher_forcing` must be at most 1, got {self.teacher_forcing}'
      )
    if self.input_feeding and self.attention == 'none':
      raise InputError('`input_feeding` needs `attention`: additive or dot')

  @property
  def pads_to_longest(self) -> bool:
    """Whether all batches are to have one shape."""
    return self.num_seeds > 1 or self.steps_per_dispatch != 1 or bool(self.resident)


class Vocabularies(NamedTuple):
  """Of what is read and of what is written."""

  source: Tokenizer
  target: Tokenizer

  @property
  def first(self) -> int:
    """The id that the decoder reads first; the one above it ends a text."""
    return self.target.num_ids

  @property
  def sizes(self) -> tuple[int, int]:
    """What `make_model` needs beside the config."""
    return self.source.num_ids, self.first + 2


class Pairs:
  """Texts and what they become, as a source of batches: ids [B, 2, T], labels [B, T].

  T is the longest of the batch, rounded up. An example weighs its tokens, so that the
  loss is the mean over all tokens.
  """

  labels: np.ndarray | None = None

  def __init__(
    self, sources: Sequence[np.ndarray], targets: Sequence[np.ndarray], first: int
  ):
    """Takes ids; a target is written from `first` on, and ends with `first + 1`."""
    self._sources = sources
    self._read = [np.append(np.int32(first), row) for row in targets]
    self._written = [np.append(row, np.int32(first + 1)) for row in targets]
    counts = np.array([len(row) for row in self._written])
    self.lengths = np.maximum(counts, [len(row) for row in sources])
    self._weight = (counts / counts.mean()).astype(np.float32)

  def __len__(self) -> int:
    return len(self._sources)

  @functools.cached_property
  def fingerprint(self) -> str:
    return Arrays(*self.seen()).fingerprint

  def take(self, rows: np.ndarray) -> Rows:
    T = _rounded(self.lengths[rows].max())
    source, read, written = (
      pad_sequences([ids[i] for i in rows], T, padding='post', value=fill)
      for ids, fill in (
        (self._sources, 0), (self._read, 0), (self._written, NO_LABEL)
      )
    )  # fmt: skip
    return Rows(np.stack([source, read], 1), written, self._weight[rows], None)

  def weigh(self, rows: np.ndarray) -> np.ndarray:
    return self._weight[rows]

  def resident(self) -> None:
    return None  # padded batch by batch

  def seen(self) -> tuple[Any, Any]:
    x, y, _, _ = self.take(np.arange(len(self)))
    return x, y


class Padded(Arrays):
  """Pairs that are all as long as the longest, so that batches are of one shape."""

  def __init__(self, pairs: Pairs):
    x, y, weight, _ = pairs.take(np.arange(len(pairs)))
    super().__init__(x, y, weight)
    self.lengths = pairs.lengths  # by which `Bucketed` draws the same batches

  @functools.cached_property
  def fingerprint(self) -> str:
    """That of the pairs."""
    return Arrays(self._x, self._y).fingerprint


class Data(NamedTuple):
  """The texts of a run, and what made ids of them."""

  parts: tuple[Pairs, ...]  # training, validation, test
  test: Parallel  # the same as texts
  vocabularies: Vocabularies
  facts: dict[str, str]

  @property
  def sizes(self) -> tuple[int, int]:
    """What `make_model` needs beside the config."""
    return self.vocabularies.sizes


def sizes(folder: pathlib.Path) -> tuple[int, int]:
  """Those of a run."""
  return _vocabularies(folder).sizes


def _vocabularies(folder: pathlib.Path) -> Vocabularies:
  source, _ = vocabulary.read(folder)
  return Vocabularies(source, Tokenizer.load(folder / TARGET_FILE))


def make_model(config: Config, source_size: int, target_size: int) -> sj.EncoderDecoder:
  """ids [B, 2, T] -> logits [B, T, V]."""
  forward = dataclasses.replace(config, bidirectional=False)
  return sj.EncoderDecoder(
    source_size,
    target_size,
    config.embed_size,
    layer_flags.sequence_encoder(config, return_carry=True),
    layer_flags.sequence_encoder(forward, return_carry=True),
    attention=None if config.attention == 'none' else config.attention,
    input_feeding=config.input_feeding,
    teacher_forcing=config.teacher_forcing,
    dropout=config.output_dropout,
  )


def tokens_of(config: Config, text: str) -> list[str]:
  """The characters of a text, or its words with the spaces before them."""
  if config.tokens == 'characters':
    return list(text)
  return _WORD.findall(f' {text.lower()}')


def text_of(config: Config, tokenizer: Tokenizer, ids: Iterable[int]) -> str:
  """What `tokens_of` was made of."""
  text = vocabulary.spelled(tokenizer, ids)
  return text if config.tokens == 'characters' else text.strip()


def _fit(config: Config, texts: Sequence[str]) -> Tokenizer:
  tokenizer = Tokenizer(oov_token=vocabulary.OOV, lower=False)
  tokenizer.fit([tokens_of(config, text) for text in texts])
  vocabulary.drop_rare(tokenizer, config.min_count)
  return tokenizer


def _ids(
  config: Config, tokenizer: Tokenizer, texts: Sequence[str], reverse: bool = False
) -> list[np.ndarray]:
  rows = [tokens_of(config, text)[: config.length] for text in texts]
  encoded = vocabulary.encode(tokenizer, rows)
  return [row[::-1] for row in encoded] if reverse else encoded


def encode(config: Config, parts: Mapping[str, Parallel]) -> Data:
  """Makes ids of texts, by the tokens of the training part."""
  train = parts['train']
  both = Vocabularies(_fit(config, train.sources), _fit(config, train.targets))
  examples = [
    (
      _ids(config, both.source, part.sources, config.reverse),
      _ids(config, both.target, part.targets),
    )
    for part in parts.values()
  ]
  unknown = [np.mean(np.concatenate(rows) == 1) for rows in examples[-1]]
  counts = '{:,} training, {:,} validation, {:,} test'
  facts = {
    'pairs': counts.format(*(len(part.sources) for part in parts.values())),
    str(config.tokens): f'{both.sizes[0]:,} ids read, {unknown[0]:.1%} of the test '
    f'unknown; {both.sizes[1]:,} written, {unknown[1]:.1%}',
  }
  pairs = tuple(Pairs(*ids, both.first) for ids in examples)
  return Data(pairs, parts['test'], both, facts)


class Of(running.Of):
  """The task of an experiment that reads its texts in its own way.

  Of words translations are judged, by BLEU; of characters only what is right as a
  whole.
  """

  encode = staticmethod(encode)
  INPUTS = (*running.Of.INPUTS, TARGET_FILE, 'reverse')
  ASKED = TEXTS
  sizes = staticmethod(sizes)

  def load(self, config: Any) -> Data:
    """The texts that the flags ask for, as ids."""
    if config.tokens == 'words':
      check_bleu()
    return super().load(config)

  def train(
    self, config: Config, data: Data, *, name: str, title: str, model: Any
  ) -> dict[str, Any]:
    """Trains, and writes what becomes of the test's texts; returns the result."""
    measures: dict[str, metrics.Metric] = {
      'accuracy': metrics.label_accuracy,
      'exact_match': _EXACT,
    }
    monitor = Monitor('exact_match', higher_is_better=True)
    if config.tokens == 'words':
      measures = {
        'accuracy': metrics.label_accuracy,
        'perplexity': metrics.perplexity,
      }
      monitor = Monitor('loss')

    def finish(
      params: PyTree, result: Mapping[str, Any], folder: pathlib.Path
    ) -> dict[str, Any]:
      return _test(config, data, model, params, folder, title)

    parts: Sequence[Any] = data.parts
    if config.pads_to_longest:
      parts = [Padded(part) for part in parts]
    return running.train(
      config,
      plan.Task(model, losses.softmax_xent, measures, monitor),
      running.feeds(config, *parts),
      name=name,
      title=title,
      tokenizer=data.vocabularies.source,
      facts=data.facts,
      real=self.real(config),
      finish=finish,
      files={TARGET_FILE: data.vocabularies.target.save},
    )

  def predict(self, members: Members, request: Request) -> None:
    """Prints what each text becomes; runs write together, samples say how sure."""
    first = members.first
    both = _vocabularies(first.folder)
    config: Any = first.config
    params = members.params(np.ones((1, 2, 1), np.int32))
    writers = Writers([run.model for run in members.runs], params)
    known = vocabulary.known_words(both.source)
    texts = running.read_texts(request)
    for start in itertools.count(step=_BATCH):
      if not (chunk := list(itertools.islice(texts, _BATCH))):
        return
      written = list(write(config, writers, both, chunk, config.beam_size))
      scores = [np.array([one.score]) for one in written]
      if members.size > 1:
        scores = _scores(config, members, both, chunk, written, start)
      for given, one, of_members in zip(chunk, written, scores, strict=True):
        tokens = tokens_of(config, given)
        score, apart = float(of_members.mean()), spread(of_members)
        answer = {
          'text': one.text,
          'score': score,
          **apart,
          'unknown': [t.strip() or t for t in tokens if t not in known],
          'unread': max(len(tokens) - config.length, 0),
        }
        suffix = spread_line(apart)
        suffix += f', {len(answer["unknown"])} unknown' if answer['unknown'] else ''
        suffix += f', last {answer["unread"]} not read' if answer['unread'] else ''
        line = f'{one.text}  ({score:.2f}{suffix})'
        running.say(answer, line, request.json)


_EXACT = metrics.Compound(
  {
    'examples': lambda logits, y: jnp.ones(len(y), jnp.float32),
    'right': losses.exact_match,
  },
  lambda sums: sums['right'] / max(sums['examples'], 1.0),
)


class Writers(NamedTuple):
  """Models that write together, each with its parameters."""

  models: Sequence[Any]  # sj.EncoderDecoder
  params: Sequence[PyTree]


class Written(NamedTuple):
  """What a text becomes."""

  text: str
  score: float  # see `decoding.beam_search`
  ids: np.ndarray  # int [n], with the end where there is one


def write(
  config: Config,
  writers: Writers,
  both: Vocabularies,
  texts: Sequence[str],
  beam_size: int,
) -> Iterator[Written]:
  """Yields what each text becomes."""
  rows = _ids(config, both.source, texts, config.reverse)
  for start in range(0, len(rows), _BATCH):
    batch = rows[start : start + _BATCH]
    T = _rounded(max(map(len, batch)))
    source = pad_sequences(batch, T, padding='post')
    # Filled up to a whole batch: all are one program for each T.
    source = np.pad(source, ((0, _BATCH - len(batch)), (0, 0)), mode='edge')
    decoded = jax.device_get(
      decoding.decode(
        *writers,
        source,
        first=both.first,
        end=both.first + 1,
        num_steps=config.length + 1,
        beam_size=beam_size if beam_size > 1 else None,
        length_penalty=config.length_penalty,
        never=(1, both.first),
      )
    )
    if beam_size > 1:
      decoded = jax.tree.map(lambda a: a[:, 0], decoded)
    for row, score in zip(decoded.ids[: len(batch)], decoded.scores, strict=False):
      ids = row[row > 0]
      text = text_of(config, both.target, ids[ids < both.first].tolist())
      yield Written(text, float(score), ids)


def _scores(
  config: Config,
  members: Members,
  both: Vocabularies,
  texts: Sequence[str],
  written: Sequence[Written],
  start: int,
) -> list[np.ndarray]:
  """By each of the members, what was written has the scores [S]."""
  sources = _ids(config, both.source, texts, config.reverse)
  few = max(1, _BATCH // members.size)  # logits are S T V numbers of each text
  scores = []
  for begin in range(0, len(texts), few):
    some = slice(begin, begin + few)
    ids = [one.ids for one in written[some]]
    pairs: Any = Pairs(sources[some], [row[:-1] for row in ids], both.first)
    batches = InOrder(pairs, few)
    number = start + begin
    # Without `teacher_forcing` samples would read what they would have written.
    logits = members.outputs(batches, len(ids), number, teacher_forcing=1.0)
    log_p = np.asarray(jax.nn.log_softmax(logits))
    for i, row in enumerate(ids):
      each = log_p[:, i, np.arange(len(row)), row].sum(-1)
      scores.append(each / decoding.length_norm(len(row), config.length_penalty))
  return scores


def _test(
  config: Config,
  data: Data,
  model: sj.EncoderDecoder,
  params: PyTree,
  folder: pathlib.Path,
  title: str,
) -> dict[str, Any]:
  """What the test's texts become: a table, a picture, and more of the result."""
  sources, targets = data.test
  writers = Writers([model], [params])
  by_beam = {
    size: [one.text for one in write(config, writers, data.vocabularies, sources, size)]
    for size in sorted({1, config.beam_size})
  }
  best = by_beam[config.beam_size]
  rows = [
    'source\twanted\twritten',
    *map('\t'.join, zip(sources, targets, best, strict=True)),
  ]
  whole.write(folder / WRITTEN, '\n'.join([*rows, '']).encode())
  if config.attention != 'none':
    _draw(config, data, model, params, best, folder / PICTURE, title)
  if config.tokens == 'words':
    bleu = {
      size: corpus_bleu(texts, targets, lower=True) for size, texts in by_beam.items()
    }
    return {'test_bleu': bleu[config.beam_size], 'test_bleu_greedy': bleu[1]}
  right = [text == other for text, other in zip(best, targets, strict=True)]
  return {'test_exact_written': float(np.mean(right))}


def _draw(
  config: Config,
  data: Data,
  model: sj.EncoderDecoder,
  params: PyTree,
  written: Sequence[str],
  path: pathlib.Path,
  title: str,
) -> None:
  """Where the decoder looked, for the first texts of the test."""
  sources, both = data.test.sources[:_SHOWN], data.vocabularies
  read = _ids(config, both.source, sources, config.reverse)
  # An empty text is not an unknown token here.
  ids = [row[row > 1] for row in _ids(config, both.target, written[:_SHOWN])]
  x = Pairs(read, ids, both.first).take(np.arange(len(read))).x
  looks = model.clone(return_attention=True)
  _, weights = looks.apply({'params': params}, x, train=False)
  several = []
  for source, target, a in zip(read, ids, np.asarray(weights), strict=True):
    words = [
      [vocabulary.spelled(t, [i]).strip() or '␣' for i in row]
      for t, row in zip(both, (source, target), strict=True)
    ]
    T, S = len(target) + 1, len(source)
    several.append(picture.Looks(words[0], [*words[1], 'end'], a[:T, :S]))
  picture.draw(several, path, title=f'{title}: first of the test')


def _rounded(length: int) -> int:
  return -(-int(length) // _EIGHTS) * _EIGHTS
