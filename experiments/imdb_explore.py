"""Looks at the reviews before anything is trained on them.

python -m experiments.imdb_explore --data_dir=DIR

Prints sizes, lengths and labels of both splits, the head of the word index and a review
as a model sees it, and draws the histogram of lengths. Source: the cookbook's recipe
for a simple RNN on IMDB.
"""

from experiments.reviews.explore import Config, run
from seqjax import config as config_lib

__all__ = ['Config', 'run']

if __name__ == '__main__':
  config_lib.main(Config, run)
