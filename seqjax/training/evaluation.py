"""Exact means, and outputs, over a set of examples, each seen once."""

from collections.abc import Callable, Iterable

import jax
import numpy as np
from jax.sharding import Mesh

from seqjax.cluster import mesh as mesh_lib
from seqjax.cluster.signals import Stop
from seqjax.cluster.watchdog import Watchdog
from seqjax.types import Array, Batch, PyTree
from seqjax.workdir.progress import Values, means


def make(
  eval_step: Callable[..., tuple[dict[str, Array], PyTree]],
  mesh: Mesh,
  stop: Stop,
  watch: Watchdog,
  derived: Values | None = None,
  carry: PyTree = (),
) -> Callable[[PyTree, Iterable[Batch]], dict[str, float]]:
  """Returns (params, batches) -> means over all examples of the batches.

  After a signal, which `stop` tells of, they are of no use. `derived` is as of `means`.
  `carry` is what the first batch begins with.
  """

  def evaluate(params: PyTree, batches: Iterable[Batch]) -> dict[str, float]:
    sums: list[dict[str, Array]] = []
    carried = carry
    for batch in batches:
      watch.beat(compiles=not sums)
      if stop:
        break
      placed = mesh_lib.put_batch(batch, mesh)
      # One batch at a time: on CPU devices, batches in flight together wait for each
      # other's sums with all the threads there are, and XLA ends the process.
      jax.block_until_ready(sums[-1:])
      found, carried = eval_step(params, carried, placed)
      sums.append(found)
    total: dict[str, float] = {}
    for values in jax.device_get(sums):
      total = {name: total.get(name, 0.0) + float(v) for name, v in values.items()}
    return means(total, derived)

  return evaluate


def outputs(
  apply: Callable[[PyTree, Batch], PyTree],
  params: PyTree,
  batches: Iterable[Batch],
  num_examples: int,
) -> PyTree:
  """What `apply` makes of N examples, leaves [N, ...] on the host.

  The batches are those of an `InOrder`: what fills the last one up is cut off.
  """
  found = [jax.device_get(apply(params, batch)) for batch in batches]
  return jax.tree.map(lambda *a: np.concatenate(a)[:num_examples], *found)
