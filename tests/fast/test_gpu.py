"""The GPU's kernels, run on a CPU: values and gradients of the reference.

Their sources are compiled by g++; in place of a launch stands a callback. So the whole
path runs where there is no GPU: differentiation, vmap, padding, masks.
"""

import functools
import re
import shutil
import subprocess
import sys
import types

import gpu_on_cpu
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_cases import CELLS, Case, assert_close, cases, check_values, gradients, make
from jax.interpreters import mlir
from jax.sharding import AxisType

from seqjax import fast, scan
from seqjax.fast import kernels
from seqjax.fast.gpu import launch as gpu_launch
from seqjax.fast.gpu import recur as gpu
from seqjax.types import BATCH_AXIS

pytestmark = [
  pytest.mark.skipif(not shutil.which('g++'), reason='needs g++'),
  pytest.mark.usefixtures('quick_programs'),
]


@pytest.fixture(autouse=True, scope='module')
def on_cpu():
  """The primitives are lowered to the GPU's kernels, on a CPU."""
  pair = ((kernels._forward, gpu.forward), (kernels._backward, gpu.backward))
  before = [mlir._platform_specific_lowerings['cpu'][p] for p, _ in pair]
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(gpu_launch, 'has_gpu', lambda: True)
    patch.setattr(gpu_launch, 'memory', lambda: float('inf'))
    for primitive, function in pair:

      def lowered(*operands, static, function=function):
        arrays = static.named(operands)
        sizes = kernels.sizes_of(static, arrays)
        with jax.default_matmul_precision(static.precision):
          return function(static, sizes, arrays, gpu_on_cpu.launch, 40_000)

      lower = mlir.lower_fun(lowered, multiple_results=True)
      mlir.register_lowering(primitive, lower, platform='cpu')
    jax.clear_caches()
    yield
  for (primitive, _), rule in zip(pair, before, strict=True):
    mlir._platform_specific_lowerings['cpu'][primitive] = rule
  jax.clear_caches()


BY_KERNELS = functools.partial(fast.recur, implementation='fast')


def both(case, *, quick=True):
  """(the kernels' values and gradients, the reference's); their sum may cancel."""
  cell, params, sequence, options = make(case)

  def by(recur, options):
    run = gradients(recur, cell, options, quick=quick)
    (_, outputs), grads = run(params, sequence.values, sequence.carry, sequence)
    return outputs, grads

  # To forget steps and run them again changes no value.
  return by(BY_KERNELS, options), by(scan.recur, options._replace(remat_chunk=None))


EVERYTHING = {
  'batch': (3,), 'T': 9, 'D': 4, 'padding': 'scattered', 'resets': True,
  'recurrent_dropout': 0.4, 'dropout': 0.3, 'bptt_steps': 4, 'remat_chunk': None,
  'options': ('go_backwards', 'zero_output_for_mask'),
}  # fmt: skip


@pytest.mark.parametrize('cell', ['simple_rnn', 'lstm', 'gru', 'gru_reset_before'])
@pytest.mark.slow
@pytest.mark.parametrize('H', [5, 32])
def test_values_and_gradients_are_the_reference_s(cell, H):
  for case in (
    Case(cell, H=H, T=6, remat_chunk=None),
    Case(cell, H=H, **EVERYTHING),
    Case(cell, H=H, **{**EVERYTHING, 'remat_chunk': 4, 'vocab_size': 5}),
    Case(cell, H=H, T=5, remat_chunk=None, vocab_size=7, shared=True, carry=False,
         recurrent_dropout=0.3, return_sequences=False, use_bias=False, padding='pre'),
  ):  # fmt: skip
    got, want = both(case)
    assert_close(got, want)


@pytest.mark.slow
def test_what_does_not_fit_goes_by_chunks(monkeypatch):
  """Three steps of seven are run again at a time, where a quarter is too little."""
  case = Case('lstm', **{**EVERYTHING, 'T': 7})
  cell, _, _, options = make(case)
  bytes_of_all = 4 * gpu.kept_rows(cell, 3, 7) * case.H
  assert gpu.chunk(cell, options, 3, 7, case.H, bytes_of_all) is None
  assert gpu.chunk(cell, options, 3, 7, case.H, bytes_of_all - 1) == 3
  monkeypatch.setattr(gpu_launch, 'memory', lambda: bytes_of_all)
  jax.clear_caches()
  got, want = both(case)
  assert_close(got, want)
  monkeypatch.undo()
  jax.clear_caches()


