"""Tables of timings: Markdown for people, JSON for programs."""

import dataclasses
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import timeit
from typing import Any

import jax

from benchmarks.timing import SGEMM, SGEMM_FLOPS, Timing, sgemm
from seqjax import workdir
from seqjax.fast.cpu import library
from seqjax.workdir.folder import version

OURS = 'seqjax'
RESULTS = pathlib.Path(__file__).parent / 'results'


@dataclasses.dataclass
class Row:
  """A workload's timings, and what they should show."""

  title: str
  timings: list[Timing]
  target: float | None = None  # ratio to the best peer
  flops: float | None = None  # of the products, where they are most; beside a sgemm

  def ratio(self, name: str = 'seqjax auto') -> float | None:
    """Median of `name` over that of the best peer in the same run; None without one."""
    return _ratio({timing.name: timing.median for timing in self.timings}, name)

  def first_ratio(self, name: str = 'seqjax auto') -> float | None:
    """The same of first runs after another runner's; None where these count too."""
    firsts = {timing.name: timing.first for timing in self.timings}
    return _ratio({k: v for k, v in firsts.items() if v is not None}, name)


def _ratio(medians: dict[str, float], name: str) -> float | None:
  peers = [v for key, v in medians.items() if not key.startswith((OURS, SGEMM))]
  return medians[name] / min(peers) if peers and name in medians else None


def machine() -> dict[str, Any]:
  """Where and with what a run was made."""
  here = workdir.environment()
  packages = ('seqjax', 'jax', 'jaxlib', 'flax', 'optax', 'keras', 'torch', 'numpy')
  return {
    'sgemm_gflops': round(sgemm_rate() / 1e9, 1),
    'kernels': library.loaded()[0] or 'none',
    'device': here['device_kind'],
    # Of CUDA's plugin the first line says that it is one.
    'platform': jax.devices()[0].client.platform_version.splitlines()[-1] + _driver(),
    'date': here['started'],
    'commit': here['commit'],
    'cpu': here['cpu'],
    'cores': here['cpu_cores'],
    'load': round(os.getloadavg()[0], 2),
    'python': here['python'],
    'versions': {name: version(name) or 'not installed' for name in packages},
  }


def _driver() -> str:
  """That of NVIDIA's GPUs, or nothing."""
  if not shutil.which('nvidia-smi'):
    return ''
  command = ['nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader']
  asked = subprocess.run(command, capture_output=True, text=True, check=False)
  return f', driver {asked.stdout.split()[0]}' if asked.stdout.split() else ''


def sgemm_rate() -> float:
  """Floating-point operations a second of NumPy's product of two square matrices."""
  return SGEMM_FLOPS / statistics.median(
    timeit.repeat(sgemm().run, number=1, repeat=12)
  )


def markdown(title: str, about: dict[str, Any], rows: list[Row]) -> str:
  """One table: a line a workload and runner, the ratio to the workload's best peer."""
  versions = ', '.join(f'{name} {v}' for name, v in about['versions'].items())
  lines = [
    f'# {title}',
    '',
    f'{about["date"]}, commit {about["commit"]}; '
    f'{about["cpu"]}, {about["cores"]} cores, load {about["load"]} at the start; '
    f'device {about["device"]} ({about["platform"]}); '
    f'kernels for {about["kernels"]}, '
    f'{SGEMM} {about["sgemm_gflops"]} GFLOP/s at the start; '
    f'Python {about["python"]}, {versions}.',
    '',
    "Milliseconds. Ratio: median over the best peer's median in the same run. Where "
    '"first" is given a turn is three runs, and that is the first, right after another '
    'runner, which does not count. One device, plain jax.jit for all. "x sgemm" is the '
    'median over the time that the products with W and U alone would take at the rate '
    f'of {SGEMM} by turns: forward once, and twice as many on the way back.',
    '',
    '| workload | runner | median | quartiles | least | ratio | target | x sgemm '
    '| first | ratio | temp MiB | compile s |',
    '|---|---|---|---|---|---|---|---|---|---|---|---|',
  ]
  for row in rows:
    for t in row.timings:
      ours = t.name.startswith(OURS)
      ratio = row.ratio(t.name) if ours else None
      first_ratio = row.first_ratio(t.name) if ours else None
      target = row.target if t.name == 'seqjax auto' else None
      cells = [
        row.title,
        t.name,
        _ms(t.median),
        f'{_ms(t.quartiles[0])} .. {_ms(t.quartiles[1])}',
        _ms(t.least),
        '' if ratio is None else f'**{ratio:.2f}**',
        '' if target is None else f'{target:.2f}',
        _over_sgemm(row, t),
        '' if t.first is None else _ms(t.first),
        '' if first_ratio is None else f'{first_ratio:.2f}',
        '' if t.temp_mib is None else f'{t.temp_mib:.1f}',
        '' if t.compile_seconds is None else f'{t.compile_seconds:.1f}',
      ]
      lines.append('| ' + ' | '.join(cells) + ' |')
  return '\n'.join(lines) + '\n'


def _ms(value: float) -> str:
  return f'{value:.1f}' if value >= 1 else f'{value:.4f}'


def _over_sgemm(row: Row, timing: Timing) -> str:
  """Over the time of the row's products at the rate of the sgemm among its runners."""
  if row.flops is None or timing.name == SGEMM:
    return ''
  (of_sgemm,) = (t.median for t in row.timings if t.name == SGEMM)
  return f'{timing.median / (row.flops * of_sgemm / SGEMM_FLOPS):.2f}'


def write(name: str, title: str, about: dict[str, Any], rows: list[Row]) -> str:
  """Writes results/`name`.md and .json; returns the Markdown."""
  RESULTS.mkdir(exist_ok=True)
  text = markdown(title, about, rows)
  (RESULTS / f'{name}.md').write_text(text)
  record = {
    'machine': about,
    'rows': [
      {
        **dataclasses.asdict(row),
        'ratio': row.ratio(),
        'first_ratio': row.first_ratio(),
      }
      for row in rows
    ],
  }
  (RESULTS / f'{name}.json').write_text(json.dumps(record, indent=1) + '\n')
  return text
