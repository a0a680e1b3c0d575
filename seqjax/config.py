"""A frozen dataclass is an experiment's configuration; its fields are its flags.

>>> import dataclasses
>>> from seqjax import config
>>> @dataclasses.dataclass(frozen=True, kw_only=True)
... class Config(config.TrainConfig):
...   features: int = config.field(32, 'Units, H.', at_least=1)
>>> config.parse(Config, ['--features=8', '--num_epochs=3']).features
8
"""

import dataclasses
import inspect
import logging
import math
import operator
import os
import pathlib
import re
import sys
import types
from collections.abc import Callable, Sequence
from typing import (
  Any,
  Literal,
  NoReturn,
  TypeVar,
  Union,
  get_args,
  get_origin,
  get_type_hints,
)

import numpy as np
from absl import app, flags
from absl import logging as absl_logging

from seqjax.files import texts
from seqjax.types import CommandError, InputError

flags.disclaim_key_flags()  # so that --help lists the experiment's flags as its own

T = TypeVar('T')


def field(
  default: T,
  help: str,
  *,
  at_least: float | None = None,
  above: float | None = None,
  below: float | None = None,
  path: bool = False,
) -> T:
  """A field of a config, with its default, the text that --help shows, and its limits.

  A field with limits holds a number `at_least` this, `above` this and `below` that, or
  None if its type allows it; anything else, NaN too, is refused. Of a `path`, a ~ in
  front becomes the user's home, as shells do not see it behind --flag= or in a file.
  """
  limits = {'at_least': at_least, 'above': above, 'below': below}
  metadata = {
    'help': help,
    'limits': {k: v for k, v in limits.items() if v is not None},
    'path': path,
  }
  return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
  """What a command can be told; each value is within the limits of its field.

  A field of a base that is given another default alone keeps its help and limits.
  """

  def __init_subclass__(cls) -> None:
    super().__init_subclass__()
    known: dict[str, dataclasses.Field] = {}
    for base in reversed(cls.__mro__[1:]):
      known |= getattr(base, '__dataclass_fields__', {})
    for name in inspect.get_annotations(cls).keys() & known.keys():
      default = getattr(cls, name)
      if not isinstance(default, dataclasses.Field):
        metadata = known[name].metadata
        setattr(cls, name, dataclasses.field(default=default, metadata=metadata))

  def __post_init__(self) -> None:
    kinds = get_type_hints(type(self))
    for spec in dataclasses.fields(self):
      value = getattr(self, spec.name)
      if isinstance(value, np.generic | os.PathLike):  # as JSON knows it
        value = value.item() if isinstance(value, np.generic) else os.fspath(value)
        object.__setattr__(self, spec.name, value)
      _check_kind(spec.name, kinds[spec.name], value)
      _check_limits(spec, value)
      if value and spec.metadata['path']:
        object.__setattr__(self, spec.name, os.path.expanduser(value))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterConfig(Flags):
  """Devices and processes: where a run takes place, and when one is given up."""

  num_devices: int | None = field(
    None,
    'Devices that share a batch, over all processes; default all accelerators, or one '
    'CPU a process.',
    at_least=1,
  )
  data_parallel: Literal['jit', 'pmap'] = field(
    'jit', 'How a step is spread over devices: the same numbers without dropout.'
  )
  accumulate_steps: int = field(
    1, 'Parts of a batch, one after the other, when a batch does not fit.', at_least=1
  )
  steps_per_dispatch: int | None = field(
    None,
    'Steps that a device is sent at once, a divisor of log_every; default 1 on a CPU, '
    'on accelerators the largest that an epoch has steps for.',
    at_least=1,
  )
  resident: bool | None = field(
    None,
    'The training examples lie on each device, and a batch is their numbers; default '
    'on accelerators that they fit.',
  )
  distributed: bool = field(
    False, 'One of several processes; Slurm, Open MPI, GKE and Cloud TPU are detected.'
  )
  coordinator: str | None = field(
    None, 'HOST:PORT of process 0; else $JAX_COORDINATOR_ADDRESS, else detected.'
  )
  num_processes: int | None = field(
    None, 'How many there are; else $SEQJAX_NUM_PROCESSES, else detected.', at_least=1
  )
  process_id: int | None = field(
    None, 'Which one this is; else $SEQJAX_PROCESS_ID, else detected.', at_least=0
  )
  start_timeout: int = field(
    300, 'Seconds to wait until all processes are there.', at_least=1
  )
  heartbeat_timeout: int = field(
    60, 'Seconds of silence after which a process counts as lost.', at_least=5
  )
  end_timeout: int = field(
    300, 'Seconds that the first process to end waits for the last.', at_least=1
  )
  step_timeout: float | None = field(
    None,
    'Exit with 124 if a step takes longer, in seconds; one that compiles has 600 more, '
    'those that are sent together have that each, and one of several seeds is of all.',
    above=0,
    below=1e6,
  )
  compilation_cache: str | None = field(
    None,
    'Folder to keep compiled programs in, open to its owner alone, made if need be; '
    'default programs/ in $XDG_CACHE_HOME/seqjax or ~/.cache/seqjax; empty: none.',
    path=True,
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    for name in ('coordinator', 'num_processes', 'process_id'):
      if getattr(self, name) is not None and not self.distributed:
        raise InputError(f'`{name}` needs `distributed`')


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig(Flags):
  """Where data is, and where it is kept once it is prepared."""

  data_dir: str = field('', 'Folder of the real data.', path=True)
  cache_dir: str = field(
    '',
    'Folder of prepared data; default $XDG_CACHE_HOME/seqjax or ~/.cache/seqjax.',
    path=True,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig(DataConfig, ClusterConfig):
  """What every training run can be told; experiments read the folders of data."""

  workdir: str = field(
    '', 'Folder of the run, started or resumed; default runs/<experiment>.', path=True
  )
  seed: int = field(
    0, 'Seed of initial weights, dropout and the order of examples.', at_least=0
  )
  num_seeds: int = field(
    1, 'Train as many seeds at once, from `seed` on, in workdir/seeds/.', at_least=1
  )
  num_epochs: int = field(10, 'Passes over the training set.', at_least=1)
  num_steps: int | None = field(
    None, 'End after so many steps, before the last epoch.', at_least=1
  )
  batch_size: int = field(128, 'Examples a step, over all devices.', at_least=1)
  optimizer: Literal[
    'sgd', 'rmsprop', 'adam', 'adamw', 'lion', 'adafactor', 'custom'
  ] = field('rmsprop', 'With Keras defaults; custom is one that Python hands over.')
  learning_rate: float = field(
    1e-3, 'Step size of the optimiser, the highest.', above=0, below=math.inf
  )
  momentum: float = field(0.0, 'Of sgd and rmsprop.', at_least=0, below=1)
  nesterov: bool = field(False, 'Momentum that looks ahead.')
  weight_decay: float | None = field(
    None,
    'Share of the kernels that a step takes away, times the rate; default adamw 0.004.',
    at_least=0,
    below=math.inf,
  )
  schedule: Literal['constant', 'cosine', 'linear', 'exponential', 'piecewise'] = field(
    'constant', 'How the rate goes over the steps of the run.'
  )
  warmup_steps: int = field(0, 'Steps in which the rate rises from 0.', at_least=0)
  final_share: float = field(
    0.0,
    'Share of learning_rate at the end of a schedule that falls.',
    at_least=0,
    below=1,
  )
  rate_changes: str = field(
    '',
    'Of piecewise: STEP:FACTOR,... multiplies the rate from that step on,'
    ' after the warmup.',
  )
  plateau_epochs: int | None = field(
    None,
    'Lower the rate after each so many epochs without a better validation value.',
    at_least=1,
  )
  plateau_factor: float = field(
    0.1, 'What the rate is then multiplied by.', above=0, below=1
  )
  mean_decay: float | None = field(
    None,
    'Keep a running mean of the parameters with this decay, and evaluate it.',
    above=0,
    below=1,
  )
  class_weight: str = field(
    '', "'balanced', or CLASS:WEIGHT,...: of an example's loss in training."
  )
  label_smoothing: float = field(
    0.0, 'Share of a label given to all classes, in training.', at_least=0, below=1
  )
  compute_dtype: Literal['float32', 'bfloat16'] = field(
    'float32', 'What a step computes in; parameters are float32.'
  )
  monitor: str = field(
    '',
    "Metric whose validation value makes an epoch the best; default the task's."
    ' min:NAME or max:NAME says which way, as it must of one of your own.',
  )
  clip_value: float | None = field(
    None, 'Bound of each element of the gradient.', above=0, below=math.inf
  )
  clip_norm: float | None = field(
    None, "Bound of each tensor's gradient norm.", above=0, below=math.inf
  )
  clip_global_norm: float | None = field(
    None, 'Bound of the norm of all gradients.', above=0, below=math.inf
  )
  early_stopping: int | None = field(
    None, 'End after so many epochs without a better validation value.', at_least=1
  )
  log_every: int = field(20, 'Steps between two looks at the loss.', at_least=1)
  save_every: int = field(
    100,
    'Steps between two checkpoints, a multiple of log_every; epochs save too.',
    at_least=1,
  )
  keep: int = field(
    3, 'Latest checkpoints to keep; the best one is kept besides.', at_least=1
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    clips = [
      f'`{name}`'
      for name in ('clip_value', 'clip_norm', 'clip_global_norm')
      if getattr(self, name) is not None
    ]
    if len(clips) > 1:
      raise InputError(f'give only one of {", ".join(clips)}')
    if self.num_seeds > 1 and (self.distributed or self.data_parallel == 'pmap'):
      other = 'distributed' if self.distributed else 'data_parallel=pmap'
      raise InputError(
        f'`num_seeds={self.num_seeds}` is for one process and `data_parallel=jit`: not '
        f'with `{other}`'
      )
    for name in ('rate_changes', 'class_weight'):
      if (name, getattr(self, name)) != ('class_weight', 'balanced'):
        self.pairs(name)
    if self.save_every % self.log_every:
      raise InputError(
        f'`save_every` must be a multiple of `log_every={self.log_every}`, '
        f'got {self.save_every}'
      )
    if self.log_every % (self.steps_per_dispatch or 1):
      raise InputError(
        f'`steps_per_dispatch` must divide `log_every={self.log_every}`, got '
        f'{self.steps_per_dispatch}'
      )

  def pairs(self, name: str) -> dict[int, float]:
    """What a field holds that is text such as '100:0.1,200:0.5'."""
    text = getattr(self, name)
    pairs = {}
    for part in filter(None, text.split(',')):
      key, _, value = part.partition(':')
      try:
        pairs[int(key)] = float(value)
        fine = int(key) >= 0 < float(value) < math.inf
      except ValueError:
        fine = False
      if not fine:
        raise InputError(
          f'`{name}` must be NUMBER:NUMBER,... of whole numbers from 0 and values '
          f'above 0, got {part!r}'
        )
    return pairs


C = TypeVar('C', bound=Flags)


def main(config_class: type[C], run: Callable[[C], Any]) -> None:
  """Runs a command: flags -> config -> `run`.

  Exit codes: 0 done; 2 for input that cannot be used (a flag, a file, a folder) and 3
  for a training that diverged, each said in one line; 75 after SIGTERM and 130 after
  Ctrl-C (see `signals`); 124 from the watchdog; 1 with a traceback for anything else.
  """
  _define_flags(config_class, flags.FLAGS)
  app.run(lambda argv: _run(argv, config_class, run), flags_parser=_parse_flags)


def parse(config_class: type[C], arguments: Sequence[str]) -> C:
  """The config that a command would make of its arguments, --flagfile among them.

  Raises:
    InputError: The command would refuse them.
  """
  values = flags.FlagValues()
  _define_flags(config_class, values)
  try:
    rest = values(['', *_with_files(arguments)])[1:]
  except flags.Error as error:
    raise InputError(str(error)) from error
  if rest:
    raise InputError(f'takes flags only, got the argument {rest[0]!r}')
  names = [spec.name for spec in dataclasses.fields(config_class)]
  return config_class(**{name: values[name].value for name in names})


def as_flags(message: str) -> str:
  """Names arguments as this command's flags: '`seed=3`' -> '--seed=3'.

  Messages of the library name arguments, in backticks: whoever calls it may have no
  flags. What is no flag of the command stays as it is.
  """

  def name(match: re.Match[str]) -> str:
    return f'--{match[1]}{match[2]}' if match[1] in flags.FLAGS else match[0]

  return re.sub(r'`(\w+)((?:=[^`]*)?)`', name, message)


def _parse_flags(argv: Sequence[str]) -> list[str]:
  try:
    return flags.FLAGS([argv[0], *_with_files(argv[1:])])
  except (flags.Error, InputError) as error:
    _refuse(str(error), InputError.exit_code)


def _with_files(
  arguments: Sequence[str], within: tuple[pathlib.Path, ...] = ()
) -> list[str]:
  """Puts the lines of flag files in the places of --flagfile=FILE and --flagfile FILE.

  absl does it as well, but takes whatever the system's encoding makes of a file.
  """
  expanded, rest = [], iter(arguments)
  for argument in rest:
    name, equals, value = argument.partition('=')
    if name not in ('--flagfile', '-flagfile'):
      expanded.append(argument)
      continue
    value = value if equals else next(rest, '')
    if not value:
      raise InputError('--flagfile needs the name of a file')
    path = pathlib.Path(os.path.expanduser(value))
    if path in within:
      raise InputError(f'--flagfile={path} is read within itself')
    try:
      raw = path.read_bytes().splitlines()
    except OSError as error:
      raise InputError(f'--flagfile={path}: {error.strerror}') from error
    lines = (line.strip() for line in texts.lines(raw, f'--flagfile={path}'))
    of_file = [line for line in lines if line and not line.startswith(('#', '//'))]
    expanded += _with_files(of_file, (*within, path))
  return expanded


def _run(argv: Sequence[str], config_class: type[C], run: Callable[[C], Any]) -> None:
  if not flags.FLAGS['verbosity'].present:
    absl_logging.set_verbosity(absl_logging.WARNING)  # app.run lets libraries chat
  logging.getLogger('seqjax').setLevel(logging.INFO)
  try:
    if len(argv) > 1:
      raise InputError(f'takes flags only, got the argument {argv[1]!r}')
    names = [spec.name for spec in dataclasses.fields(config_class)]
    values: dict[str, Any] = {name: flags.FLAGS[name].value for name in names}
    run(config_class(**values))
    _flush()
  except CommandError as error:
    _refuse(str(error), error.exit_code)
  except KeyboardInterrupt:
    _refuse('interrupted before there was anything to save', 130)


def _flush() -> None:
  """Writes what is left to say; where nobody reads it any more, to nowhere."""
  try:
    sys.stdout.flush()
  except BrokenPipeError:  # Python itself would try once more, and exit with 120
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refuse(message: str, exit_code: int) -> NoReturn:
  """Says in one line what is wrong with the input, and exits."""
  command = pathlib.Path(sys.argv[0]).stem
  print(f'{command}: {" ".join(as_flags(message).split())}', file=sys.stderr)
  sys.exit(exit_code)


def _check_kind(name: str, kind: Any, value: Any) -> None:
  """Raises InputError, naming the field, if the value is not of its type."""
  if get_origin(kind) in (Union, types.UnionType):
    if value is None:
      return
    (kind,) = (arg for arg in get_args(kind) if arg is not type(None))
  if get_origin(kind) is Literal:
    if value not in get_args(kind):
      raise InputError(
        f'`{name}` must be one of {", ".join(get_args(kind))}, got {value!r}'
      )
    return
  known: dict[Any, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), 'True or False'),
    int: ((int,), 'a whole number'),
    float: ((int, float), 'a number'),
    str: ((str,), 'text'),
    tuple: ((tuple, list), 'several texts'),
  }
  allowed, words = known[get_origin(kind) or kind]
  if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
    raise InputError(f'`{name}` must be {words}, got {value!r}')


def _check_limits(spec: dataclasses.Field, value: Any) -> None:
  """Raises InputError, naming the flag, if the value is outside its field's limits."""
  if value is None:
    return
  holds = {'at_least': operator.ge, 'above': operator.gt, 'below': operator.lt}
  for limit, bound in spec.metadata['limits'].items():
    if not holds[limit](value, bound):
      words = f'{limit.replace("_", " ")} {bound:g}'
      raise InputError(f'`{spec.name}` must be {words}, got {value}')


def _define_flags(config_class: type[Flags], values: flags.FlagValues) -> None:
  kinds = get_type_hints(config_class)
  for spec in dataclasses.fields(config_class):
    _define_flag(spec, kinds[spec.name], values)


def _define_flag(spec: dataclasses.Field, kind: Any, values: flags.FlagValues) -> None:
  """Defines the absl flag of one field; a type `X | None` is a flag of type X."""
  if get_origin(kind) in (Union, types.UnionType):
    (kind,) = (arg for arg in get_args(kind) if arg is not type(None))
  default: Any = spec.default
  text = spec.metadata['help']
  if get_origin(kind) is tuple:  # of texts: a flag that may be given again
    flags.DEFINE_multi_string(spec.name, list(default), text, flag_values=values)
    return
  if get_origin(kind) is Literal:
    flags.DEFINE_enum(
      spec.name, default, list(get_args(kind)), text, flag_values=values
    )
    return
  define: dict[Any, Any] = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
  }
  define[kind](spec.name, default, text, flag_values=values)
