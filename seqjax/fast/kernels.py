"""The recurrence as two operations of JAX, forward and backward, with all its rules.

`forward` and `backward` are primitives whose every array has the number of models in
front, or 1 where all models share it: under vmap a model becomes one of many in one
call. What they are made of is decided where a program is lowered: kernels where the
platform has them, else, and for jax.export, the reference. A third, `tangent`, is the
derivative of `forward`: the reference's in forward mode, and its transpose is
`backward`, so that reverse mode is the kernels'. From the second derivative on all is
the reference's.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from seqjax import cells, scan
from seqjax.fast.cpu import library
from seqjax.fast.gpu import launch as gpu_launch
from seqjax.fast.gpu import recur as gpu
from seqjax.fast.problem import ACTIVATIONS, CELLS, Sizes, Static
from seqjax.types import Array

_NAMES = (
  'x', 'recurrent_kernel', 'kernel', 'bias', 'ids', 'h', 'c', 'mask', 'reset',
  'x_mask', 'h_mask', 'kept', 'dys', 'dh', 'dc',
)  # fmt: skip
_CHUNK_FLOATS = 6 * 2**14  # of a task's chunk: 384 KiB of a core's second cache


def sizes_of(static: Static, shapes: Mapping[str, tuple[int, ...]]) -> Sizes:
  """The sizes of a call, from the shapes of its arrays."""
  _, B, T = shapes.get('ids', shapes['x'])[:3]
  if static.options.time_first:
    B, T = T, B
  H = shapes['recurrent_kernel'][1]
  width = (static.cell.num_gates + 2) * -(-H // 16) * 16
  K = static.options.remat_chunk or _CHUNK_FLOATS // (min(32, -(-B // 4)) * width)
  K = max(1, min(T, K))
  models = max(shape[0] for shape in shapes.values())
  chunks = -(-T // K)
  kept = chunks * B * static.states + 2
  gpu_chunk = None
  # Where it will run is not known yet: there is room for either.
  if has_gpu() and not gpu.unsupported(static.cell, static.options, B, T, H):
    room = gpu_launch.memory() / (4 * models)  # a quarter of it
    if 'kept' in shapes:  # what forward left, which may have run fewer models
      whole = shapes['kept'][1] >= gpu.kept_rows(static.cell, B, T)
      room = math.inf if whole else 0.0
    gpu_chunk = gpu.chunk(static.cell, static.options, B, T, H, room)
    kept = max(kept, gpu.kept_rows(static.cell, B, T, gpu_chunk))
  D, V = shapes['x'][-1], shapes['x'][1]
  return Sizes(models, B, T, D, H, V, chunks, K, kept, gpu_chunk)


@functools.cache
def has_gpu() -> bool:
  """Whether this process sees a GPU of NVIDIA's."""
  try:
    return bool(jax.devices('cuda'))
  except RuntimeError:
    return False


def run(static: Static, arrays: dict[str, Array]) -> dict[str, Array]:
  """The recurrence of all models.

  Args:
    static: Without `given`.
    arrays: 'x' [M, B, T, D], or with 'ids' [M, B, T] the embedding [M, V, D];
      'recurrent_kernel' [M, H, G], 'kernel' [M, D, G]; those of 'bias' [M, 1 or 2, G],
      'h' and 'c' [M, B, H], 'mask' and 'reset' [M, B, T], 'x_mask' [M, n, B, D] and
      'h_mask' [M, n, B, H] that there are. M may be 1 in any of them. With `time_first`
      [T, B] stands for [B, T] everywhere.

  Returns:
    'h', 'c' if the cell has it, and with `return_sequences` 'ys' [M, B T, H].
  """
  results = _bind_forward(*_ordered(static, arrays))
  names = static.cell.carry._fields  # type: ignore[attr-defined]
  outputs = dict(zip(names, results, strict=False))
  if static.options.return_sequences:
    outputs['ys'] = results[-1]
  return outputs


def _ordered(static: Static, arrays: Mapping[str, Array]) -> tuple[Any, ...]:
  """The arguments of a primitive's `bind`."""
  given = tuple(name for name in _NAMES if name in arrays)
  return static._replace(given=given), *(arrays[name] for name in given)


