"""Models as programs that need neither flax nor seqjax: StableHLO by jax.export.

One file runs on CPUs, GPUs and TPUs, at any number of sequences and, where the model's
parameters do not depend on it, at any number of steps. Parameters are part of it.
`Exported.serialize()`, and reading it again, needs flatbuffers: the extra `export`.

  >>> from seqjax import serving
  >>> model, x = sj.SequenceRegressor(sj.GRU(8)), jnp.ones((2, 5, 3))
  >>> params = model.init(jax.random.key(0), x, train=False)['params']
  >>> serving.export_model(model, params, shape=(5, 3), dtype=x.dtype).call(x).shape
  (2,)
  >>> step, sizes = serving.export_step(model, params, width=3)
  >>> carry, y = step.call([jnp.zeros((2, H)) for H in sizes], x[:, 0])
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from seqjax.layers import Stack
from seqjax.layers.recurrence import Recurrence
from seqjax.models import SequenceClassifier, SequenceRegressor
from seqjax.types import Array, PyTree

PLATFORMS = ('cpu', 'cuda', 'tpu')


def export_model(
  model: nn.Module, params: PyTree, shape: Sequence[int], dtype: Any
) -> Any:
  """The jax.export.Exported of x [B, T, ...] -> what the model returns, in evaluation.

  Args:
    model: Called as (x, train=False).
    params: Its parameters.
    shape: Of one example, (T, ...). T is any number in the result, unless parameters
      have sizes that depend on it or JAX can't say what comes of it.
    dtype: Of x.
  """
  sizes = [
    _sizes(model, (steps, *shape[1:]), dtype) for steps in (shape[0], shape[0] + 1)
  ]

  def run(x: Array) -> Any:
    return model.apply({'params': params}, x, train=False)

  if sizes[0] == sizes[1]:
    try:
      return _export(run, f'b, t{"".join(f", {size}" for size in shape[1:])}', dtype)
    except jax.core.InconclusiveDimensionOperation:
      pass  # a pool whose last window depends on T: at this T then
  return _export(run, ', '.join(map(str, ('b', *shape))), dtype)


def export_step(model: nn.Module, params: PyTree, width: int) -> tuple[Any, list[int]]:
  """One step of time at a time: the Exported of (carry, x) -> (carry, y).

  Args:
    model: A SequenceClassifier or SequenceRegressor whose encoder is a recurrent layer
      that goes forward, or a Stack of such.
    params: Its parameters.
    width: D of x [B, D]; of no use to a classifier, whose x are ids [B].

  Returns:
    The program, and H of each array of the carry: a list of zeros [B, H] to begin with.
    y is what the model would return after all steps so far.

  Raises:
    ValueError: if the model is another; it says which layer is.
  """
  step, zeros = stream(model, params)
  carry = zeros(1)
  (b,) = jax.export.symbolic_shape('b')
  given = [jax.ShapeDtypeStruct((b, c.shape[-1]), c.dtype) for c in carry]
  x = jax.ShapeDtypeStruct((b, width), jnp.float32)
  if isinstance(model, SequenceClassifier):
    x = jax.ShapeDtypeStruct((b,), jnp.int32)
  exported = jax.export.export(jax.jit(step), platforms=PLATFORMS)(given, x)
  return exported, [c.shape[-1] for c in carry]


def stream(
  model: nn.Module, params: PyTree
) -> tuple[
  Callable[[list[Array], Array], tuple[list[Array], Array]],
  Callable[[int], list[Array]],
]:
  """(step, zeros) of `export_step`, as functions: zeros(B) is the first carry."""
  if not isinstance(model, SequenceClassifier | SequenceRegressor):
    raise ValueError(f'no model that reads step by step: {type(model).__name__}')
  encoder: Any = model.encoder
  layers = encoder.layers if isinstance(encoder, Stack) else [encoder]
  for layer in layers:
    if not isinstance(layer, Recurrence) or layer.go_backwards:
      kind = type(layer).__name__
      raise ValueError(f'no model that reads step by step: {kind} needs later steps')
  layers = [layer.clone(return_carry=True) for layer in layers]
  encoder = Stack(layers) if isinstance(encoder, Stack) else layers[0]
  apply = functools.partial(encoder.apply, {'params': params['encoder']}, train=False)

  def inputs(x: Array) -> tuple[Array, Array | None]:
    """x of a step -> ([B, 1, D], mask [B, 1])."""
    if not isinstance(model, SequenceClassifier):
      return jnp.expand_dims(x, 1), None
    rows = jnp.take(params['embedding']['embedding'], x, axis=0, mode='fill')
    mask = jnp.expand_dims(x != 0, 1) if model.mask_zero else None
    return jnp.expand_dims(rows, 1), mask

  def structure(B: int) -> Any:
    if isinstance(model, SequenceClassifier):
      D = params['embedding']['embedding'].shape[1]
    else:  # from the first kernel of the encoder
      D = params['encoder'].get('layers_0', params['encoder'])['kernel'].shape[0]
    return jax.eval_shape(lambda x: apply(x)[0], jnp.zeros((B, 1, D)))

  def zeros(B: int) -> list[Array]:
    return [jnp.zeros(c.shape, c.dtype) for c in jax.tree.leaves(structure(B))]

  def step(carry: list[Array], x: Array) -> tuple[list[Array], Array]:
    whole = jax.tree.unflatten(jax.tree.structure(structure(1)), carry)
    x, mask = inputs(x)
    whole, h = apply(x, mask=mask, initial_carry=whole)
    head = params['head']
    y = h @ head['kernel'] + jnp.broadcast_to(
      head['bias'], (*h.shape[:-1], head['bias'].size)
    )
    if isinstance(model, SequenceRegressor) and model.output_shape:
      return jax.tree.leaves(whole), y.reshape(*y.shape[:-1], *model.output_shape)
    single = getattr(model, 'num_classes', None) is None
    return jax.tree.leaves(whole), jnp.squeeze(y, -1) if single else y

  return step, zeros


def _sizes(model: nn.Module, shape: Sequence[int], dtype: Any) -> Any:
  """Shapes of the model's parameters for x [1, *shape]."""
  x = jax.ShapeDtypeStruct((1, *shape), dtype)
  init = functools.partial(model.init, train=False)
  return jax.tree.map(lambda a: a.shape, jax.eval_shape(init, jax.random.key(0), x))


def _export(run: Callable[[Array], Any], dimensions: str, dtype: Any) -> Any:
  shape = jax.export.symbolic_shape(dimensions)
  x = jax.ShapeDtypeStruct(shape, dtype)
  return jax.export.export(jax.jit(run), platforms=PLATFORMS)(x)
