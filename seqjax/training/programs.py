"""The compiled steps of a run, and the optimiser in them."""

import functools
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from seqjax.cluster import mesh as mesh_lib
from seqjax.cluster import processes
from seqjax.data.batches import Feed
from seqjax.layers import frozen_parameters
from seqjax.layers.base import call_options
from seqjax.training import evaluation, optim, steps
from seqjax.training.plan import Data, Plan, Task
from seqjax.training.state import TrainState, initializer
from seqjax.types import Batch, InputError, PyTree


class Programs:
  """Those of a task, made once.

  Attributes:
    mesh: The devices.
    feed: That of the data, its examples on the devices where the plan says so.
    validation: That of the data, likewise.
    x: Inputs like a batch's.
    models: How many a step trains at once, by one program; None: one, as it is.
    carry: What the first batch of an evaluation begins with.
    tx: The optimiser.
    init: Key -> a fresh state; see `init_state`.
    together: How many steps a dispatch has, at most.
    train_steps: Number of steps, 1 or `together` -> see `steps.make_train_step`.
    eval_step: See `steps.make_eval_step`.
    norm: Tree -> the L2 norm of all of it.
  """

  def __init__(
    self,
    task: Task,
    data: Data,
    plan: Plan,
    mesh: Mesh,
    log_every: int = 1,
    models: int | None = None,
    was_resident: bool | None = None,
  ) -> None:
    """Makes them; `was_resident` as of `resident_feed`."""
    devices = plan.devices
    self.mesh = mesh
    self.feed = feed = resident_feed(data.feed, devices.resident, mesh, was_resident)
    self.validation: Iterable[Batch] = data.validation or ()
    if feed.resident and (devices.resident or not mesh_lib.is_cpu(mesh)):
      self.validation = evaluation.Kept(self.validation, mesh)
    most = steps.most_together(log_every, feed.steps_per_epoch)
    by_itself = 1 if mesh_lib.is_cpu(mesh) else most
    self.together = devices.steps_per_dispatch or by_itself
    resident, first = feed.resident, feed.batch(0)
    x, carries = first.x, first.reset is not None
    if carries and (devices.parts > 1 or devices.pmap):
      raise InputError(
        'rows that go on from batch to batch need `accumulate_steps=1` and '
        '`data_parallel=jit`'
      )
    if resident is not None:
      shape = jax.eval_shape(resident.gather, resident.arrays, first).x
      x = np.zeros(shape.shape, shape.dtype)  # type: ignore[assignment]
      resident = resident._replace(arrays=mesh_lib.replicate(resident.arrays, mesh))
    model, self.x, self.models = task.model, x, models
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
      models=models,
    )
    self.train_steps = {n: make_train_step(together=n) for n in {1, self.together}}
    # Those to evaluate on are indices where the data says so, and are not made so here.
    self.eval_step = steps.make_eval_step(
      model,
      task.loss,
      task.metrics,
      mesh,
      None if data.feed.resident is None else resident,
      dtype=plan.compute_dtype,
      models=models,
    )
    self.init = initializer(model, self.tx, x, carries=carries)
    self.carry = jax.device_get(model.zero_carry(len(x))) if carries else ()
    self.norm = jax.jit(optax.tree.norm)
    self._has_mean = plan.mean_decay is not None

  @property
  def facts(self) -> dict[str, Any]:
    """What was decided for these devices, and the bits depend on."""
    return {
      'devices_used': self.mesh.size,
      'steps_per_dispatch': self.together,
      'resident': self.feed.resident is not None,
    }

  def params(self, state: TrainState) -> PyTree:
    """Those to evaluate: their running mean, where there is one."""
    return optim.mean_params(state.opt_state) if self._has_mean else state.params


def resident_feed(
  feed: Feed, requested: bool | None, mesh: Mesh, before: bool | None = None
) -> Feed:
  """The feed, or the same batches as row numbers of examples on the devices.

  Args:
    feed: Of the data.
    requested: Whether they shall lie there; None: on accelerators, if half of what is
      free is enough for them. All processes decide alike.
    mesh: The devices.
    before: Whether they did at the first start of the run, which a later one does
      likewise, unless told otherwise, if they fit at all.

  Raises:
    InputError: They cannot, or cannot but lie there.
  """
  if feed.resident is not None:
    if requested is False:
      raise InputError(
        '`resident=False`: this data lies on the devices always, its batches are made '
        'there'
      )
    return feed
  if requested is False or (requested is None and mesh_lib.is_cpu(mesh)):
    return feed
  try:
    placed = feed.on_devices() if hasattr(feed, 'on_devices') else None
  except InputError:  # more than can be counted there: fed, unless told otherwise
    if requested:
      raise
    return feed
  if placed is None:
    if requested:
      raise InputError(
        '`resident` needs examples in arrays or lists; these are not held as such'
      )
    return feed
  size = sum(a.nbytes for a in jax.tree.leaves(placed.resident.arrays))
  free = mesh_lib.free_bytes(mesh)
  if requested and free is not None and size > free:
    raise InputError(
      f'`resident`: the examples are {size / 2**20:,.0f} MiB, and a device has '
      f'{free / 2**20:,.0f} MiB left'
    )
  most = 0 if free is None or before is False else free if before else free / 2
  fits = requested or size <= most
  return placed if processes.all_agree(bool(fits)) else feed
