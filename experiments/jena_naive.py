"""The naive forecast of the weather of Jena: in 24 hours it will be as warm as now.

python -m experiments.jena_naive --flagfile=experiments/flags/jena_naive.flags \
  --data_dir=DIR --workdir=DIR

What every model has to beat; nothing is trained, so flags of training change nothing.
Source: the chapter, section 6.3.3.
"""

import dataclasses
from pathlib import Path
from typing import Any

from experiments import weather
from seqjax import config as config_lib
from seqjax import workdir
from seqjax.view import console

Config = weather.Untrained


def run(config: Config) -> dict[str, Any]:
  """Measures the forecast on all windows of both splits; returns the result."""
  data = weather.load(config)
  folder = Path(config.workdir or 'runs/jena_naive')
  with workdir.lock(folder):
    workdir.start_config(
      folder, dataclasses.asdict(config), workdir.environment(), weather.PLACES
    )
    console.facts_table(weather.facts(config, data), title='jena_naive')
    numbers = weather.naive_numbers(data)
    result = {
      'experiment': 'jena_naive',
      'seed': config.seed,
      'num_params': 0,
      'seconds': 0.0,
      **{
        name.replace('naive_test', 'test').replace('naive', 'val'): value
        for name, value in numbers.items()
        if name.startswith('naive')
      },
      **numbers,
    }
    workdir.write_result(folder, result)
    weather.draw_forecasts(data, {}, folder / 'forecasts.png', config.target)
  weather.show(result, data, 'jena_naive')
  console.facts_table(
    {'result': folder / 'result.json', 'picture': folder / 'forecasts.png'}
  )
  return result


if __name__ == '__main__':
  config_lib.main(Config, run)
