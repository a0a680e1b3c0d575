"""The jitted steps of training and evaluation."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from seqjax import losses, parallel
from seqjax.state import TrainState
from seqjax.types import Array, Batch, PyTree

ExampleFn = Callable[[Array, Array], Array]  # (model's output, y) -> [B]
GatherFn = Callable[[PyTree, Batch], Batch]  # (resident arrays, indices) -> examples


def make_train_step(
  model: nn.Module,
  loss: ExampleFn,
  metrics: Mapping[str, ExampleFn],
  tx: optax.GradientTransformation,
  mesh: Mesh,
  gather: GatherFn | None = None,
) -> Callable[..., tuple[TrainState, dict[str, Array]]]:
  """Returns a jitted (state, batch, key) -> (state, sums); donates state.

  With `gather` it is (state, batch, key, resident): `resident`, arrays that stay on
  every device, and the batch, which then holds indices into them, become the examples
  within the step. An argument and not a constant of the program, or each program would
  hold a copy.

  The gradient is that of the mean loss of the global batch, whatever the number of
  devices. `key` is the run's, the same for every step: it is folded with `state.step`,
  so that a resumed run draws the same masks.

  Returns of the step:
    The next state, and float32 scalars: the sums over the batch of 'loss' and of each
    metric, 'weight' (the number of examples), 'grad_norm' (before clipping).
  """

  def train_step(
    state: TrainState, batch: Batch, key: Array, *resident: PyTree
  ) -> tuple[TrainState, dict[str, Array]]:
    key = jax.random.fold_in(key, state.step)
    batch = gather(resident[0], batch) if gather else batch

    def mean_loss(params: PyTree) -> tuple[Array, dict[str, Array]]:
      rngs = {'dropout': key}
      with parallel.on(mesh):
        output = model.apply(
          {'params': params}, batch.x, mask=batch.mask, train=True, rngs=rngs
        )
      sums = _sums(output, batch, loss, metrics)
      return sums['loss'] / sums['weight'], sums

    grads, sums = jax.grad(mean_loss, has_aux=True)(state.params)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    sums['grad_norm'] = optax.tree.norm(grads)
    return TrainState(state.step + 1, params, opt_state), sums

  whole, split = parallel.replicated(mesh), parallel.split(mesh)
  return jax.jit(
    train_step,
    in_shardings=(whole, split, whole, whole)[: 4 if gather else 3],
    out_shardings=(whole, whole),
    donate_argnums=0,
  )


def make_eval_step(
  model: nn.Module,
  loss: ExampleFn,
  metrics: Mapping[str, ExampleFn],
  mesh: Mesh,
  gather: GatherFn | None = None,
) -> Callable[..., dict[str, Array]]:
  """Returns a jitted (params, batch) -> sums of 'loss', each metric and 'weight'.

  With `gather` it is (params, batch, resident), as in `make_train_step`.
  """

  def eval_step(params: PyTree, batch: Batch, *resident: PyTree) -> dict[str, Array]:
    batch = gather(resident[0], batch) if gather else batch
    with parallel.on(mesh):
      output = model.apply({'params': params}, batch.x, mask=batch.mask, train=False)
    return _sums(output, batch, loss, metrics)

  whole, split = parallel.replicated(mesh), parallel.split(mesh)
  return jax.jit(
    eval_step,
    in_shardings=(whole, split, whole)[: 3 if gather else 2],
    out_shardings=whole,
  )


def _sums(
  output: Any, batch: Batch, loss: ExampleFn, metrics: Mapping[str, ExampleFn]
) -> dict[str, Array]:
  """Sums over the examples of a batch; rows of weight 0 count for nothing."""
  sums = {
    name: losses.weighted_sum(fn(output, batch.y), batch.weight)
    for name, fn in {'loss': loss, **metrics}.items()
  }
  return {**sums, 'weight': jnp.sum(batch.weight, dtype=jnp.float32)}
