"""The compiled steps of a run, and the optimiser in them."""

import functools

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from seqjax.cluster import mesh as mesh_lib
from seqjax.layers import frozen_parameters
from seqjax.layers.base import call_options
from seqjax.training import optim, steps
from seqjax.training.plan import Data, Plan, Task
from seqjax.training.state import TrainState
from seqjax.types import InputError, PyTree


class Programs:
  """Those of a task, made once.

  Attributes:
    x: Inputs like a batch's.
    carries: Whether rows go on from batch to batch.
    tx: The optimiser.
    together: How many steps a dispatch has, at most.
    train_steps: Number of steps, 1 or `together` -> see `steps.make_train_step`.
    eval_step: See `steps.make_eval_step`.
    norm: Tree -> the L2 norm of all of it.
  """

  def __init__(
    self, task: Task, data: Data, plan: Plan, mesh: Mesh, log_every: int = 1
  ) -> None:
    feed, devices = data.feed, plan.devices
    by_itself = 1 if mesh_lib.is_cpu(mesh) else log_every
    self.together = devices.steps_per_dispatch or by_itself
    resident, first = feed.resident, feed.batch(0)
    x, self.carries = first.x, first.reset is not None
    if self.carries and (devices.parts > 1 or devices.pmap):
      raise InputError(
        'rows that go on from batch to batch need `accumulate_steps=1` and '
        '`data_parallel=jit`'
      )
    if resident is not None:
      shape = jax.eval_shape(resident.gather, resident.arrays, first).x
      x = np.zeros(shape.shape, shape.dtype)  # type: ignore[assignment]
      resident = resident._replace(arrays=mesh_lib.replicate(resident.arrays, mesh))
    model, self.x = task.model, x
    tx = plan.optimizer
    if plan.plateau:
      tx = optax.chain(tx, optim.reducible())
    frozen = frozen_parameters(model, x, **call_options(model, train=False))
    tx = optim.freeze(tx, *task.frozen, *frozen)
    self.tx = tx if plan.mean_decay is None else optim.with_mean(tx, plan.mean_decay)
    make_train_step = functools.partial(
      steps.make_train_step,
      model,
      plan.training_loss(task.loss),
      task.metrics,
      self.tx,
      mesh,
      resident,
      parts=devices.parts,
      pmap=devices.pmap,
      dtype=plan.compute_dtype,
    )
    self.train_steps = {n: make_train_step(together=n) for n in {1, self.together}}
    self.eval_step = steps.make_eval_step(
      model, task.loss, task.metrics, mesh, resident, dtype=plan.compute_dtype
    )
    self.norm = jax.jit(optax.tree.norm)
    self._has_mean = plan.mean_decay is not None

  def params(self, state: TrainState) -> PyTree:
    """Those to evaluate: their running mean, where there is one."""
    return optim.mean_params(state.opt_state) if self._has_mean else state.params