def _gradients(static: Static, names: Any) -> list[str]:
  """Names of the gradients, in the order of the results."""
  ordered = ['recurrent_kernel', 'kernel', *(['bias'] if 'bias' in names else [])]
  ordered += static.cell.carry._fields  # type: ignore[attr-defined]
  return ordered + (['x'] if static.wants_dx else [])


def _carry_shape(static: Static, arrays: Mapping[str, Any]) -> tuple[int, ...]:
  sizes = sizes_of(static, {k: a.shape for k, a in arrays.items()})
  return sizes.models, sizes.B, sizes.H


def _moving(static: Static, tangents: Any) -> dict[str, Array]:
  """The tangents that are not zero; masks are constants, and `kept` is no number."""
  named = zip(static.given, tangents, strict=True)
  constant = ('x_mask', 'h_mask', 'kept')
  return {k: t for k, t in named if type(t) is not ad.Zero and k not in constant}


def _no_tangent(primal: Array) -> Any:
  return ad.Zero(jax.typeof(primal).to_tangent_aval())


def _forward_jvp(primals: Any, tangents: Any, *, static: Static) -> tuple[Any, Any]:
  """Values by the kernels, which leave what the way back wants; it is no tangent's."""
  moving = _moving(static, tangents)
  results = _bind_forward(static._replace(leaves=bool(moving)), *primals)
  out_tangents = list(map(_no_tangent, results))
  if moving:
    names = (*static.given, 'kept', *(f't{name}' for name in moving))
    operands = (*primals, results[static.states], *moving.values())
    changes = _bind_tangent(static._replace(given=names), *operands)
    out_tangents = [
      *changes[: static.states],
      out_tangents[static.states],
      *changes[static.states :],
    ]
  return results, out_tangents


def _tangent_transpose(cotangents: Any, *operands: Any, static: Static) -> list[Any]:
  """Reverse mode: the way back of the kernels, with what forward kept."""
  named = dict(zip(static.given, operands, strict=True))
  arrays = {k: a for k, a in named.items() if not k.startswith('t')}
  linear = {k: a.aval for k, a in named.items() if ad.is_undefined_primal(a)}
  zeros = jnp.zeros_like(arrays['kept'], shape=_carry_shape(static, arrays))
  fields = static.cell.carry._fields  # type: ignore[attr-defined]
  given = dict(zip((*fields, 'ys'), cotangents, strict=False))
  known = {f'd{k}': d for k, d in given.items() if type(d) is not ad.Zero}
  arrays = {**arrays, **dict.fromkeys((f'd{k}' for k in fields), zeros), **known}
  static = static._replace(wants_dx='tx' in linear, leaves=False)
  results = _bind_backward(*_ordered(static, arrays))
  gradients = dict(zip(_gradients(static, arrays), results, strict=True))
  return [
    _summed(gradients[name[1:]], linear[name].shape) if name in linear else None
    for name in named
  ]


def _summed(gradient: Array, shape: tuple[int, ...]) -> Array:
  """A gradient of all models, for what they may share."""
  gradient = gradient.reshape(gradient.shape[0], *shape[1:])
  return gradient if shape[0] == len(gradient) else gradient.sum(0, keepdims=True)


