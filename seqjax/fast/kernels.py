"""The recurrence as two operations of JAX, forward and backward, with all its rules.

`forward` and `backward` are primitives whose every array has the number of models in
front, or 1 where all models share it: under vmap a model becomes one of many in one
call. What they are made of is decided where a program is lowered: kernels where the
platform has them, else, and for jax.export, the reference. A third, `tangent`, is the
derivative of `forward`: the reference's in forward mode, and its transpose is
`backward`, so that reverse mode is the kernels'. From the second derivative on all is
the reference's.

Arrays go by the names of `shapes_of`; the tangent of y is ty, its cotangent dy.
"""

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from seqjax import cells, scan
from seqjax.fast.cpu import library
from seqjax.fast.gpu import lowering
from seqjax.fast.gpu import recur as gpu
from seqjax.fast.problem import ACTIVATIONS, CELLS, Sizes, Static
from seqjax.types import Array, PyTree

Arrays = dict[str, Array]
_NAMES = (
  'x', 'recurrent_kernel', 'kernel', 'bias', 'ids', 'h', 'c', 'mask', 'reset',
  'x_mask', 'h_mask', 'kept', 'dys', 'dh', 'dc',
)  # fmt: skip
_ORDER = (*_NAMES, *(f't{name}' for name in _NAMES))
_CHUNK_FLOATS = 6 * 2**14  # of a task's chunk: 384 KiB of a core's second cache


