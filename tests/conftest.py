"""Settings of every test: eight host devices, strict ranks, real data by a variable."""

import gc
import os
import pathlib
import shutil
import tempfile
import threading

# Before jax starts: the tests of parallel.py need more devices than a laptop has.
os.environ.setdefault('KERAS_BACKEND', 'jax')
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ['XLA_FLAGS'] = (
  os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=8'
)

# Tests compile the same small programs again and again, in commands they start too:
# each is compiled once. 16 s of CPU for a small training run become 1.5. JAX writes a
# program in place, and who reads it at that moment finds half of it: processes have a
# folder for each worker, and `own_programs` where a test kills what it starts. What
# tests compile themselves is written by `_keep`, and stays for the next run.
_RUN = os.environ.get('PYTEST_XDIST_TESTRUNUID', str(os.getpid()))
_PROGRAMS = pathlib.Path(tempfile.gettempdir(), f'seqjax-tests-{_RUN}')
_WORKER = os.environ.get('PYTEST_XDIST_WORKER', 'alone')
os.environ['JAX_COMPILATION_CACHE_DIR'] = str(_PROGRAMS / _WORKER)
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
os.environ['JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES'] = '0'
os.environ['JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES'] = 'none'  # their folder is a key

import jax  # noqa: E402  the variables above come first
import parity  # noqa: E402
import pytest  # noqa: E402

from seqjax.cluster import compilation_cache  # noqa: E402

try:  # private, and only for speed: without it tests take longer
  from jax._src import compiler, lru_cache
  from jax._src.interpreters import mlir
except ImportError:
  compiler = lru_cache = mlir = None

_QUICK_FLAGS = ''.join(
  f' --{name}={str(value).lower()}' for name, value in parity.QUICK.items()
)

# Labels [B] against logits [B, 1] would otherwise become [B, B] in silence.
jax.config.update('jax_numpy_rank_promotion', 'raise')
# On a GPU products are right to 1e-3 by default.
if os.environ['JAX_PLATFORMS'] != 'cpu':
  jax.config.update('jax_default_matmul_precision', 'highest')


def _keep(self, key, value):
  """`LRUCache.put` for several workers: a program is there whole, or not at all."""
  path = pathlib.Path(self.path, f'{key}-cache')
  mine = path.with_suffix(f'.{_WORKER}')
  mine.write_bytes(value)
  mine.replace(path)


def pytest_configure(config):
  """What depends on which tests are run, and where.

  The fast tests spend their time in the compiler: their programs are not optimised. The
  slow ones run what users do, but for those that take `quick_programs`.

  Where CI is set a deprecation that our own code causes is an error. Elsewhere it is
  reported, as one of a dependency's own code is everywhere: a new release of theirs
  turns no user's tests red.
  """
  if config.getoption('markexpr').startswith('not slow'):
    os.environ['XLA_FLAGS'] += _QUICK_FLAGS
  # Programs stay as a command's do, where pytest keeps anything and files have owners.
  if lru_cache and hasattr(config, 'cache') and hasattr(os, 'getuid'):
    lru_cache.LRUCache.put = _keep
    folder = config.cache.mkdir('seqjax') / 'programs'
    compilation_cache.use_compilation_cache(str(folder))
  if os.environ.get('CI'):
    modules = ['seqjax', 'experiments', 'benchmarks', 'tests', 'faults']
    # What tests share is imported by its own name: `toy`, `parity`.
    modules += [path.stem for path in pathlib.Path(__file__).parent.glob('*.py')]
    for kind in ('DeprecationWarning', 'PendingDeprecationWarning', 'FutureWarning'):
      for module in modules:
        config.addinivalue_line('filterwarnings', rf'error::{kind}:{module}\b')


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers():
  """Half as many again as xdist's: a quarter of their time tests wait for others."""
  number = yield
  asked = 'PYTEST_XDIST_AUTO_NUM_WORKERS' in os.environ
  return number if asked else 3 * number // 2


def pytest_collection_finish(session):
  """Spares the garbage collector what stays: a seventh of a test's CPU is its own.

  Tracing makes objects by the hundred thousand, and modules are millions.
  """
  gc.collect()
  gc.freeze()
  gc.set_threshold(50_000, 20, 50)


class _Lowered:
  """One MLIR context for many programs, and how many there were.

  JAX makes a new context for each program it lowers and loads all dialects into it, in
  5 ms of CPU: a seventh of what tests of layers cost. No two threads share one.
  """

  def __init__(self, make):
    self._make, self._contexts, self._count = make, threading.local(), 0

  def __call__(self):
    self._count += 1
    if not hasattr(self._contexts, 'mine'):
      self._contexts.mine = self._make()
    return self._contexts.mine

  def forget(self):
    """Frees what compiled programs hold, 0.4 MiB each: a worker grew to 4 GiB."""
    if self._count > 3000:
      jax.clear_caches()
      self._contexts, self._count = threading.local(), 0


if hasattr(mlir, 'make_ir_context'):
  mlir.make_ir_context = _Lowered(mlir.make_ir_context)


def pytest_runtest_teardown(item, nextitem):
  """Between files, which share few programs, a worker may forget its own."""
  lowered = getattr(mlir, 'make_ir_context', None)
  if lowered and nextitem and nextitem.path != item.path:
    lowered.forget()


@pytest.fixture
def real_data() -> pathlib.Path:
  """The folder of real data; skips the test where SEQJAX_TEST_DATA is not set."""
  folder = os.environ.get('SEQJAX_TEST_DATA')
  if not folder:
    pytest.skip('SEQJAX_TEST_DATA is not set')
  return pathlib.Path(folder).resolve()


@pytest.fixture(scope='module')
def no_pictures():
  """Runs draw no curves, for files that look at none: half a second of CPU a run."""
  with pytest.MonkeyPatch.context() as patch:
    for name in ('draw', 'draw_seeds'):
      patch.setattr(f'seqjax.view.report.{name}', lambda *_: None)
    yield


@pytest.fixture
def unrendered(monkeypatch):
  """Figures are made but not rendered, for files of many runs: 0.2 s of CPU each."""
  monkeypatch.setattr('seqjax.view.plots.as_png', lambda figure: bytes(20_000))


@pytest.fixture(scope='module')
def quick_programs():
  """Slow tests whose time is the compiler's have their programs not optimised either.

  Nor have the processes that they start.
  """

  def quick(*args, **kwargs):
    options = make(*args, **kwargs)
    given = dict(options.env_option_overrides)
    options.env_option_overrides = list({**parity.QUICK, **given}.items())
    return options

  with pytest.MonkeyPatch.context() as patch:
    if make := getattr(compiler, 'get_compile_options', None):
      patch.setattr(compiler, 'get_compile_options', quick)
    patch.setenv('XLA_FLAGS', os.environ['XLA_FLAGS'] + _QUICK_FLAGS)
    yield


@pytest.fixture
def own_programs(tmp_path_factory, monkeypatch) -> None:
  """Gives processes that the test starts, and may kill, a cache of programs."""
  folder = tmp_path_factory.mktemp('programs')
  monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', str(folder))


def pytest_sessionfinish(session):
  """Removes what processes have compiled, once all workers are done."""
  if not hasattr(session.config, 'workerinput'):
    shutil.rmtree(_PROGRAMS, ignore_errors=True)
