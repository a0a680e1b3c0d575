"""Writes on from a prompt with a trained language model.

python -m experiments.generate --workdir=RUN --prompt="ROMEO:"

Text comes as it is written. With --temperature=0 it is always the most likely token.
"""

import dataclasses
import math

from experiments import experiment
from experiments.texts import writing
from seqjax import config as config_lib
from seqjax.cluster import compilation_cache
from seqjax.config import field
from seqjax.types import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(config_lib.Flags):
  """See --help."""

  workdir: str = field('', 'Folder of a run of char_lm.', path=True)
  prompt: str = field('\n', 'What the text begins with.')
  num_tokens: int = field(500, 'Characters, or words, to write.', at_least=1)
  temperature: float = field(
    0.8, 'Lower is safer; 0 is the most likely.', at_least=0, below=math.inf
  )
  top_k: int | None = field(None, 'Draw among so many likely tokens.', at_least=1)
  top_p: float | None = field(
    None, 'Draw among the likely tokens of this probability.', above=0, below=1
  )
  seed: int = field(0, 'Of the draws.', at_least=0)


def run(config: Config) -> None:
  """Prints the prompt and what follows.

  Raises:
    InputError: The run cannot write, or the prompt is empty.
  """
  compilation_cache.use_compilation_cache(None)
  trained = experiment.open_run(config.workdir)
  model, params, tokenizer = writing.open_writer(trained)
  prompt = writing.tokens_of(trained.config, config.prompt)  # type: ignore[arg-type]
  if not prompt:
    raise InputError('--prompt is empty: give one character at least')
  print(config.prompt, end='', flush=True)
  for text in writing.write(
    model,
    params,
    tokenizer,
    prompt,
    num_tokens=config.num_tokens,
    seed=config.seed,
    temperature=config.temperature,
    top_k=config.top_k,
    top_p=config.top_p,
  ):
    print(text, end='', flush=True)
  print()


if __name__ == '__main__':
  config_lib.main(Config, run)
