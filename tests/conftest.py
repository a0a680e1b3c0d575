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
# program in place, and who reads it at that moment finds half of it: a folder for each
# worker, and `own_programs` for tests that kill what they start.
_RUN = os.environ.get('PYTEST_XDIST_TESTRUNUID', str(os.getpid()))
_PROGRAMS = pathlib.Path(tempfile.gettempdir(), f'seqjax-tests-{_RUN}')
_WORKER = os.environ.get('PYTEST_XDIST_WORKER', 'alone')
os.environ['JAX_COMPILATION_CACHE_DIR'] = str(_PROGRAMS / _WORKER)
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
os.environ['JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES'] = '0'

import jax  # noqa: E402  the variables above come first
import pytest  # noqa: E402

try:  # private, and only for speed: without it tests take longer
  from jax._src.interpreters import mlir
except ImportError:
  mlir = None

# Labels [B] against logits [B, 1] would otherwise become [B, B] in silence.
jax.config.update('jax_numpy_rank_promotion', 'raise')
# On a GPU products are right to 1e-3 by default.
if os.environ['JAX_PLATFORMS'] != 'cpu':
  jax.config.update('jax_default_matmul_precision', 'highest')


def pytest_configure(config):
  """What depends on which tests are run, and where.

  The fast tests spend their time in the compiler: their programs are not optimised. The
  slow ones run what users do.

  Where CI is set a deprecation that our own code causes is an error. Elsewhere it is
  reported, as one of a dependency's own code is everywhere: a new release of theirs
  turns no user's tests red.
  """
  if config.getoption('markexpr').startswith('not slow'):
    os.environ['XLA_FLAGS'] += ' --xla_backend_optimization_level=0'
    os.environ['XLA_FLAGS'] += ' --xla_cpu_parallel_codegen_split_count=1'
    if jax.__version_info__ < (0, 11):  # later ones refuse the flag and end
      os.environ['XLA_FLAGS'] += ' --xla_cpu_use_fusion_emitters=false'
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

  A GRU's gradient compiles in 0.07 s, not in 0.36.
  """
  jax.config.update('jax_disable_most_optimizations', True)
  yield
  jax.config.update('jax_disable_most_optimizations', False)


@pytest.fixture
def own_programs(tmp_path_factory, monkeypatch) -> None:
  """Gives processes that the test starts, and may kill, a cache of programs."""
  folder = tmp_path_factory.mktemp('programs')
  monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', str(folder))


def pytest_sessionfinish(session):
  """Removes the compiled programs, once all workers are done."""
  if not hasattr(session.config, 'workerinput'):
    shutil.rmtree(_PROGRAMS, ignore_errors=True)