def _reference(static: Static, arrays: dict[str, Array]) -> dict[str, Array]:
  """What `run` gives, by the reference, without what it keeps."""
  cell, options = static.cell, static.options
  models = max(a.shape[0] for a in arrays.values())

  def turned(a: Array) -> Array:
    return jnp.swapaxes(a, 0, 1) if options.time_first else a

  def one(arrays: dict[str, Array]) -> dict[str, Array]:
    for name in ('ids' if 'ids' in arrays else 'x', 'mask', 'reset'):
      if name in arrays:
        arrays = {**arrays, name: turned(arrays[name])}
    bias = arrays.get('bias')
    if bias is not None and cell.name != 'gru':
      bias = jnp.squeeze(bias, 0)
    # The fields are those of any cell's parameters.
    params = cells.LSTMParams(arrays['kernel'], arrays['recurrent_kernel'], bias)
    carry = None
    if 'h' in arrays:
      carry = cell.carry(*(arrays[k] for k in cell.carry._fields))  # type: ignore[attr-defined]
    x = arrays['x']
    masks = {k: arrays.get(k) for k in ('x_mask', 'h_mask')}
    masks = {k: m[0] if m is not None and len(m) == 1 else m for k, m in masks.items()}
    sequence = scan.Sequence(
      scan.Lookup(arrays['ids'], x) if 'ids' in arrays else x,
      carry,
      arrays.get('mask'),
      arrays.get('reset'),
      **masks,
    )
    carry, ys = scan.recur(cell, params, sequence, options)
    outputs = carry._asdict()
    return (
      outputs if ys is None else {**outputs, 'ys': turned(ys).reshape(-1, ys.shape[-1])}
    )

  shared = {k: a[0] for k, a in arrays.items() if a.shape[0] == 1}
  own = {k: a for k, a in arrays.items() if k not in shared}
  if models == 1:
    return jax.tree.map(lambda y: y[None], one(shared))
  return jax.vmap(lambda own: one({**shared, **own}))(own)


def _reference_gradients(
  static: Static,
  arrays: dict[str, Array],
  cotangents: dict[str, Array],
  names: list[str],
) -> dict[str, Array]:
  """The gradients, each [M, rows, ...], by the reference."""
  models = max(a.shape[0] for a in arrays.values())
  fields = static.cell.carry._fields  # type: ignore[attr-defined]
  zeros = jnp.zeros(_carry_shape(static, arrays), jnp.float32)
  arrays = {**dict.fromkeys(fields, zeros), **arrays}
  own = {k: jnp.broadcast_to(arrays[k], (models, *arrays[k].shape[1:])) for k in names}
  outputs, pull = jax.vjp(lambda own: _reference(static, {**arrays, **own}), own)
  missing = {k: jnp.zeros_like(y) for k, y in outputs.items() if k not in cotangents}
  (gradients,) = pull({**cotangents, **missing})
  return {k: g.reshape(models, -1, g.shape[-1]) for k, g in gradients.items()}


def _forward_shapes(static: Static, sizes: Sizes) -> list[Any]:
  M, B, T, H = sizes.models, sizes.B, sizes.T, sizes.H
  shapes = [(M, B, H)] * static.states + [(M, sizes.kept, H)]
  return shapes + [(M, B * T, H)] * static.options.return_sequences


def _tangent_shapes(static: Static, sizes: Sizes) -> list[Any]:
  shapes = _forward_shapes(static, sizes)
  del shapes[static.states]  # what is kept
  return shapes


def _backward_shapes(static: Static, sizes: Sizes) -> list[Any]:
  M, B, T, D, H, V, *_ = sizes
  G = static.cell.num_gates * H
  rows = V if 'ids' in static.given else B * T
  of = {
    'recurrent_kernel': (M, H, G),
    'kernel': (M, D, G),
    'bias': (M, 1 + (static.cell.name == 'gru'), G),
    'x': (M, rows, D),
  }
  return [of.get(name, (M, B, H)) for name in _gradients(static, static.given)]


def _forward_reference(static: Static, *operands: Array) -> list[Array]:
  arrays = dict(zip(static.given, operands, strict=True))
  outputs = _reference(static, arrays)
  sizes = sizes_of(static, {k: a.shape for k, a in arrays.items()})
  fields = static.cell.carry._fields  # type: ignore[attr-defined]
  kept = jnp.zeros(_forward_shapes(static, sizes)[static.states], jnp.float32)
  results = [*(outputs[name] for name in fields), kept]
  return results + ([outputs['ys']] if 'ys' in outputs else [])


def _tangent_reference(static: Static, *operands: Array) -> list[Array]:
  arrays = dict(zip(static.given, operands, strict=True))
  del arrays['kept']
  models = max(a.shape[0] for a in arrays.values())

  def of_all(array: Array) -> Array:
    return jnp.broadcast_to(array, (models, *array.shape[1:]))

  names = [name[1:] for name in arrays if name.startswith('t')]
  moving = {name: of_all(arrays.pop(f't{name}')) for name in names}
  own = {name: of_all(arrays[name]) for name in names}
  _, tangents = jax.jvp(
    lambda own: _reference(static, {**arrays, **own}), (own,), (moving,)
  )
  fields = static.cell.carry._fields  # type: ignore[attr-defined]
  return [tangents[name] for name in (*fields, 'ys') if name in tangents]


