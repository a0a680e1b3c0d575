"""Forecasts of a series of one's own, from a CSV file.

python -m experiments.forecast --data=FILE.csv --target=COLUMN --workdir=DIR
python -m experiments.predict --workdir=DIR --file=FILE.csv

Recurrent layers, convolutions or dense ones, on the last rows of all columns; several
targets, several rows ahead, quantiles. Each error stands beside those of two forecasts
that need no model: the last value, and the value a day before, on the very same
windows. See docs/own_data.md.
"""

from experiments import experiment
from experiments.series import forecasting
from seqjax import config as config_lib

Config = forecasting.Config
make_model = forecasting.make_model
task = forecasting
run = experiment.training(task, 'forecast', '{layer}({features})', make_model)

if __name__ == '__main__':
  config_lib.main(Config, run)
