"""Looks at labelled texts before a model does, and at what a trained model mistakes.

python -m experiments.classify_explore --data=FILE_OR_FOLDER
python -m experiments.classify_explore --workdir=RUN

Prints sizes and lengths of the parts, how many texts each class has and which words
stand out in it, and draws the histogram of lengths. Of a run of classify, topics or
names it takes the data and settings, and prints too which classes its best epoch takes
for which in the test set, and the mistakes it is surest of.
"""

import functools

from experiments import classify
from experiments.texts import explore
from seqjax import config as config_lib

Config = explore.Config
run = functools.partial(explore.run, classify.task, classify.Config)

if __name__ == '__main__':
  config_lib.main(Config, run)
