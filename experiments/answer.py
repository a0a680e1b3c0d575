"""Answers a question about a short story, with attention or without.

python -m experiments.answer --flagfile=experiments/flags/answer_1.flags --workdir=DIR
python -m experiments.predict --workdir=DIR \
  --text="Anna went to the hall. Bruno moved to the attic. Where is Anna?"

Stories are generated, so no data is needed; answers follow from one, two or three
sentences. Source: Weston et al. 2015, arXiv:1502.05698, tasks 1 to 3, there with 1,000
stories each.
"""

from experiments import experiment
from experiments.sequences import stories
from seqjax import config as config_lib

Config = stories.Config
make_model = stories.make_model
task = stories
run = experiment.training(
  task, 'answer', '{layer}({features}), {hops} looks, task {task}', make_model
)

if __name__ == '__main__':
  config_lib.main(Config, run)