def _backward_reference(static: Static, *operands: Array) -> list[Array]:
  arrays = dict(zip(static.given, operands, strict=True))
  del arrays['kept']
  cotangents = {k[1:]: arrays.pop(k) for k in ('dys', 'dh', 'dc') if k in arrays}
  names = _gradients(static, arrays)
  gradients = _reference_gradients(static, arrays, cotangents, names)
  return [gradients[name] for name in names]


def forward_on_gpu(
  static: Static, operands: Any, launch: gpu.Launch, room: int
) -> list[Array]:
  """The primitive `forward` by the GPU's kernels; `launch` runs one."""
  arrays = dict(zip(static.given, operands, strict=True))
  sizes = sizes_of(static, {k: a.shape for k, a in arrays.items()})
  with jax.default_matmul_precision(static.precision):
    return gpu.forward(static, sizes, arrays, launch, room)


def backward_on_gpu(
  static: Static, operands: Any, launch: gpu.Launch, room: int
) -> list[Array]:
  """The primitive `backward`, likewise."""
  arrays = dict(zip(static.given, operands, strict=True))
  sizes = sizes_of(static, {k: a.shape for k, a in arrays.items()})
  names = _gradients(static, arrays)
  with jax.default_matmul_precision(static.precision):
    return gpu.backward(static, sizes, arrays, names, launch, room)


