"""Forward and backward of the recurrence on a GPU: matmuls around the kernels.

What needs no state is a matmul for all of T each: the inputs' part of the sums before
the forward kernel, the gradients of weights and inputs behind the backward one.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from seqjax import cells
from seqjax.fast.gpu import launch as launch_lib
from seqjax.fast.problem import ACTIVATIONS, Sizes, Static
from seqjax.scan import Lookup, Options
from seqjax.types import Array

_MOST_NUMBERS = 2**31 - 1  # of an array in a kernel
# As `launch.launch`: (kernel, macros, grid, block, shared memory, results, operands).
Launch = Callable[..., list[Array]]
# In the order of `CELLS` in problem.py: the class in cells.h, and its groups of sums.
_CLASSES = {
  'simple_rnn': ('SimpleRnn', 1),
  'lstm': ('Lstm', 4),
  'gru': ('Gru', 4),
  'gru_reset_before': ('GruResetBefore', 3),
}


def unsupported(cell: cells.Cell, options: Options, B: int, T: int, H: int) -> str:
  """Why the kernels can't compute this on any GPU; '' if they can."""
  if H > launch_lib.LARGEST:
    return f'the GPU kernels hold at most {launch_lib.LARGEST} units, not {H}'
  steps = chunk(cell, options, B, T, H) or T
  if kept_rows(cell, B, steps) * H > _MOST_NUMBERS:
    return f'x {B} x {steps} with {H} units keeps more numbers than the kernels count'
  return ''


