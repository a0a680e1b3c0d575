"""Steps that are the same in all rows of a batch: run in one row, for all of them.

Sequences padded in front begin with the same id. Where the state starts alike in all
rows too, and nothing is dropped, it stays alike as long as the ids do: a batch of like
lengths need run most of its padding only once, though no step of it is masked.
"""

from typing import Any

import jax
import jax.numpy as jnp

from seqjax.fast.plan import Plan
from seqjax.fast.source import Constants
from seqjax.types import Array, PyTree


def shared_chunks(plan: Plan, ids: Array) -> Array:
  """How many chunks in front have the same ids [T, B] in all rows."""

  # Under vmap one number for all batches together, as in `active_chunks`.
  @jax.custom_batching.custom_vmap
  def count(same: Array) -> Array:
    chunks = same.reshape(plan.num_chunks, plan.K).all(1)
    return jnp.where(chunks.all(), plan.num_chunks, jnp.argmin(chunks))

  @count.def_vmap
  def _(axis_size: int, in_batched: Any, same: Array) -> Any:
    del axis_size, in_batched
    return count(same.all(0)), False

  return count((ids == ids[:, :1]).all(1))


def in_one_row(constants: Constants, shared: Array) -> Constants:
  """The constants of the shared chunks, for the first row."""
  first = jnp.zeros_like(shared)
  return constants._replace(ids=constants.ids[:, :1], chunks=(first, shared))


def in_all_rows(plan: Plan, constants: Constants, shared: Array) -> Constants:
  """The constants of the other chunks."""
  last = jnp.full_like(shared, plan.num_chunks)
  return constants._replace(chunks=(shared, last))


def first_row(tree: PyTree) -> PyTree:
  """[B, ...] -> [1, ...] each."""
  return jax.tree.map(lambda a: a[:1], tree)


def to_all_rows(tree: PyTree, like: PyTree) -> PyTree:
  """[1, ...] -> [B, ...] each, as in `like`."""
  return jax.tree.map(lambda a, b: jnp.broadcast_to(a, b.shape), tree, like)


def summed_rows(tree: PyTree) -> PyTree:
  """[..., B, H] -> [..., 1, H] each: cotangents of what all rows were given."""
  return jax.tree.map(lambda a: a.sum(-2, keepdims=True), tree)


def only_first_row(tree: PyTree, like: PyTree) -> PyTree:
  """[1, ...] -> [B, ...] each, the other rows zero."""
  return jax.tree.map(lambda a, b: jnp.zeros_like(b).at[:1].set(a), tree, like)