def _define(
  name: str,
  shapes: Callable[[Static, Sizes], list[Any]],
  reference: Callable[..., list[Array]],
  target: str = '',
  on_gpu: Callable[..., list[Array]] | None = None,
) -> tuple[Primitive, Callable[..., list[Array]]]:
  """A primitive with its rules, and the function that binds it (once compiled, kept).

  Its derivative is the reference's. Without a `target`, so is it.
  """
  primitive = Primitive(f'seqjax_{name}')
  primitive.multiple_results = True

  @primitive.def_abstract_eval
  def abstract(*avals: Any, static: Static) -> list[Any]:
    by_name = dict(zip(static.given, avals, strict=True))
    sizes = sizes_of(static, {k: a.shape for k, a in by_name.items()})
    # Of three axes, as all results: what an aval says of meshes fits them too.
    like = by_name['recurrent_kernel']
    kind = np.dtype(np.float32)
    return [
      like.update(shape=shape, dtype=kind, weak_type=False)
      for shape in shapes(static, sizes)
    ]

  def batch(args: Any, axes: Any, *, static: Static) -> tuple[list[Array], list[int]]:
    number = next(a.shape[d] for a, d in zip(args, axes, strict=True) if d is not None)
    models = max(
      a.shape[0] if d is None else a.shape[0 if d else 1]
      for a, d in zip(args, axes, strict=True)
    )

    def joined(a: Array, axis: int | None) -> Array:
      """[number models, ...], or [1, ...] where all share it."""
      if axis is None and a.shape[0] == 1:
        return a
      a = a[None] if axis is None else jnp.moveaxis(a, axis, 0)
      a = jnp.broadcast_to(a, (number, models, *a.shape[2:]))
      return a.reshape(number * models, *a.shape[2:])

    operands = [joined(a, axis) for a, axis in zip(args, axes, strict=True)]
    results = primitive.bind(*operands, static=static)
    return [r.reshape(number, models, *r.shape[1:]) for r in results], [0] * len(
      results
    )

  def lower_on_cpu(ctx: Any, *operands: Any, static: Static) -> Any:
    # An exported program is to run where these kernels are not.
    if ctx.module_context.lowering_parameters.for_export:
      return lower_reference(ctx, *operands, static=static)
    shapes = dict(zip(static.given, (a.shape for a in ctx.avals_in), strict=True))
    if library.loaded()[0] is None:
      return lower_reference(ctx, *operands, static=static)
    lower = jax.ffi.ffi_lowering(target)
    return lower(ctx, *operands, header=_header(static, sizes_of(static, shapes)))

  def lower_on_gpu(ctx: Any, *operands: Any, static: Static) -> Any:
    shapes = dict(zip(static.given, (a.shape for a in ctx.avals_in), strict=True))
    sizes = sizes_of(static, shapes)
    exports = ctx.module_context.lowering_parameters.for_export
    cell, options = static.cell, static.options
    if (
      exports
      or not has_gpu()
      or sizes.models > gpu_launch.MOST_MODELS
      or gpu.unsupported(cell, options, sizes.B, sizes.T, sizes.H)
      or gpu_launch.missing()
    ):
      return lower_reference(ctx, *operands, static=static)
    # A launch says nothing of axes of a mesh that its results vary over.
    plain = [jax.core.ShapedArray(a.shape, a.dtype) for a in ctx.avals_in]
    return lower_by_gpu_kernels(ctx.replace(avals_in=plain), *operands, static=static)

  def by_gpu_kernels(*operands: Array, static: Static) -> list[Array]:
    assert on_gpu is not None  # else nothing is lowered so
    room = gpu_launch.shared_memory()
    return on_gpu(static, operands, gpu_launch.launch, room)

  def of_reference(*operands: Array, static: Static) -> list[Array]:
    with jax.default_matmul_precision(static.precision):
      return reference(static, *operands)

  def differentiate(primals: Any, tangents: Any, *, static: Static) -> tuple[Any, Any]:
    results = bind(static, *primals)
    moving = _moving(static, tangents)
    if not moving:
      return results, list(map(_no_tangent, results))
    arrays = dict(zip(static.given, primals, strict=True))

    def function(moved: dict[str, Array]) -> list[Array]:
      return reference(static, *{**arrays, **moved}.values())

    _, out_tangents = jax.jvp(function, ({k: arrays[k] for k in moving},), (moving,))
    return results, out_tangents

  primitive.def_impl(
    of_reference
  )  # under disable_jit, or where debug_nans looks closer
  lower_reference = mlir.lower_fun(of_reference, multiple_results=True)
  lower_by_gpu_kernels = mlir.lower_fun(by_gpu_kernels, multiple_results=True)
  batching.primitive_batchers[primitive] = batch
  ad.primitive_jvps[primitive] = differentiate
  mlir.register_lowering(primitive, lower_reference)
  if target:
    mlir.register_lowering(primitive, lower_on_cpu, platform='cpu')
    mlir.register_lowering(primitive, lower_on_gpu, platform='cuda')

  @functools.partial(jax.jit, static_argnums=0)
  def bind(static: Static, *operands: Array) -> list[Array]:
    return primitive.bind(*operands, static=static)

  return primitive, bind


def _header(static: Static, sizes: Sizes) -> np.ndarray:
  """`Header` of kernels.cc."""
  cell, options = static.cell, static.options
  fields = (
    CELLS.index(cell.name),
    sum(1 << _NAMES.index(name) for name in static.given),
    static.wants_dx if 'kept' in static.given else static.leaves,
    ACTIVATIONS[cell.activation],
    ACTIVATIONS.get(cell.recurrent_activation, 0),
    options.go_backwards,
    options.zero_output_for_mask,
    options.bptt_steps or 0,
    sizes.K,
    options.time_first,
  )
  return np.array(fields, np.int64)


_forward, _bind_forward = _define(
  'forward', _forward_shapes, _forward_reference, library.FORWARD, forward_on_gpu
)
_backward, _bind_backward = _define(
  'backward', _backward_shapes, _backward_reference, library.BACKWARD, backward_on_gpu
)
_tangent, _bind_tangent = _define('tangent', _tangent_shapes, _tangent_reference)
ad.primitive_jvps[_forward] = _forward_jvp
ad.primitive_transposes[_tangent] = _tangent_transpose


def memory(B: int, T: int, H: int, chunks: int, states: int, sequences: bool) -> int:
  """Bytes that a call keeps for the way back, and gives back: h, ys, the carries."""
  floats = states * B * H * (1 + chunks) + sequences * math.prod((B, T, H))
  return 4 * floats
