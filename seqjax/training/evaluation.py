"""Exact means, and outputs, over a set of examples, each seen once."""

import contextlib
import functools
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import InvalidRngError
from jax.sharding import Mesh

from seqjax.cluster import mesh as mesh_lib
from seqjax.cluster.signals import Stop
from seqjax.cluster.watchdog import Watchdog
from seqjax.data.batches import resident_of
from seqjax.training import steps
from seqjax.types import Array, Batch, InputError, PyTree
from seqjax.workdir.progress import Values, means

T = TypeVar('T')


class Kept:
  """Batches that stay on the devices, cut over them, once they have been there."""

  def __init__(self, batches: Iterable[Batch], mesh: Mesh):
    self._batches, self._mesh = batches, mesh
    self._placed: list[PyTree] | None = None

  def __iter__(self) -> Iterator[PyTree]:
    """Yields them as `mesh.put_batch` has them."""
    if self._placed is not None:
      yield from self._placed
      return
    placed: list[PyTree] | None = []
    size, free = 0, mesh_lib.free_bytes(self._mesh)
    for batch in self._batches:
      there = mesh_lib.put_batch(batch, self._mesh)
      yield there
      size += sum(a.nbytes for a in jax.tree.leaves(there)) // self._mesh.size
      if placed is not None:
        placed.append(there)
      if free is not None and size > free / 4:
        placed = None  # too many: they come anew each time
    self._placed = placed


def make(
  eval_step: Callable[..., tuple[dict[str, Array], PyTree]],
  mesh: Mesh,
  stop: Stop,
  watch: Watchdog,
  derived: Values | None = None,
  carry: PyTree = (),
  models: int | None = None,
) -> Callable[[PyTree, Iterable[Batch]], Generator[None, None, Any]]:
  """Returns (params, batches) -> means over all examples of the batches.

  It is a generator, which yields after each batch and returns them: what other devices
  evaluate may come between. After a signal, which `stop` tells of, they are of no use.
  `derived` is as of `means`. `carry` is what the first batch begins with. With several
  `models` at once, params are a tuple, and the means a list.
  """
  # One batch at a time: on CPU devices, batches in flight together wait for each
  # other's sums with all the threads there are, and XLA ends the process.
  most = 1 if mesh_lib.is_cpu(mesh) else 2

  def evaluate(params: PyTree, batches: Iterable[Batch]) -> Generator[None, None, Any]:
    sums: list[Any] = []
    carried = carry if models is None else (carry,) * models
    for batch in batches:
      watch.beat(compiles=not sums)
      if stop:
        break
      there = isinstance(batches, Kept) or mesh_lib.takes_numpy(mesh)
      placed = batch if there else mesh_lib.put_batch(batch, mesh)
      jax.block_until_ready(sums[-most:][:1])
      of_batch, carried = eval_step(params, carried, placed)
      sums.append(of_batch)
      yield
    fetched = jax.device_get(sums)
    if models is None:
      return mean(fetched)
    return [mean(of_model[n] for of_model in fetched) for n in range(models)]

  def mean(sums: Iterable[dict[str, Array]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for values in sums:
      total = {name: total.get(name, 0.0) + float(v) for name, v in values.items()}
    return means(total, derived)

  return evaluate


def complete(evaluating: Generator[None, None, T]) -> T:
  """What an evaluation returns in the end, without turns of others."""
  while True:
    try:
      next(evaluating)
    except StopIteration as ended:
      return ended.value


def make_outputs(
  model: nn.Module,
  dtype: str = 'float32',
  *,
  samples: int | None = None,
) -> Callable[..., PyTree]:
  """Returns (params, batches, N, start=0, seed=0) -> a model's outputs for N examples.

  With `samples` dropout is left on, and each example is answered as many times: each
  sample of each sequence has masks of its own, the same at all of its steps. Then the
  mean over samples is the prediction, and their spread what the model does not know.
  Source: Gal & Ghahramani 2016, arXiv:1506.02142 and arXiv:1512.05287.

  Args:
    model: Called as (x, train=, mask=), as far as it takes them.
    dtype: As of `steps.apply`.
    samples: S, or None to answer once, without dropout.

  Returns of the function:
    Leaves float32 [N, ...], or [S, N, ...], on the host. The batches are those of an
    `InOrder`: what fills the last one up is cut off. Masks follow from the seed and a
    batch's number, the first one's being `start`. Where they are indices, they say by
    `resident` into what.

  Raises of the function:
    InputError: `samples` of a model that drops nothing.
  """

  def once(params: PyTree, batch: Batch, rngs: dict[str, Array] | None) -> PyTree:
    train = samples is not None
    return steps.apply(model, params, batch, dtype, train=train, rngs=rngs)[0]

  @functools.partial(jax.jit, static_argnums=0)
  def apply(
    gather: Callable[..., Batch],
    arrays: PyTree,
    params: PyTree,
    batch: Batch,
    key: Array,
    number: Array,
  ) -> PyTree:
    batch = gather(arrays, batch)
    if samples is None:
      return once(params, batch, None)
    of_batch = jax.random.fold_in(key, number)

    def sample(i: Array) -> PyTree:
      return once(params, batch, {'dropout': jax.random.fold_in(of_batch, i)})

    # One after the other: the kernels use all cores for one, and memory is that of one.
    return jax.lax.map(sample, jnp.arange(samples))

  checked = samples is None

  def check_drops(params: PyTree, examples: Batch) -> None:
    with contextlib.suppress(InvalidRngError):
      jax.eval_shape(lambda params, x: once(params, x, None), params, examples)
      raise InputError(
        f'`samples={samples}`: the model has no dropout: all samples would be alike'
      )

  def outputs(
    params: PyTree,
    batches: Iterable[Batch],
    num_examples: int,
    start: int = 0,
    seed: int = 0,
  ) -> PyTree:
    nonlocal checked
    key = jax.random.key(seed)
    arrays, gather = resident_of(batches)
    arrays = jax.device_put(arrays)
    of_batches = []
    for number, batch in enumerate(batches, start):
      if not checked:
        check_drops(params, jax.eval_shape(gather, arrays, batch))
        checked = True
      output = apply(gather, arrays, params, batch, key, number)
      of_batches.append(jax.device_get(output))

    def together(*parts: np.ndarray) -> np.ndarray:
      whole = np.concatenate(parts, 0 if samples is None else 1)
      whole = whole[:num_examples] if samples is None else whole[:, :num_examples]
      return whole.astype(np.float32, copy=False)

    return jax.tree.map(together, *of_batches)

  return outputs
