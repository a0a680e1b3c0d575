"""Classes of texts of one's own, from a table or a folder.

python -m experiments.classify --data=FILE_OR_FOLDER --workdir=DIR
python -m experiments.predict --workdir=DIR --text="..."

A file is a table with a line of names (.csv, .tsv) or JSON lines, with a column for the
text and one for the label; a folder holds a folder of .txt files for each class, or the
parts of a split, such as train.csv and test.csv. What there is no part for is drawn
from the training part, class by class. See docs/own_data.md.
"""

import dataclasses
from typing import Literal

from experiments import experiment
from experiments.texts import classification
from seqjax import config as config_lib
from seqjax.config import field
from seqjax.data.texts import labelled


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(classification.Config):
  """What it can be told; see --help."""

  data: str = field('', 'Table or folder of labelled texts.', path=True)
  text_column: str = field('text', 'Column of a table that holds the texts.')
  label_column: str = field('label', 'Column that holds the labels.')
  validation_split: float = field(
    0.1, 'Share of each class held out, if there is no such part.', above=0, below=1
  )
  test_split: float = field(
    0.1, 'Share of each class to test on, likewise.', above=0, below=1
  )
  split_seed: int = field(0, 'Seed of that draw.', at_least=0)
  batch_size: int = 32
  schedule: Literal['constant', 'cosine', 'linear', 'exponential', 'piecewise'] = (
    'constant'
  )
  learning_rate: float = 2e-3
  early_stopping: int | None = 5
  num_epochs: int = field(20, 'Passes over the training set, at most.', at_least=1)


def load_texts(config: Config) -> labelled.Splits:
  """The texts that --data names."""
  return labelled.load(
    config.data,
    text_column=config.text_column,
    label_column=config.label_column,
    validation_split=config.validation_split,
    test_split=config.test_split,
    seed=config.split_seed,
  )


make_model = classification.make_model
task = classification.Of(load_texts)
run = experiment.training(task, 'classify', '{layer}({features}) on {data}', make_model)

if __name__ == '__main__':
  config_lib.main(Config, run)
