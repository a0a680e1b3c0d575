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
with a tab between them; of char_lm how likely a text is.

A run on weather forecasts from each row of a CSV file, of the columns that it was
trained on, that has enough rows before it: when the forecast is made and for when, its
value in the target's own unit, the value now, and what was measured if the file has it.
"""

import dataclasses

from experiments import experiment
from seqjax import config as config_lib
from seqjax.config import field
from seqjax.types import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(config_lib.Flags):
  """See --help."""

  workdir: str = field('', 'Folder of the run.', path=True)
  text: str | None = field(None, 'One text.')
  file: str | None = field(
    None,
    'Texts, UTF-8, one a line or a --text_column; or rows of weather; default stdin.',
    path=True,
  )
  text_column: str | None = field(
    None, 'Column of the texts in a CSV file or in JSON lines, by its name.'
  )
  json: bool = field(False, 'Print a JSON object a line, all unknown words in it.')


def run(config: Config) -> None:
  """Prints a line for each example.

  Raises:
    InputError: The run or the input cannot be used.
  """
  trained = experiment.open_run(config.workdir)
  if not hasattr(trained.task, 'predict'):
    raise InputError(
      f'--workdir={config.workdir} is a run of {trained.experiment}, for which there '
      'is no prediction'
    )
  trained.task.predict(
    trained,
    text=config.text,
    file=config.file,
    text_column=config.text_column,
    as_json=config.json,
  )


if __name__ == '__main__':
  config_lib.main(Config, run)
