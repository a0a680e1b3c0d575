"""Writes a trained run as programs that need neither flax nor seqjax.

python -m experiments.export --workdir=RUN --out=DIR

In DIR then lie model.jax, StableHLO with the parameters of the best epoch, for CPUs,
GPUs and TPUs and any number of examples (and of steps, where the model allows it);
step.jax, one step of time with the state handed in and out, where the model reads
forward; what turns texts or rows into inputs, model.json; and predict.py, which needs
jax, numpy and flatbuffers alone:

python DIR/predict.py "A film to remember."

With --onnx there is model.onnx too, for other runtimes; a model that ONNX can't say is
refused by name.
"""

import dataclasses
import importlib.util
import pathlib
import statistics
import timeit
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from experiments import experiment
from seqjax import config as config_lib
from seqjax import serving
from seqjax.config import field
from seqjax.files import whole
from seqjax.interop import onnx
from seqjax.types import InputError
from seqjax.workdir.folder import to_json

_TEMPLATE = pathlib.Path(__file__).with_name('exported.py')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(config_lib.Flags):
  """See --help."""

  workdir: str = field('', 'Folder of the run.', path=True)
  out: str = field('', 'Folder to write to; it is made.', path=True)
  onnx: bool = field(False, 'Write model.onnx too; needs the package onnx.')


def run(config: Config) -> dict[str, Any]:
  """Writes the files; returns their sizes in bytes and the milliseconds of a call.

  Raises:
    InputError: The run can't be used, a package is missing, DIR can't be written, or
      ONNX can't say what the model computes.
  """
  for name in ('flatbuffers', *(['onnx'] if config.onnx else [])):
    if importlib.util.find_spec(name) is None:
      raise InputError(f'what is written needs {name}: pip install {name}')
  trained = experiment.open_run(config.workdir)
  if not config.out:
    raise InputError('--out must name a folder')
  if not hasattr(trained.task, 'about'):
    raise InputError(
      f'--workdir={config.workdir} is a run of {trained.experiment}, which is not '
      'exported'
    )
  about = trained.task.about(trained)
  shape, dtype = about['shape'], np.dtype(about['dtype'])
  x = np.zeros((1, *shape), dtype)
  params = experiment.best_params(trained, x)
  exported = serving.export_model(trained.model, params, shape, dtype)
  programs = {'model': exported}
  try:
    programs['step'], about['carry'] = serving.export_step(
      trained.model, params, shape[-1]
    )
  except ValueError as error:
    print(error)
  folder = pathlib.Path(config.out)
  contents = {f'{k}.jax': bytes(program.serialize()) for k, program in programs.items()}
  if config.onnx:
    made = onnx.from_model(trained.model, params, shape=shape, dtype=dtype)
    contents['model.onnx'] = made.SerializeToString()
  try:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
      whole.write(folder / name, content)
    whole.write(folder / 'model.json', to_json(about).encode() + b'\n')
    whole.write(folder / 'predict.py', _TEMPLATE.read_bytes())
  except OSError as error:
    raise InputError(f'--out={config.out}: {error.strerror}') from error
  jitted = jax.jit(lambda x: trained.model.apply({'params': params}, x, train=False))
  result = {
    **{name: len(content) for name, content in contents.items()},
    'exported_ms': _milliseconds(jax.jit(exported.call), x),
    'jitted_ms': _milliseconds(jitted, x),
  }
  dimensions = ', '.join(map(str, exported.in_avals[0].shape))
  print(f'{config.out}/model.jax: x [{dimensions}] for {", ".join(exported.platforms)}')
  for name, value in result.items():
    print(f'{name:<12} {value:,.2f} ms' if 'ms' in name else f'{name:<12} {value:,} B')
  return result


def _milliseconds(call: Callable[[Any], Any], x: Any) -> float:
  """The median time of a call that has run before."""
  jax.block_until_ready(call(x))
  times = timeit.repeat(lambda: jax.block_until_ready(call(x)), number=1, repeat=20)
  return 1000 * statistics.median(times)


if __name__ == '__main__':
  config_lib.main(Config, run)
