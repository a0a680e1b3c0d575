"""The cookbook's recipe: a simple recurrent network on the last 80 words of a review.

python -m experiments.cookbook_simple_rnn \
  --flagfile=experiments/flags/cookbook_simple_rnn.flags --data_dir=DIR --workdir=DIR

Prints the first training review as the model sees it: with 1,000 ids every fourth word
or so is a '?'. As in the recipe, the last epoch is tested, not the best one: it has
long begun to overfit. Its remedies are flag files too:
cookbook_simple_rnn_clipped.flags bounds the norm of the gradient,
cookbook_simple_rnn_relu.flags replaces tanh. Source: the cookbook's recipe for a simple
RNN on IMDB.
"""

import dataclasses
from typing import Any, Literal

import seqjax as sj
from experiments import reviews
from seqjax import config as config_lib
from seqjax.config import field


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(reviews.RecurrentConfig):
  """The recipe's settings; see --help."""

  vocab_size: int = 1_000
  length: int = 80
  embed_size: int = 128
  activation: Literal['tanh', 'relu'] = field('tanh', 'Of the recurrent layer.')
  optimizer: Literal['rmsprop', 'adam'] = field('adam', 'With Keras defaults.')
  batch_size: int = 32


def make_model(config: Config) -> sj.SequenceClassifier:
  """ids [B, T] -> logits [B]."""
  return reviews.classifier(
    config, sj.SimpleRNN(**config.layer_options(), activation=config.activation)
  )


def run(config: Config) -> dict[str, Any]:
  """Prints a review and trains; returns the result."""
  data = reviews.load(config)
  first = data.train.x[0]
  print(f'first training review: {data.vocabulary.decode(first[first != 0])}\n')
  return reviews.train(
    config,
    data,
    name='cookbook_simple_rnn',
    title=f'SimpleRNN({config.features}, {config.activation})',
    model=make_model(config),
    test_last=True,
  )


task = reviews

if __name__ == '__main__':
  config_lib.main(Config, run)