@pytest.mark.parametrize('within', [1, 40])
def test_more_models_on_the_way_back_than_before(within, monkeypatch):
  """What forward left says whether it went by chunks: it ran one model."""
  case = Case('lstm', T=7, remat_chunk=None, carry=False)
  cell, params, sequence, options = make(case)
  room = 4 * 4 * gpu.kept_rows(cell, 3, 7) * case.H * within
  monkeypatch.setattr(gpu_launch, 'memory', lambda: room)
  jax.clear_caches()
  weights = jnp.asarray(np.random.default_rng(0).standard_normal((50, 3, 7, 5)))

  def by(run):
    def gradient(weights):
      return jax.grad(
        lambda params: (weights * run(cell, params, sequence, options)[1]).sum()
      )(params)

    return jax.jit(jax.vmap(gradient))(weights.astype(jnp.float32))

  assert_close(by(fast.recur), by(scan.recur))
  monkeypatch.undo()
  jax.clear_caches()


@pytest.mark.slow
def test_the_widest_blocks_and_values_of_a_loop_in_float64():
  for cell in ('lstm', 'gru'):
    case = Case(cell, **{**EVERYTHING, 'T': 4, 'H': 128, 'bptt_steps': None})
    got, want = both(case)
    assert_close(got, want)
    check_values(case)


@pytest.mark.slow
@hypothesis.settings(max_examples=20, deadline=None)
@hypothesis.given(cases(), st.sampled_from([1, 17, 32, 104]))
def test_20_drawn_runs_against_a_loop_in_float64(case, H):
  check_values(Case(**{**vars(case), 'H': H}))


@pytest.mark.slow
@hypothesis.settings(max_examples=200, deadline=None)
@hypothesis.given(cases(), st.sampled_from([1, 5, 17, 32, 70]))
def test_200_drawn_runs(case, H):
  case = Case(**{**vars(case), 'H': H})
  got, want = both(case)
  # 70 units are padded to 72, of which some lie in shared memory.
  assert_close(got, want)


@pytest.mark.gpu
@pytest.mark.parametrize('cell', ['simple_rnn', 'lstm', 'gru', 'gru_reset_before'])
@pytest.mark.parametrize('H', [5, 32, 64, 128])
def test_on_the_device(cell, H):
  if jax.default_backend() != 'gpu':
    pytest.skip("needs a GPU of NVIDIA's")
  with jax.default_matmul_precision('highest'):
    for case in (Case(cell, H=H, T=50), Case(cell, H=H, **{**EVERYTHING, 'T': 41})):
      got, want = both(case, quick=False)
      assert_close(got, want)


@pytest.mark.parametrize(
  'over',
  ['all', *(pytest.param(n, marks=pytest.mark.slow) for n in ('parameters', 'batch'))],
)
def test_models_are_one_launch(over, monkeypatch):
  cell, params, sequence, options = make(Case('gru', T=4, H=5, carry=False))
  options = options._replace(remat_chunk=None)
  launches = []

  def counted(name, macros, grid, *rest):
    launches.append((name, grid))
    return _launch(name, macros, grid, *rest)

  _launch = gpu_on_cpu.launch
  monkeypatch.setattr(gpu_on_cpu, 'launch', counted)

  def loss(run, params, x):
    _, ys = run(cell, params, sequence._replace(x=x), options)
    return (ys**2).sum()

  scales = jnp.array([1.0, 0.5, -1.0])
  many = jax.tree.map(
    lambda a: scales.reshape(-1, *[1] * a.ndim) * a[None], (params, sequence.x)
  )
  axes = {'all': (0, 0), 'parameters': (0, None), 'batch': (None, 0)}[over]
  given = tuple(
    m if axis == 0 else one
    for m, one, axis in zip(many, (params, sequence.x), axes, strict=True)
  )

  def by(run):
    grads = jax.grad(functools.partial(loss, run), (0, 1))
    return jax.jit(jax.vmap(grads, axes))(*given)

  assert_close(by(fast.recur), by(scan.recur))
  assert launches == [('forward', (3, 3)), ('backward', (3, 3))]


