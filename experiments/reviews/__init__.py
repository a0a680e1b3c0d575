"""The task of the experiments on reviews: flags, data, training, prediction."""

from experiments.prediction import TEXTS
from experiments.reviews.prediction import about, predict
from experiments.reviews.training import (
  VOCABULARY_FILE,
  Config,
  Data,
  RecurrentConfig,
  classifier,
  load,
  load_texts,
  train,
)

# What makes ids of texts: a file that the run left, and fields of its config.
INPUTS = (VOCABULARY_FILE, 'length')
ASKED = (*TEXTS, 'held_out')  # of predict's flags

__all__ = [
  'ASKED',
  'INPUTS',
  'VOCABULARY_FILE',
  'Config',
  'Data',
  'RecurrentConfig',
  'about',
  'classifier',
  'load',
  'load_texts',
  'predict',
  'train',
]
