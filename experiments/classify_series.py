"""Classes of series of one's own, from CSV files.

python -m experiments.classify_series --data=FOLDER --workdir=DIR
python -m experiments.classify_series --data=FILE.csv --labels=LABELS.csv --workdir=DIR
python -m experiments.predict --workdir=DIR --file=FILE.csv

A folder holds a folder of CSV files for each class; or a table of labels says which
file, or which rows of a file, are what. See docs/own_data.md.
"""

from experiments import experiment
from experiments.series import classification
from seqjax import config as config_lib

Config = classification.Config
make_model = classification.make_model
task = classification
run = experiment.training(
  task, 'classify_series', '{layer}({features}) on series', make_model
)

if __name__ == '__main__':
  config_lib.main(Config, run)