def sizes_of(static: Static, arrays: Mapping[str, Any]) -> Sizes:
  """The sizes of a call, from its arrays or what has their shapes."""
  shapes = {k: a.shape for k, a in arrays.items()}
  _, B, T = shapes.get('ids', shapes['x'])[:3]
  if static.options.time_first:
    B, T = T, B
  H = shapes['recurrent_kernel'][1]
  width = (static.cell.num_gates + 2) * -(-H // 16) * 16
  K = static.options.remat_chunk or _CHUNK_FLOATS // (min(32, -(-B // 4)) * width)
  K = max(1, min(T, K))
  chunks = -(-T // K)
  x_masks, h_masks = (shapes[k][1] if k in shapes else 0 for k in ('x_mask', 'h_mask'))
  models = _number(shape[0] for shape in shapes.values())
  D, V = shapes['x'][-1], shapes['x'][1]
  kept = chunks * B * len(static.fields) + 2
  sizes = Sizes(models, B, T, D, H, V, x_masks, h_masks, chunks, K, kept)
  # Where it will run is not known yet: there is room for either.
  return gpu.with_room(static, sizes, shapes.get('kept'))


def _number(sizes: Iterable[int]) -> int:
  """How many models, by the sizes of an axis that is 1 where all share an array."""
  return next((size for size in sizes if size != 1), 1)


def shapes_of(static: Static, sizes: Sizes) -> dict[str, tuple[int, ...]]:
  """Of all arrays, less the models in front; x with 'ids' is an embedding."""
  _, B, T, D, H, V, *masks = sizes[:8]
  gates = static.cell.num_gates
  x_masks, h_masks = (n if n == 1 else gates for n in masks)
  places = (T, B) if static.options.time_first else (B, T)
  return {
    'x': (V, D) if 'ids' in static.given else (*places, D),
    'recurrent_kernel': (H, gates * H),
    'kernel': (D, gates * H),
    'bias': (1 + (static.cell.name == 'gru'), gates * H),
    **dict.fromkeys(('ids', 'mask', 'reset'), places),
    **dict.fromkeys(('h', 'c', 'dh', 'dc'), (B, H)),
    'x_mask': (x_masks, B, D),
    'h_mask': (h_masks, B, H),
    'kept': (sizes.kept, H),
    **dict.fromkeys(('ys', 'dys'), (B * T, H)),
  }


def _of_forward(static: Static) -> list[str]:
  """Names of its results."""
  return [*static.fields, 'kept', *['ys'] * static.options.return_sequences]


def _of_tangent(static: Static) -> list[str]:
  return [name for name in _of_forward(static) if name != 'kept']


def _reference(static: Static, arrays: Arrays) -> Arrays:
  """What `forward` gives, by the reference, without what it keeps."""
  cell, options = static.cell, static.options

  def turned(a: Array) -> Array:
    return jnp.swapaxes(a, 0, 1) if options.time_first else a

  def one(arrays: Arrays) -> Arrays:
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
      carry = cell.carry(*(arrays[k] for k in static.fields))
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
    outputs: Arrays = carry._asdict()
    if ys is not None:
      outputs['ys'] = turned(ys).reshape(-1, ys.shape[-1])
    return outputs

  shared = {k: a[0] for k, a in arrays.items() if a.shape[0] == 1}
  own = {k: a for k, a in arrays.items() if k not in shared}
  if not own:
    return jax.tree.map(lambda y: y[None], one(shared))
  return jax.vmap(lambda own: one({**shared, **own}))(own)


def _of_all(arrays: Arrays, tree: PyTree) -> PyTree:
  """`tree` with a copy for each of the models that `arrays` have."""
  models = _number(a.shape[0] for a in arrays.values())
  return jax.tree.map(lambda a: jnp.broadcast_to(a, (models, *a.shape[1:])), tree)


def _given(arrays: Arrays) -> Arrays:
  """What of the arrays of another operation `forward` takes."""
  return {k: a for k, a in arrays.items() if k[0] not in 'dt' and k != 'kept'}


def _of(
  function: Callable[[Static, Arrays], Arrays], static: Static, arrays: Arrays
) -> Callable[[Arrays], Arrays]:
  """A function of some of the arrays; the others are as they are."""
  return lambda own: function(static, {**arrays, **own})


def _forward_reference(static: Static, arrays: Arrays) -> Arrays:
  sizes = sizes_of(static, arrays)
  kept = jnp.zeros((sizes.models, sizes.kept, sizes.H), jnp.float32)
  return {**_reference(static, arrays), 'kept': kept}


def _tangent_reference(static: Static, arrays: Arrays) -> Arrays:
  given = _given(arrays)
  moving = {k[1:]: a for k, a in arrays.items() if k[0] == 't'}
  own, moving = _of_all(arrays, ({k: given[k] for k in moving}, moving))
  return jax.jvp(_of(_reference, static, given), (own,), (moving,))[1]


def _backward_reference(static: Static, arrays: Arrays) -> Arrays:
  sizes = sizes_of(static, arrays)
  zeros = jnp.zeros_like(arrays['kept'], shape=(1, sizes.B, sizes.H))
  given = {**dict.fromkeys(static.fields, zeros), **_given(arrays)}
  own = _of_all(arrays, {k: given[k] for k in static.gradients})
  outputs, pull = jax.vjp(_of(_reference, static, given), own)
  cotangents = {k: arrays.get(f'd{k}', jnp.zeros_like(y)) for k, y in outputs.items()}
  (gradients,) = pull(_of_all(arrays, cotangents))
  return {
    k: g.reshape(g.shape[0], math.prod(g.shape[1:-1]), g.shape[-1])
    for k, g in gradients.items()
  }


def _by_tangent(
  static: Static, arrays: Arrays, results: Arrays, moving: Arrays
) -> Arrays:
  """The derivative of `forward`."""
  moving = {f't{name}': t for name, t in moving.items()}
  return _bind_tangent(static, {**arrays, 'kept': results['kept'], **moving})


def _tangent_transpose(cotangents: Any, *operands: Any, static: Static) -> list[Any]:
  """Reverse mode: the way back of the kernels, with what forward kept."""
  named = static.named(operands)
  arrays = {k: a for k, a in named.items() if k[0] != 't'}
  linear = {k: a.aval for k, a in named.items() if ad.is_undefined_primal(a)}
  known = zip(_of_tangent(static), cotangents, strict=True)
  arrays |= {f'd{k}': d for k, d in known if type(d) is not ad.Zero}
  static = static._replace(wants_dx='tx' in linear, leaves=False)
  gradients = _bind_backward(static, arrays)

  def summed(gradient: Array, shape: tuple[int, ...]) -> Array:
    """A gradient of all models, for what they may share."""
    gradient = gradient.reshape(gradient.shape[0], *shape[1:])
    return gradient if shape[0] == gradient.shape[0] else gradient.sum(0, keepdims=True)

  return [
    summed(gradients[name[1:]], linear[name].shape) if name in linear else None
    for name in named
  ]


def _define(
  name: str,
  results_of: Callable[[Static], Any],
  reference: Callable[[Static, Arrays], Arrays],
  target: str = '',
  on_gpu: Callable[..., list[Array]] | None = None,
  derivative: Callable[..., Arrays] | None = None,
) -> tuple[Primitive, Callable[[Static, Arrays], Arrays]]:
  """A primitive with its rules, and the function that binds it (once compiled, kept).

  Its derivative is the reference's, unless it has one. Without a `target`, so is it.
  """
  primitive = Primitive(f'seqjax_{name}')
  primitive.multiple_results = True

  @functools.partial(jax.jit, static_argnums=0)
  def bind(static: Static, arrays: Arrays) -> Arrays:
    static = static._replace(given=tuple(sorted(arrays, key=_ORDER.index)))
    results = primitive.bind(*(arrays[k] for k in static.given), static=static)
    return dict(zip(results_of(static), results, strict=True))

  @primitive.def_abstract_eval
  def abstract(*avals: Any, static: Static) -> list[Any]:
    arrays = static.named(avals)
    sizes = sizes_of(static, arrays)
    shapes = shapes_of(static, sizes)
    for name, aval in arrays.items():
      (models, *shape), expected = aval.shape, shapes[name.removeprefix('t')]
      if tuple(shape) != expected or models not in (1, sizes.models):
        raise ValueError(f'{name} does not fit: {tuple(shape)}, expected {expected}')
    # Of three axes, as all results: what an aval says of meshes fits them too.
    like = arrays['recurrent_kernel']
    return [
      like.update(
        shape=(sizes.models, math.prod(shapes[k][:-1]), shapes[k][-1]),
        dtype=np.dtype(np.float32),
        weak_type=False,
      )
      for k in results_of(static)
    ]

  def batch(args: Any, axes: Any, *, static: Static) -> tuple[list[Array], list[int]]:
    args = [  # [number or 1, models or 1, ...]
      a[None] if axis is None else jnp.moveaxis(a, axis, 0)
      for a, axis in zip(args, axes, strict=True)
    ]
    both = tuple(_number(a.shape[i] for a in args) for i in (0, 1))

    def joined(a: Array) -> Array:
      """[number models, ...], or [1, ...] where all share it."""
      if a.shape[:2] != (1, 1):
        a = jnp.broadcast_to(a, (*both, *a.shape[2:]))
      return a.reshape(math.prod(a.shape[:2]), *a.shape[2:])

    results = primitive.bind(*map(joined, args), static=static)
    return [r.reshape(*both, *r.shape[1:]) for r in results], [0] * len(results)

  def of_reference(*operands: Array, static: Static) -> list[Array]:
    with jax.default_matmul_precision(static.precision):
      results = reference(static, static.named(operands))
    return [results[k] for k in results_of(static)]

  def lower_on_cpu(ctx: Any, *operands: Any, static: Static) -> Any:
    # An exported program is to run where these kernels are not.
    exports = ctx.module_context.lowering_parameters.for_export
    sizes = sizes_of(static, static.named(ctx.avals_in))
    if exports or not sizes.models or library.loaded()[0] is None:
      return lower_reference(ctx, *operands, static=static)
    header = _header(static, sizes)
    return jax.ffi.ffi_lowering(target)(ctx, *operands, header=header)

  def differentiate(primals: Any, tangents: Any, *, static: Static) -> tuple[Any, Any]:
    arrays = static.named(primals)
    changes: Arrays = {}
    moving = {  # masks are constants, and `kept` is no number
      k: t
      for k, t in static.named(tangents).items()
      if type(t) is not ad.Zero and k not in ('x_mask', 'h_mask', 'kept')
    }
    # Forward leaves what the way back wants; it is no tangent's.
    results = bind(static._replace(leaves=static.leaves or bool(moving)), arrays)
    if moving and derivative:
      changes = derivative(static, arrays, results, moving)
    elif moving:
      own = {k: arrays[k] for k in moving}
      _, changes = jax.jvp(_of(reference, static, arrays), (own,), (moving,))
    zeros = {k: ad.Zero(jax.typeof(y).to_tangent_aval()) for k, y in results.items()}
    names = results_of(static)
    return [results[k] for k in names], [{**zeros, **changes}[k] for k in names]

  # Under disable_jit, or where debug_nans looks closer.
  primitive.def_impl(of_reference)
  lower_reference = mlir.lower_fun(of_reference, multiple_results=True)
  batching.primitive_batchers[primitive] = batch
  ad.primitive_jvps[primitive] = differentiate
  mlir.register_lowering(primitive, lower_reference)
  if target:
    mlir.register_lowering(primitive, lower_on_cpu, platform='cpu')
    rule = lowering.rule(on_gpu, sizes_of, lower_reference)
    mlir.register_lowering(primitive, rule, platform='cuda')
  return primitive, bind


def _header(static: Static, sizes: Sizes) -> np.ndarray:
  """`Header` of kernels.cc."""
  cell, options = static.cell, static.options
  fields = (
    CELLS.index(cell.name),
    sum(1 << _NAMES.index(name) for name in static.given),
    static.wants_dx if 'kept' in static.given else static.leaves,
    *sizes[:8],
    ACTIVATIONS[cell.activation],
    ACTIVATIONS.get(cell.recurrent_activation, 0),
    options.go_backwards,
    options.zero_output_for_mask,
    options.bptt_steps or 0,
    sizes.K,
    options.time_first,
  )
  return np.array(fields, np.int64)


_forward, run = _define(
  'forward', _of_forward, _forward_reference, library.FORWARD, gpu.forward, _by_tangent
)
_backward, _bind_backward = _define(
  'backward',
  lambda static: static.gradients,
  _backward_reference,
  library.BACKWARD,
  gpu.backward,
)
_tangent, _bind_tangent = _define('tangent', _of_tangent, _tangent_reference)
ad.primitive_transposes[_tangent] = _tangent_transpose
