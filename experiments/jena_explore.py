"""A first look at the weather of Jena: what is in the file, and what it looks like.

python -m experiments.jena_explore --flagfile=experiments/flags/jena_explore.flags \
  --data_dir=DIR --workdir=DIR

A table of all quantities, the faults that were found, and two pictures of the target:
the whole series, and its first ten days. Source: the chapter, section 6.3.1.
"""

from experiments.weather import Untrained as Config
from experiments.weather.explore import run
from seqjax import config as config_lib

__all__ = ['Config', 'run']

if __name__ == '__main__':
  config_lib.main(Config, run)
