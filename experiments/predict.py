"""Applies a trained run to new data.

python -m experiments.predict --workdir=RUN --text="A film to remember."
python -m experiments.predict --workdir=RUN --file=reviews.txt
python -m experiments.predict --workdir=RUN --file=reviews.csv --text_column=review
cat reviews.txt | python -m experiments.predict --workdir=RUN
python -m experiments.predict --workdir=RUN --file=weather.csv

Texts are one a line, and so are the answers. Of a review: the probability that it is
positive, the label, how many words there are, which of them the run does not know, and
how many at the beginning it does not read because they are too many. The run's folder
is all that is needed: model, parameters of the best epoch and vocabulary are there.

Of classify, topics and names likewise the class of a text; of tagging and slots the tag
of each word, whose words spaces part; of compare how like the two texts of a line are,
with a tab between them; of char_lm how likely a text is; of addition, dates and
translate what a text becomes, and log p of it, by its length. Of adding, copy_memory,
pixels and answer a line is a sequence, as docs/sequences.md has it; of music --file is
one file of MIDI.

A run on weather forecasts from each row of a CSV file, of the columns that it was
trained on, that has enough rows before it: when the forecast is made and for when, its
value in the target's own unit, the value now, and what was measured if the file has it.
One of forecast does so for each target, step ahead and quantile; of classify_series the
rows of a file are one series, of which the class is told.

With --samples=50 a run with dropout answers 50 times with it left on (Gal & Ghahramani
2016), and with --workdir=A,B,C, or the folder of a run of many seeds, all of them
answer: the answer is their mean, beside it their standard deviation and an interval of
90 %. That of a forecast, for each target and step ahead, is as wide as validation
windows of the run ask for, so that it holds what is measured; for how many test windows
it does is told, and --picture=FILE draws it. Where the answer is a class
--held_out=500 tells how often it is right, and how sure.
"""

from experiments import prediction
from seqjax import config as config_lib
from seqjax.cluster import compilation_cache
from seqjax.types import InputError

Config = prediction.Request


def run(config: Config) -> None:
  """Prints a line for each example.

  Raises:
    InputError: The run or the input cannot be used.
  """
  compilation_cache.use_compilation_cache(None)
  members = prediction.Members(config)
  if not hasattr(members.first.task, 'predict'):
    raise InputError(
      f'--workdir={config.workdir} is a run of {members.first.experiment}, for which '
      'there is no prediction'
    )
  prediction.check_asked(members)
  members.first.task.predict(members, config)


if __name__ == '__main__':
  config_lib.main(Config, run)