@pytest.mark.slow
def test_second_derivatives_and_inference():
  cell, params, sequence, options = make(Case('lstm', T=3, H=5, batch=(2,)))
  options = options._replace(remat_chunk=None)

  def loss(run, x):
    last, _ = run(cell, params, sequence._replace(x=x), options)
    return (last.h**2).sum()

  def by(run):
    f = functools.partial(loss, run)
    second = jax.grad(lambda x: (jax.grad(f)(x) ** 2).sum())
    return f(sequence.x), jax.jit(second)(sequence.x)

  assert_close(by(fast.recur), by(scan.recur))


def test_what_no_gpu_kernel_can_do_takes_the_reference():
  usual = fast.Options()
  assert gpu.unsupported(CELLS['lstm'], usual, 3, 4, 128) == ''
  assert 'at most 128 units' in gpu.unsupported(CELLS['lstm'], usual, 3, 4, 129)
  whole = usual._replace(remat_chunk=4000)
  assert 'more numbers' in gpu.unsupported(CELLS['lstm'], whole, 4096, 4000, 128)
  assert gpu.unsupported(CELLS['lstm'], usual, 4096, 4000, 128) == ''


def test_where_it_runs_is_decided_where_it_is_lowered(monkeypatch):
  """No device is asked for: a program for CUDA is lowered here."""
  monkeypatch.setattr(gpu_launch, 'missing', lambda: '')
  monkeypatch.setattr(gpu_launch, 'shared_memory', lambda: 153 * 1024)
  monkeypatch.setattr(gpu_launch, 'compile_ptx', lambda macros: '.version 9.0')
  cell, params, sequence, options = make(Case('lstm', T=4, H=5))
  options = options._replace(remat_chunk=None)

  @jax.jit
  def loss(params):
    return fast.recur(cell, params, sequence, options)[0].h.sum()

  def calls(platform, precision=None):
    with jax.default_matmul_precision(precision):
      traced = jax.jit(jax.grad(loss)).trace(params)
    return traced.lower(lowering_platforms=(platform,)).as_text()

  text = calls('cuda')
  assert text.count('__gpu$xla.gpu.ptx') == 2
  assert 'block_x = 32 : i32' in text  # four gates of five units, padded to eight
  assert 'grid_x = 3 : i32' in text
  assert 'HIGHEST' not in text
  assert 'HIGHEST' in calls('cuda', 'highest')
  assert '__gpu$' not in calls('tpu')
  with monkeypatch.context() as patch:
    patch.setattr(gpu_launch, 'missing', lambda: 'no compiler')
    assert '__gpu$' not in calls('cuda')
  monkeypatch.setattr(gpu_launch, 'MOST_MODELS', 0)
  assert '__gpu$' not in calls('cuda')
  # A process without a GPU that lowers for one; programs of before had room for it.
  monkeypatch.setattr(gpu_launch, 'has_gpu', lambda: False)
  jax.clear_caches()
  assert '__gpu$' not in calls('cuda')
  monkeypatch.undo()
  jax.clear_caches()


@pytest.mark.parametrize('remat_chunk', [None, 2])
def test_a_batch_over_several_gpus_is_lowered(remat_chunk, monkeypatch):
  monkeypatch.setattr(gpu_launch, 'missing', lambda: '')
  monkeypatch.setattr(gpu_launch, 'shared_memory', lambda: 153 * 1024)
  monkeypatch.setattr(gpu_launch, 'compile_ptx', lambda macros: '.version 9.0')
  cell, params, sequence, options = make(Case('gru', batch=(4,), T=4, H=5))
  options = options._replace(remat_chunk=remat_chunk)

  def loss(params, x):
    return fast.recur(cell, params, sequence._replace(x=x), options)[1].sum()

  mesh = jax.make_mesh((2,), (BATCH_AXIS,), axis_types=(AxisType.Auto,))
  with jax.set_mesh(mesh):
    traced = jax.jit(jax.grad(loss, (0, 1))).trace(params, sequence.x)
  text = traced.lower(lowering_platforms=('cuda',)).as_text()
  assert text.count('__gpu$xla.gpu.ptx') >= 2
  assert 'grid_x = 2 : i32' in text  # half of the rows


@pytest.mark.parametrize(
  ('capability', 'says'),
  [((7, 5), 'need compute capability 8.0'), ((9, 0), 'pip install cuda-bindings')],
)
def test_what_is_missing_is_said_once(capability, says, monkeypatch, caplog):
  monkeypatch.setattr(gpu_launch, '_capability', lambda: capability)
  monkeypatch.setitem(sys.modules, 'cuda', None)  # not installed
  gpu_launch.missing.cache_clear()
  for _ in range(2):
    assert re.search(says, gpu_launch.missing())
  gpu_launch.missing.cache_clear()
  assert len(caplog.records) == 1
  assert 'slower reference path' in caplog.text


