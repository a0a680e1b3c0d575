"""Where a program for NVIDIA's GPUs takes the kernels: decided when it is lowered."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.interpreters import mlir

from seqjax.cells import Cell
from seqjax.fast.gpu import launch, recur
from seqjax.fast.problem import Sizes, Static
from seqjax.scan import Options, Sequence
from seqjax.types import Array, PyTree


def rule(
  run: Callable[..., list[Array]] | None,
  sizes_of: Callable[[Static, Any], Sizes],
  otherwise: Callable[..., Any],
) -> Callable[..., Any]:
  """How a primitive of kernels.py is lowered for CUDA.

  Args:
    run: `recur.forward` or `recur.backward`.
    sizes_of: That of kernels.py.
    otherwise: The rule where the kernels can't run.
  """

  def by_kernels(*operands: Array, static: Static) -> list[Array]:
    assert run is not None  # else nothing is lowered so
    arrays = static.named(operands)
    sizes, room = sizes_of(static, arrays), launch.shared_memory()
    with jax.default_matmul_precision(static.precision):
      return run(static, sizes, arrays, launch.launch, room)

  lower_by_kernels = mlir.lower_fun(by_kernels, multiple_results=True)

  def lower(ctx: Any, *operands: Any, static: Static) -> Any:
    sizes = sizes_of(static, static.named(ctx.avals_in))
    if (
      ctx.module_context.lowering_parameters.for_export
      or not launch.has_gpu()
      or not sizes.models
      or sizes.models > launch.MOST_MODELS
      or recur.unsupported(static.cell, static.options, sizes.B, sizes.T, sizes.H)
      or launch.missing()
    ):
      return otherwise(ctx, *operands, static=static)
    # A launch says nothing of axes of a mesh that its results vary over.
    plain = [jax.core.ShapedArray(a.shape, a.dtype) for a in ctx.avals_in]
    return lower_by_kernels(ctx.replace(avals_in=plain), *operands, static=static)

  return lower


def path(
  cell: Cell, params: PyTree, sequence: Sequence, options: Options
) -> tuple[str, str]:
  """As `dispatch.path`, of what some kernels could compute, on a GPU."""
  *batch, T, _ = sequence.x.shape
  H = params.recurrent_kernel.shape[0]
  reason = recur.unsupported(cell, options, math.prod(batch), T, H) or launch.missing()
  return ('reference', reason) if reason else ('gpu', 'kernels in CUDA')
