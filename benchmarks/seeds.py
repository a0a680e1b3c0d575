"""Claim: eight seeds at once take 0.8 of the time of eight runs in a row.

python -m benchmarks.seeds [--quick]

Each sample is commands: `experiments.imdb_lstm` on generated reviews, five epochs, from
their start to their end. On two devices (of an accelerator, or two cores of a CPU) the
seeds are cut over the devices, as `mesh.make_meshes` has them, or the rows of a batch.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import jax

from benchmarks import cli
from benchmarks.report import Row
from benchmarks.timing import Runner, interleave
from experiments import imdb_lstm
from seqjax import config as config_lib
from seqjax.cluster import mesh as mesh_lib


def rows(options: cli.Options) -> Iterator[Row]:
  """Eight seeds on one device, and on two where there are two."""
  size = ['--num_epochs=1', '--synthetic_size=2000'] if options.quick else []
  flags = ['--dataset=synthetic', '--num_epochs=5', *size]
  with tempfile.TemporaryDirectory() as scratch:

    def command(*more: str, cuts_batches: bool = False) -> None:
      module = ['benchmarks.seeds'] if cuts_batches else ['experiments.imdb_lstm']
      with tempfile.TemporaryDirectory(dir=scratch) as workdir:
        subprocess.run(
          [sys.executable, '-m', *module, *flags, *more, f'--workdir={workdir}'],
          env={**os.environ, 'XDG_CACHE_HOME': scratch},
          stdout=subprocess.DEVNULL,
          check=True,
        )

    def in_a_row() -> None:
      for seed in range(8):
        command(f'--seed={seed}', '--num_devices=1')

    def together(*more: str, cuts_batches: bool = False) -> None:
      command('--num_seeds=8', *more, cuts_batches=cuts_batches)

    def timed(title: str, *runners: Runner, target: float | None = None) -> Row:
      timings = interleave(
        list(runners), seconds=options.seconds, least_rounds=3, untimed=0, timed=1
      )
      return Row(title, timings, target)

    yield timed(
      'eight seeds of imdb_lstm',
      Runner('seqjax auto', lambda: together('--num_devices=1')),
      Runner('in a row', in_a_row),
      target=0.8,
    )
    if jax.default_backend() == 'cpu' or jax.device_count() > 1:
      two = '--num_devices=2'
      yield timed(
        'eight seeds of imdb_lstm, two devices',
        Runner('seqjax auto', lambda: together(two)),
        Runner('each batch cut', lambda: together(two, cuts_batches=True)),
      )


def _with_batches_cut() -> None:
  """The command, where all devices share each batch whatever the number of seeds."""
  mesh_lib.make_meshes = lambda number, *sizes: [mesh_lib.make_mesh(*sizes)]
  config_lib.main(imdb_lstm.Config, imdb_lstm.run)


if __name__ == '__main__':
  if any(argument.startswith('--workdir') for argument in sys.argv):
    _with_batches_cut()
  else:
    cli.main('seeds', __doc__, rows)
