"""Applies the model beside this file; needs jax, numpy and flatbuffers alone.

python predict.py "A film to remember."     (a model of texts: the probability)
python predict.py weather.csv               (of series: the forecast after the last row)
"""

import json
import pathlib
import sys
from typing import Any

import jax
import numpy as np

FOLDER = pathlib.Path(__file__).resolve().parent


def load(name: str = 'model') -> Any:
  """The function of x [B, T, ...] (model), or of (carry, x of a step) (step)."""
  program = bytearray((FOLDER / f'{name}.jax').read_bytes())
  return jax.jit(jax.export.deserialize(program).call)


def inputs(about: dict[str, Any], argument: str) -> Any:
  """x [1, T, ...] of a text or of the last rows of a file of numbers."""
  if about['kind'] == 'text':
    spaces = dict.fromkeys(map(ord, about['separators']), ' ')
    words = argument.lower().translate(spaces).split(' ')
    ids = [about['ids'].get(word, about['unknown']) for word in words if word]
    ids = [i for i in [about['start'], *ids] if i is not None][-about['shape'][0] :]
    return np.array([[0] * (about['shape'][0] - len(ids)) + ids], np.int32)
  rows = np.genfromtxt(
    argument, np.float32, delimiter=about['delimiter'], skip_header=1
  )
  rows = (rows[:, -len(about['mean']) :] - np.float32(about['mean'])) / about['std']
  return rows[np.array(about['offsets']) - 1 - max(about['offsets'])][None]


if __name__ == '__main__':
  about = json.loads((FOLDER / 'model.json').read_text(encoding='utf-8'))
  (y,) = load()(inputs(about, sys.argv[1]))
  if about['kind'] == 'text':
    print(f'{1 / (1 + np.exp(-y)):.4f}')
  else:
    print(f'{y * about["std"][about["target"]] + about["mean"][about["target"]]:.2f}')