def test_a_compiler_that_fails_is_told(monkeypatch):
  nvrtc = types.ModuleType('cuda.bindings.nvrtc')
  nvrtc.nvrtcResult = types.SimpleNamespace(NVRTC_SUCCESS=0)
  nvrtc.nvrtcCreateProgram = lambda *_: (0, 1)
  nvrtc.nvrtcGetProgramLogSize = lambda program: (0, 3)
  nvrtc.nvrtcGetProgramLog = lambda *_: (0,)

  def nvrtcCompileProgram(*_):  # noqa: N802  as it is there
    return (5,)

  nvrtc.nvrtcCompileProgram = nvrtcCompileProgram
  bindings = types.ModuleType('cuda.bindings')
  bindings.nvrtc = nvrtc
  monkeypatch.setitem(sys.modules, 'cuda', types.ModuleType('cuda'))
  monkeypatch.setitem(sys.modules, 'cuda.bindings', bindings)
  monkeypatch.setattr(gpu_launch, '_capability', lambda: (9, 0))
  gpu_launch.missing.cache_clear()
  assert 'nvrtcCompileProgram: 5' in gpu_launch.missing()
  gpu_launch.missing.cache_clear()


def test_blocks_fit_every_device():
  for room in (89 * 1024, 153 * 1024):
    for H in range(1, 129):
      for gates in (1, 3, 4):
        block = gpu_launch.sizes(H, gates, room)
        assert block.padded % 8 == 0
        assert H <= block.padded <= H + 7
        assert block.in_registers % 4 == 0
        assert block.shared_bytes(gates) <= room
  assert gpu_launch.sizes(32, 4, room) == (32, 32, 4)
  assert gpu_launch.sizes(128, 4, 153 * 1024) == (128, 64, 2)


@pytest.mark.slow
@pytest.mark.parametrize('cell', ['SimpleRnn', 'Lstm', 'Gru', 'GruResetBefore'])
def test_threads_of_a_block_wait_for_each_other(cell, tmp_path):
  """ThreadSanitizer sees a barrier that is missing."""
  sizes = {'UNITS': 30, 'PADDED': 32, 'IN_REGISTERS': 28, 'AHEAD': 2}
  macros = {'CELL': cell, 'ACTIVATION': 0, 'GATE': 1, **sizes}
  program = tmp_path / 'program'
  more = ['-O1', '-g', '-fsanitize=thread', '-DREAL_THREADS', '-o', str(program)]
  subprocess.run(['g++', *gpu_on_cpu.flags(macros.items(), *more)], check=True)
  done = subprocess.run([str(program)], capture_output=True, text=True)
  assert (done.returncode, done.stdout) == (0, 'all good\n'), done.stderr[:3000]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which('nvcc'), reason='needs nvcc')
@pytest.mark.parametrize('cell', ['SimpleRnn', 'Lstm', 'Gru', 'GruResetBefore'])
def test_no_registers_are_spilled(cell, tmp_path):
  gates = {'SimpleRnn': 1, 'Lstm': 4}.get(cell, 3)
  for H in (32, 64, 96, 128):
    padded, held, ahead = gpu_launch.sizes(H, gates, 153 * 1024)
    macros = {
      'CELL': cell, 'ACTIVATION': 0, 'GATE': 1, 'UNITS': H, 'PADDED': padded,
      'IN_REGISTERS': held, 'AHEAD': ahead, 'MASK': 1, 'RESET': 1, 'BACKWARDS': 0,
      'ZERO_OUTPUT': 0, 'SAVE': 1, 'YS': 1, 'DYS': 1, 'H_MASKS': gates,
    }  # fmt: skip
    fast_folder = gpu_on_cpu.ROOT / 'seqjax' / 'fast'
    command = ['nvcc', '-std=c++17', '-arch=sm_90', '-cubin', '-DSEQJAX_CUDA']
    command += ['-Xptxas', '-v', f'-I{fast_folder}', '-o', str(tmp_path / 'k')]
    command += [f'-D{k}={v}' for k, v in macros.items()]
    source = str(fast_folder / 'gpu' / 'recur.cu')
    done = subprocess.run([*command, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(' 0 bytes spill stores, 0 bytes spill loads') == 2
