"""What the chunked loops have to know about a cell, and the activations they know.

Gates that go through a sigmoid are computed as sigmoid(a) = tanh(a / 2) / 2 + 1 / 2,
with the halves folded into the weights, so that one tanh serves all gates of a step:
XLA:CPU vectorises that, and recomputes separate sigmoids in each of their consumers.
"Pre-activation" means the scaled one throughout this package.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqjax import cells
from seqjax.types import Array, PyTree


class Chunk(NamedTuple):
  """What the backward pass knows of K steps before it linearises them."""

  projected: Any  # [K, B, G] input part of the pre-activations; None if not asked for
  before: Array  # [K, B, H] h before each step, 0 where the state starts anew there
  after: Array  # [K, B, H] h after each step
  memory: tuple[Array, ...]  # the carry before the first step, [B, H]s, without h
  real: Array | None  # bool [K, B, 1], False where a step is masked
  carried: Array | None  # bool [K, B, 1], False where the state starts anew
  kept: tuple[Array, ...]  # what `Twin.step` gave to keep, [K, B, ...]; or ()


class Gradients(NamedTuple):
  """Gradients that a chunk of K steps gives."""

  projected: Array  # [K, B, G]
  kernel: PyTree  # of the recurrent kernel, for `Twin.gather`
  bias: Array | None = None  # [G] recurrent bias, where the cell has one


class Twin(NamedTuple):
  """A cell, cut up for the chunked loops of `forward` and `backward`.

  The loop's state may run behind the carry: `finish` brings it up to date.
  """

  name: str
  sigmoids: tuple[bool, ...]  # which gates go through a sigmoid, in the cell's order
  # (recurrent_kernel, recurrent_bias, h_mask) -> weights
  prepare: Callable[[Array, Array | None, Array | None], Any]
  start: Callable[[PyTree], PyTree]  # carry -> state
  finish: Callable[[PyTree], PyTree]  # state -> carry
  # (weights, state, projected [B, G], real [B, 1] | None)
  #   -> (state, arrays worth keeping)
  step: Callable[..., tuple[PyTree, tuple[Array, ...]]]
  # (weights, chunk) -> (local derivatives, [K, B, ...]s; what `collect` needs)
  linearise: Callable[[Any, Chunk], tuple[PyTree, Any]]
  # (weights, cotangent of the carry after a step, local derivatives of the step)
  #   -> (cotangent of the carry before it, arrays for `collect`)
  back: Callable[..., tuple[PyTree, tuple[Array, ...]]]
  # (weights, what linearise gave, what back gave for all K steps) -> gradients
  collect: Callable[..., Gradients]
  # (weights, Gradients.kernel added up over chunks) -> gradient of the kernel [H, G]
  gather: Callable[[Any, PyTree], Array]
  projects_twice: bool = True  # the backward pass wants chunk.projected
  lags: bool = False  # the state holds a step that `finish` has yet to do
  keeps: bool = False  # step gives arrays that spare linearise a matmul

  @property
  def num_gates(self) -> int:
    return len(self.sigmoids)


def gate_scale(twin: Twin, H: int) -> Array:
  """Factors [G] of the weights: 1/2 for a gate that goes through a sigmoid."""
  return jnp.repeat(jnp.where(jnp.array(twin.sigmoids), 0.5, 1.0), H)


def sigmoid_of(t: Array) -> Array:
  """sigmoid(a) of t = tanh(a / 2)."""
  return 0.5 * t + 0.5


def where_real(real: Array | None, x: Array, otherwise: Array | float) -> Array:
  """x [..., H] or [..., gates, H] where `real` [..., 1] holds; None: everywhere."""
  if real is None:
    return x
  real = jnp.expand_dims(real, tuple(range(real.ndim, x.ndim)))
  real = jnp.broadcast_to(real, x.shape)
  return jnp.where(real, x, jnp.broadcast_to(jnp.asarray(otherwise, x.dtype), x.shape))


def carried_state(twin: Twin, carried: Array | None, state: PyTree) -> PyTree:
  """The loop's state before a step: a new one where `carried` [B, 1] fails."""
  if carried is None:
    return state
  zeros = twin.start(jax.tree.map(jnp.zeros_like, twin.finish(state)))
  return jax.tree.map(lambda s, zero: where_real(carried, s, zero), state, zeros)


# The derivative of each activation, from its value.
SLOPES: dict[cells.Activation, Callable[[Array], Array]] = {
  jnp.tanh: lambda y: 1 - y * y,
  jax.nn.relu: lambda y: (y > 0).astype(y.dtype),
  jax.nn.sigmoid: lambda y: y * (1 - y),
  cells.linear: jnp.ones_like,
}
