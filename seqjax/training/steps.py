"""The jitted steps of training and evaluation."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from seqjax.cluster import mesh as mesh_lib
from seqjax.data.batches import NOT_RESIDENT, Resident
from seqjax.layers.base import call_options
from seqjax.training import metrics as metrics_lib
from seqjax.training.losses import ExampleFn
from seqjax.training.metrics import Metric
from seqjax.training.state import TrainState
from seqjax.types import BATCH_AXIS, Array, Batch, PyTree


def make_train_step(
  model: nn.Module,
  loss: ExampleFn,
  metrics: Mapping[str, Metric],
  tx: optax.GradientTransformation,
  mesh: Mesh,
  resident: Resident | None = None,
  *,
  parts: int = 1,
  pmap: bool = False,
  dtype: str = 'float32',
  together: int = 1,
  models: int | None = None,
) -> Callable[..., tuple[TrainState, dict[str, Array]]]:
  """Returns a jitted (state, batch, key) -> (state, sums); donates state.

  The gradient is that of the mean loss of the global batch, whatever the number of
  devices, of parts that it is computed in, and for jit and pmap. `key` is the run's,
  the same for every step: it is folded with `state.step`, so that a resumed run draws
  the same masks. It is folded with the number of the part where there are several, and
  by pmap with the device's: dropout then differs, row for row, and means the same.

  Args:
    model: Called as (x, train=, mask=), as far as it takes them.
    loss: (output, y) -> [B].
    metrics: More of such, to be summed up.
    tx: The optimiser.
    mesh: Devices that share the batch.
    resident: Of the feed: its batches hold indices, and become the examples within the
      step. The arrays already lie on all devices of the mesh; they are an argument of
      the program, or each would hold a copy.
    parts: k: the batch comes as k parts, [k, B/k, ...], which a device works on one
      after the other: it holds the activations of one.
    pmap: The twin by jax.pmap; the batch is then [n, B/n, ...] or [n, k, B/n/k, ...].
    dtype: What model and inputs are cast to for the step; the parameters of the state,
      their gradients and the losses are float32.
    together: K: with K > 1 it is a loop over K steps; batch and sums are those of all,
      [K, ...], by pmap [n, K, ...].
    models: How many at once: states, batches and keys are then tuples of so many, and
      so are the next states and the sums.

  Returns of the step:
    The next state, and float32 scalars: the sums over the batch of 'loss' and of each
    metric (see `metrics.sums`), 'weight' (the number of examples), 'grad_norm' (before
    clipping).
  """
  arrays, gather = resident or NOT_RESIDENT

  def train_step(
    state: TrainState, batch: Batch, key: Array, arrays: PyTree
  ) -> tuple[TrainState, dict[str, Array]]:
    key = jax.random.fold_in(key, state.step)
    total = jnp.sum(batch.weight, dtype=jnp.float32)
    if pmap:
      key = jax.random.fold_in(key, jax.lax.axis_index(BATCH_AXIS))
      total = jax.lax.psum(total, BATCH_AXIS)

    def of_part(part: Batch, key: Array) -> tuple[PyTree, tuple[dict, PyTree]]:
      """Gradient of the part's share of the mean loss; the part's sums, the carry."""
      part = gather(arrays, part)

      def share(params: PyTree) -> tuple[Array, tuple[dict[str, Array], PyTree]]:
        rngs = {'dropout': key}
        # pmap has cut the batch already: a device sees its rows alone.
        with contextlib.nullcontext() if pmap else mesh_lib.on_mesh(mesh):
          output, carry = apply(
            model, params, part, dtype, state.carry, train=True, rngs=rngs
          )
        sums = _sums(output, part, loss, metrics)
        # A batch whose examples weigh nothing moves nothing: 0 / 0 would be NaN.
        return sums['loss'] / jnp.where(total > 0, total, 1.0), (sums, carry)

      return jax.grad(share, has_aux=True)(state.params)

    def add_part(so_far: PyTree, part: tuple[Batch, Array]) -> tuple[PyTree, None]:
      batch, number = part
      grads, (sums, _) = of_part(batch, jax.random.fold_in(key, number))
      return jax.tree.map(jnp.add, so_far, (grads, sums)), None

    carry = state.carry
    if parts == 1:
      grads, (sums, carry) = of_part(batch, key)
    else:
      names = ('loss', *metrics_lib.sum_names(metrics), 'weight')
      zeros = (
        jax.tree.map(jnp.zeros_like, state.params),
        {name: jnp.zeros([], jnp.float32) for name in names},
      )
      (grads, sums), _ = jax.lax.scan(add_part, zeros, (batch, jnp.arange(parts)))
    if pmap:
      grads, sums = jax.lax.psum((grads, sums), BATCH_AXIS)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    sums['grad_norm'] = optax.tree.norm(grads)
    return TrainState(state.step + 1, params, opt_state, carry), sums

  def train_steps(
    state: TrainState, batches: Batch, key: Array, arrays: PyTree
  ) -> tuple[TrainState, dict[str, Array]]:
    return jax.lax.scan(
      lambda state, batch: train_step(state, batch, key, arrays), state, batches
    )

  call = train_step if together == 1 else train_steps
  if pmap:
    twin = jax.pmap(
      call,
      axis_name=BATCH_AXIS,
      in_axes=(None, 0, None, None),
      out_axes=(None, None),
      devices=list(mesh.devices.flat),
      donate_argnums=0,
    )
    return _Bound(twin, arrays)
  axis = int(parts > 1) + int(together > 1)
  whole, split = mesh_lib.replicated(mesh), mesh_lib.split(mesh, axis)
  program = jax.jit(
    call if models is None else _at_once(call, 3, models),
    in_shardings=(whole, split, whole, whole),
    out_shardings=(whole, whole),
    donate_argnums=0,
  )
  return _Bound(program, arrays)


def most_together(log_every: int, steps_per_epoch: int) -> int:
  """The most steps of a dispatch that divide `log_every` and that an epoch has."""
  most = min(log_every, steps_per_epoch)
  return next(n for n in range(most, 0, -1) if log_every % n == 0)


def dispatches(
  start: int, stop: int, steps_per_epoch: int, together: int
) -> Iterator[range]:
  """Yields the steps from `start` to `stop` as they are sent to the devices.

  That is K = `together` of them from a multiple of K on, unless an epoch or the run
  ends among them: those come one by one, as steps of another number would be a program
  of their own. So what comes after a step does not depend on where a run was cut. The
  last one is empty.
  """
  while start < stop:
    end = min(stop, (start // steps_per_epoch + 1) * steps_per_epoch)
    fits = start % together == 0 and start + together <= end
    ahead = range(start, start + together if fits else start + 1)
    yield ahead
    start = ahead.stop
  yield range(stop, stop)


def make_eval_step(
  model: nn.Module,
  loss: ExampleFn,
  metrics: Mapping[str, Metric],
  mesh: Mesh,
  resident: Resident | None = None,
  *,
  dtype: str = 'float32',
  models: int | None = None,
) -> Callable[..., tuple[dict[str, Array], PyTree]]:
  """Returns a jitted (params, carry, batch) -> (sums, carry).

  The sums are of 'loss', each metric and 'weight'; the carry is () unless the rows of a
  batch go on where those before ended. `resident`, `dtype` and `models` are as in
  `make_train_step`; the batch is one for all models.
  """
  arrays, gather = resident or NOT_RESIDENT

  def eval_step(
    params: PyTree, carry: PyTree, batch: Batch, arrays: PyTree
  ) -> tuple[dict[str, Array], PyTree]:
    batch = gather(arrays, batch)
    with mesh_lib.on_mesh(mesh):
      output, carry = apply(model, params, batch, dtype, carry, train=False)
    return _sums(output, batch, loss, metrics), carry

  whole, split = mesh_lib.replicated(mesh), mesh_lib.split(mesh)
  program = jax.jit(
    eval_step if models is None else _at_once(eval_step, 2, models),
    in_shardings=(whole, whole, split, whole),
    out_shardings=(whole, whole),
  )
  return _Bound(program, arrays)


@dataclasses.dataclass(frozen=True, eq=False)
class _Bound:
  """A jitted program whose last argument are the arrays that lie on the devices.

  An argument and not a constant of the program, or each program would hold a copy.
  """

  program: Any
  arrays: PyTree

  def __call__(self, *given: Any) -> Any:
    return self.program(*given, self.arrays)

  def lower(self, *given: Any) -> Any:
    """As that of jax.jit."""
    return self.program.lower(*given, self.arrays)


def _at_once(step: Callable[..., tuple], own: int, number: int) -> Callable[..., tuple]:
  """`step` of so many models: its first `own` arguments and its results are tuples."""

  def steps(*args: Any) -> tuple:
    stacked = [jax.tree.map(lambda *a: jnp.stack(a), *trees) for trees in args[:own]]
    results = jax.vmap(lambda *given: step(*given, *args[own:]))(*stacked)
    return tuple(
      tuple(jax.tree.map(lambda a, n=n: a[n], part) for n in range(number))
      for part in results
    )

  return steps


def apply(
  model: nn.Module,
  params: PyTree,
  batch: Batch,
  dtype: str,
  carry: PyTree = (),
  *,
  train: bool,
  rngs: dict[str, Array] | None = None,
) -> tuple[Any, PyTree]:
  """The model's output for a batch, computed in a dtype, and what it carries on."""
  x: Any = batch.x
  if dtype != 'float32':
    params, x = (jax.tree.map(lambda a: _cast(a, dtype), a) for a in (params, x))
  options = call_options(model, train=train, mask=batch.mask)
  if batch.reset is None:
    return model.apply({'params': params}, x, **options, rngs=rngs), carry
  options |= {'reset': batch.reset, 'initial_carry': carry}
  carry, output = model.apply({'params': params}, x, **options, rngs=rngs)
  return output, jax.lax.stop_gradient(carry)


def _cast(a: Array, dtype: str) -> Array:
  return a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a


def _sums(
  output: Any, batch: Batch, loss: ExampleFn, metrics: Mapping[str, Metric]
) -> dict[str, Array]:
  """Sums over the examples of a batch; rows of weight 0 count for nothing."""
  sums = metrics_lib.sums({'loss': loss, **metrics}, output, batch.y, batch.weight)
  return {**sums, 'weight': jnp.sum(batch.weight, dtype=jnp.float32)}