def chunk(
  cell: cells.Cell,
  options: Options,
  B: int,
  T: int,
  H: int,
  room: float = float('inf'),
) -> int | None:
  """Steps that the way back runs again at a time; None: all is kept from forward.

  Args:
    cell: Which equations.
    options: With `remat_chunk` it is that.
    B: Rows.
    T: Steps.
    H: Units.
    room: Bytes that may be kept. What takes more goes by chunks of about sqrt(T).
  """
  if options.remat_chunk is not None:
    return min(options.remat_chunk, T)
  step = kept_rows(cell, B, 1) * H
  if T == 1 or T * step <= min(_MOST_NUMBERS, room / 4):
    return None
  return min(math.isqrt(T - 1) + 1, max(_MOST_NUMBERS // step, 1))


def kept_rows(cell: cells.Cell, B: int, T: int, chunk: int | None = None) -> int:
  """[., H] that forward keeps: the carry before each step, and each group's sums.

  By chunks it is the carry before each chunk.
  """
  states = len(cell.carry._fields)  # type: ignore[attr-defined]
  if chunk is not None:
    return B * states * -(-T // chunk)
  return B * T * (states + _CLASSES[cell.name][1])


def with_room(static: Static, sizes: Sizes, kept: tuple[int, ...] | None) -> Sizes:
  """Sizes with room for what the kernels here keep, where they can run.

  Args:
    static: The call's.
    sizes: Those that a CPU wants.
    kept: The shape of what forward has left; None: this is forward.
  """
  cell, options, (B, T, H) = static.cell, static.options, (sizes.B, sizes.T, sizes.H)
  if not launch_lib.has_gpu() or unsupported(cell, options, B, T, H):
    return sizes
  models = sizes.models if isinstance(sizes.models, int) else 1  # only of an export
  room = launch_lib.memory() / (4 * max(1, models))  # a quarter of it
  if kept is not None:  # what forward left, which may have run fewer models
    room = math.inf if kept[1] >= kept_rows(cell, B, T) else 0.0
  steps = chunk(cell, options, B, T, H, room)
  rows = max(sizes.kept, kept_rows(cell, B, T, steps))
  return sizes._replace(kept=rows, gpu_chunk=steps)


def forward(
  static: Static, sizes: Sizes, arrays: dict[str, Array], launch: Launch, room: int
) -> list[Array]:
  """The results of the primitive `forward`, see kernels.py.

  Args:
    static: The call's.
    sizes: Likewise.
    arrays: By the names of `shapes_of` in kernels.py.
    launch: What runs a kernel.
    room: Bytes of shared memory that a block may have.
  """
  whole = kept_rows(static.cell, sizes.B, sizes.T) * sizes.H <= _MOST_NUMBERS
  if sizes.gpu_chunk is None or (not static.leaves and whole):
    return _forward(static, sizes, arrays, launch, room)
  M, B, H, K = sizes.models, sizes.B, sizes.H, sizes.gpu_chunk
  states = len(static.fields)
  n, rest = divmod(sizes.T, K)

  def run_chunk(carry: Any, first: Any, K: int) -> Any:
    part = _steps(static, sizes, arrays, first, K) | _carry(static, carry)
    of = sizes._replace(T=K, kept=0, gpu_chunk=None)
    results = _forward(static._replace(leaves=False), of, part, launch, room)
    return jnp.stack(results[:states], 1), (carry, results[states + 1 :])

  def body(carry: Array, i: Array) -> Any:
    return run_chunk(carry, i * K, K)

  zeros = jnp.zeros((M, B, H), jnp.float32)
  carry = [_of_all(M)(arrays.get(k, zeros)) for k in ('h', 'c')[:states]]
  last, (before, ys) = jax.lax.scan(body, jnp.stack(carry, 1), jnp.arange(n))
  ys = [jnp.moveaxis(y.reshape(n, M, B, K, H), 0, 2).reshape(M, B, -1, H) for y in ys]
  before = jnp.moveaxis(before, 0, 1)
  if rest:
    last, (carry, of_rest) = run_chunk(last, n * K, rest)
    before = jnp.concatenate([before, carry[:, None]], 1)
    ys = [
      jnp.concatenate([y, m.reshape(M, B, rest, H)], 2)
      for y, m in zip(ys, of_rest, strict=True)
    ]
  kept = before.reshape(M, -1, H)
  kept = jnp.pad(kept, ((0, 0), (0, sizes.kept - kept.shape[1]), (0, 0)))
  return [
    *(last[:, i] for i in range(states)),
    kept,
    *(y.reshape(M, -1, H) for y in ys),
  ]


def _forward(
  static: Static, sizes: Sizes, arrays: dict[str, Array], launch: Launch, room: int
) -> list[Array]:
  """By one launch."""
  cell, options = static.cell, static.options
  M, B, T, H = sizes.models, sizes.B, sizes.T, sizes.H
  memory = len(static.fields) == 2
  of_all = _of_all(M)
  z = _per_model(M, _projection(cell), {k: arrays.get(k) for k in _PROJECTED})
  start = jnp.zeros((M, H), jnp.float32)
  if cell.name == 'gru' and 'bias' in arrays:
    start = of_all(arrays['bias'])[:, 1, 2 * H :]
  zeros = jnp.zeros((M, B, H), jnp.float32)
  macros, block, shared = _build(static, H, room, arrays, YS=options.return_sequences)
  h1, c1, kept, ys = launch(
    'forward',
    macros,
    (B, M),
    block,
    shared,
    [
      _floats(M, B, H),
      _floats(M, B, H, there=memory),
      _floats(M, sizes.kept, H, there=static.leaves),
      _floats(M, B * T, H, there=options.return_sequences),
    ],
    z,
    of_all(arrays['recurrent_kernel']),
    start,
    of_all(arrays.get('h', zeros)),
    of_all(arrays.get('c', zeros)),
    *_masks(arrays, of_all),
    _dims(sizes),
  )
  if not static.leaves:  # nobody reads it
    kept = jnp.zeros((M, sizes.kept, H), jnp.float32)
  sequences = [ys] if options.return_sequences else []
  return [h1, *([c1] if memory else []), kept, *sequences]


def backward(
  static: Static, sizes: Sizes, arrays: dict[str, Array], launch: Launch, room: int
) -> list[Array]:
  """The results of `backward`, each [M, rows, ...]."""
  names, options = list(static.gradients), static.options
  zeros = jnp.zeros((1, sizes.B, sizes.H), jnp.float32)
  arrays = {**dict.fromkeys(('dh', 'dc')[: len(static.fields)], zeros), **arrays}
  if options.bptt_steps is not None:  # to the way back a cut is what a reset is
    steps = jnp.arange(sizes.T)
    cut = (steps % options.bptt_steps == 0) & (steps > 0)
    cut = jnp.broadcast_to(
      jnp.flip(cut) if options.go_backwards else cut, (1, sizes.B, sizes.T)
    )
    arrays = {**arrays, 'cut': cut}
  if sizes.gpu_chunk is not None:
    return _backward_by_chunks(static, sizes, arrays, names, launch, room)
  return _backward(static, sizes, arrays, names, launch, room)


def _backward_by_chunks(
  static: Static,
  sizes: Sizes,
  arrays: dict[str, Array],
  names: list[str],
  launch: Launch,
  room: int,
) -> list[Array]:
  """As `backward`, from the last chunk of steps to the first, each run again first."""
  M, B, T, H, states = *sizes[:3], sizes.H, len(static.fields)
  K = sizes.gpu_chunk
  assert K is not None
  n, rest = divmod(T, K)
  again = static._replace(
    options=static.options._replace(return_sequences=False), leaves=True
  )
  chunks = n + (rest > 0)
  before = _of_all(M)(arrays['kept'])[:, : chunks * states * B]
  before = before.reshape(M, chunks, states, B, H)
  arrays = {k: a for k, a in arrays.items() if k != 'kept'}
  if 'dys' in arrays:
    arrays['dys'] = arrays['dys'].reshape(-1, B, T, H)

  def pull(i: Any, K: int, dh: Array, dc: Array) -> dict[str, Array]:
    part = _steps(static, sizes, arrays, i * sizes.gpu_chunk, K)
    carry = jax.lax.dynamic_index_in_dim(before, i, 1, keepdims=False)
    of = sizes._replace(T=K, kept=kept_rows(static.cell, B, K), gpu_chunk=None)
    kept = _forward(again, of, part | _carry(static, carry), launch, room)[states]
    part |= {'kept': kept, 'dh': dh, **({'dc': dc} if states == 2 else {})}
    if 'dys' in part:
      part['dys'] = part['dys'].reshape(-1, B * K, H)
    grads = _backward(static._replace(leaves=True), of, part, names, launch, room)
    return dict(zip(names, grads, strict=True))

  of_all = _of_all(M)
  dh, dc = of_all(arrays['dh']), of_all(arrays.get('dc', arrays['dh']))
  dx = (
    jnp.zeros((M, B, T, sizes.D), jnp.float32)
    if 'x' in names and 'ids' not in arrays
    else None
  )
  total: dict[str, Array] = {}
  summed = [k for k in names if k not in ('h', 'c') and (k != 'x' or dx is None)]

  def pull_chunk(state: Any, i: Any, K: int) -> Any:
    (dh, dc), total, dx = state
    gradients = pull(i, K, dh, dc)
    total = {k: total[k] + gradients[k] if total else gradients[k] for k in summed}
    if dx is not None:
      own = gradients['x'].reshape(M, B, K, -1)
      first = _first_in_time(static, sizes, i * sizes.gpu_chunk, K)
      dx = jax.lax.dynamic_update_slice_in_dim(dx, own, first, 2)
    return (gradients['h'], gradients.get('c', dc)), total, dx

  state: Any = ((dh, dc), total, dx)
  if rest:
    state = pull_chunk(state, n, rest)
  else:
    n -= 1
    state = pull_chunk(state, n, K)

  def body(state: Any, i: Array) -> tuple[Any, None]:
    return pull_chunk(state, i, K), None

  state, _ = jax.lax.scan(body, state, jnp.arange(n), reverse=True)
  (dh, dc), total, dx = state
  totals = {'h': dh, 'c': dc, **total}
  if dx is not None:
    totals['x'] = dx.reshape(M, B * T, -1)
  return [totals[name] for name in names]


def _first_in_time(static: Static, sizes: Sizes, first: Any, K: int) -> Any:
  """Where K steps begin in time, of which the first is run as step `first`."""
  return sizes.T - first - K if static.options.go_backwards else first


def _steps(
  static: Static, sizes: Sizes, arrays: dict[str, Array], first: Any, K: int
) -> dict[str, Array]:
  """The arrays of K steps, from that run as step `first`."""
  part = dict(arrays)
  for name in ('ids' if 'ids' in arrays else 'x', 'mask', 'reset', 'cut', 'dys'):
    if name in part:  # dys: as they are run
      start = first if name == 'dys' else _first_in_time(static, sizes, first, K)
      part[name] = jax.lax.dynamic_slice_in_dim(part[name], start, K, 2)
  return part


def _carry(static: Static, carry: Array) -> dict[str, Array]:
  """By name, from [M, states, B, H]."""
  return {k: carry[:, i] for i, k in enumerate(('h', 'c')[: len(static.fields)])}


def _backward(
  static: Static,
  sizes: Sizes,
  arrays: dict[str, Array],
  names: list[str],
  launch: Launch,
  room: int,
) -> list[Array]:
  """By one launch."""
  cell = static.cell
  if 'cut' in arrays:
    cut = arrays['cut']
    arrays = {**arrays, 'reset': arrays['reset'] | cut if 'reset' in arrays else cut}
  M, B, T, H = sizes.models, sizes.B, sizes.T, sizes.H
  groups, memory = _CLASSES[cell.name][1], len(static.fields) == 2
  of_all = _of_all(M)
  macros, block, shared = _build(static, H, room, arrays, DYS='dys' in arrays)
  kept = of_all(arrays['kept'])
  dsums, dh0, dc0 = launch(
    'backward',
    macros,
    (B, M),
    block,
    shared,
    [
      _floats(M, B, T, groups, H),
      _floats(M, B, H),
      _floats(M, B, H, there=memory),
    ],
    of_all(arrays.get('dys', arrays['dh'])),
    of_all(arrays['dh']),
    of_all(arrays.get('dc', arrays['dh'])),
    of_all(arrays['recurrent_kernel']),
    kept,
    *_masks(arrays, of_all),
    _dims(sizes),
  )
  # By the layer's gates: as the inputs' product gives them, and as the state's does.
  dz = dh_sums = dsums
  if cell.name == 'gru':
    dh_sums = dsums[..., 1:, :]
    dz = jnp.concatenate([dsums[..., 1:3, :], dsums[..., :1, :]], -2)
  dz = dz.reshape(M, B, T, -1)
  own = {k: arrays.get(k) for k in _PROJECTED}
  own |= {k: of_all(arrays[k]) for k in names if k in _PROJECTED}

  def pull(own: dict[str, Any], dz: Array) -> dict[str, Array]:
    moved = {k: own[k] for k in names if k in own}
    _, vjp = jax.vjp(lambda moved: _projection(cell)({**own, **moved}), moved)
    return vjp(dz)[0]

  gradients = _per_model(M, pull, own, dz)
  if 'bias' in gradients and cell.name == 'gru':
    of_state = dh_sums[..., 2, :].sum((1, 2))
    gradients['bias'] = gradients['bias'].at[:, 1, 2 * H :].set(of_state)
  gradients |= {'h': dh0, 'c': dc0}
  before = kept[:, : B * T].reshape(M, B, T, H)
  h_mask = of_all(arrays['h_mask']) if 'h_mask' in arrays else None
  resets = None
  if cell.name == 'gru_reset_before':
    s = kept[:, B * T : B * T * (1 + groups)].reshape(M, B, T, groups, H)
    resets = s[..., 1, :] * before
  gradients['recurrent_kernel'] = _of_states(before, resets, h_mask, dh_sums)
  return [gradients[name].reshape(M, -1, gradients[name].shape[-1]) for name in names]


_PROJECTED = ('x', 'ids', 'kernel', 'bias', 'x_mask')


def _projection(cell: cells.Cell) -> Callable[[dict[str, Any]], Array]:
  """The inputs' part of the sums, with the bias, of one model: -> [B, T, gates H]."""

  def project(arrays: dict[str, Any]) -> Array:
    bias, x_mask = arrays['bias'], arrays['x_mask']
    first = None if bias is None else bias if cell.name == 'gru' else bias[0]
    # The fields are those of any cell's parameters; the other kernel is not read.
    params = cells.LSTMParams(arrays['kernel'], arrays['kernel'], first)
    x = (
      arrays['x']
      if arrays['ids'] is None
      else Lookup(arrays['ids'], arrays['x']).rows()
    )
    if x_mask is not None and len(x_mask) == 1:
      x_mask = x_mask[0]
    z = cell.project(params, x, x_mask)
    if bias is None or cell.name != 'gru':
      return z
    # The state's bias too, but for what the reset gate multiplies.
    H = bias.shape[-1] // 3
    return z + jnp.pad(bias[1, : 2 * H], (0, H))[None, None]

  return project


def _per_model(
  models: int, function: Callable[..., Any], arrays: dict[str, Any], *operands: Array
) -> Any:
  """`function` of each model's arrays [M or 1, ...], and of `operands` [M, ...]."""
  axes = {k: None if a is None or len(a) < models else 0 for k, a in arrays.items()}
  arrays = {
    k: a[0] if axes[k] is None and a is not None else a for k, a in arrays.items()
  }
  if models == 1:
    arrays = {k: a if axes[k] is None else a[0] for k, a in arrays.items()}
    return jax.tree.map(lambda y: y[None], function(arrays, *(a[0] for a in operands)))
  if not operands and all(axis is None for axis in axes.values()):
    return _of_all(models)(function(arrays)[None])
  return jax.vmap(function, (axes, *(0 for _ in operands)))(arrays, *operands)


def _of_states(
  h: Array, reset_h: Array | None, h_mask: Array | None, d: Array
) -> Array:
  """The gradient of U [M, H, gates H]: states before each step times gradients of sums.

  Args:
    h: [M, B, T, H].
    reset_h: What the last gate takes in its place, or None.
    h_mask: Of dropout [M, 1 or gates, B, H].
    d: [M, B, T, gates, H].
  """
  gates = d.shape[-2]
  each = h_mask is not None and h_mask.shape[1] > 1
  last = gates - (reset_h is not None)
  runs = [(g, g + 1) for g in range(gates)] if each else [(0, last), (last, gates)]
  parts = []
  for first, end in runs:  # of gates that take the same
    if first == end:
      continue
    taken = h if reset_h is None or first < last else reset_h
    if h_mask is not None:
      taken = taken * h_mask[:, first if each else 0, :, None]
    parts.append(jnp.einsum('mbti,mbtgj->migj', taken, d[..., first:end, :]))
  gradient = jnp.concatenate(parts, 2)
  return gradient.reshape(*gradient.shape[:2], -1)


def _build(
  static: Static, H: int, room: int, arrays: dict[str, Array], **flags: bool
) -> tuple[tuple[tuple[str, Any], ...], int, int]:
  """(macros of recur.cu, threads of a block, bytes of shared memory)."""
  cell, options = static.cell, static.options
  block = launch_lib.sizes(H, cell.num_gates, room)
  macros: dict[str, Any] = {
    'CELL': _CLASSES[cell.name][0],
    'ACTIVATION': ACTIVATIONS[cell.activation],
    'GATE': ACTIVATIONS.get(cell.recurrent_activation, 0),
    'UNITS': H,
    'PADDED': block.padded,
    'IN_REGISTERS': block.in_registers,
    'AHEAD': block.ahead,
    'MASK': 'mask' in arrays,
    'RESET': 'reset' in arrays,
    'BACKWARDS': options.go_backwards,
    'ZERO_OUTPUT': options.zero_output_for_mask,
    'H_MASKS': arrays['h_mask'].shape[1] if 'h_mask' in arrays else 0,
    'SAVE': static.leaves,
    **{'YS': False, 'DYS': False, **flags},
  }
  threads = cell.num_gates * block.padded
  named = tuple((k, v if isinstance(v, str) else int(v)) for k, v in macros.items())
  return named, threads, block.shared_bytes(cell.num_gates)


def _floats(*shape: int, there: bool = True) -> jax.ShapeDtypeStruct:
  """A result of a kernel; one that is not wanted is a single number."""
  return jax.ShapeDtypeStruct(shape if there else (1,), jnp.float32)


def _masks(
  arrays: dict[str, Array], of_all: Callable[[Array], Array]
) -> tuple[Array, ...]:
  """mask and reset as bytes, and h_mask; one number for what is not there."""

  def of(name: str, dtype: Any) -> Array:
    there = name in arrays
    return of_all(arrays[name]).astype(dtype) if there else jnp.zeros(1, dtype)

  return of('mask', jnp.uint8), of('reset', jnp.uint8), of('h_mask', jnp.float32)


def _dims(sizes: Sizes) -> Array:
  return jnp.array([sizes.T, sizes.kept * sizes.H], jnp.int32)


def _of_all(models: int) -> Callable[[Array], Array]:
  return lambda a: jnp.broadcast_to(a, (models, *a.shape[1:]))
