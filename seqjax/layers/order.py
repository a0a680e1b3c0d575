"""What becomes of masks and reset flags where a layer goes backwards."""

from typing import Any

import jax.numpy as jnp

from seqjax.types import Array


def output_mask(layer: Any, mask: Array | None) -> Array | None:
  """The mask of what a recurrent layer returns, in the order of its steps."""
  if mask is None or not layer.return_sequences:
    return None
  return jnp.flip(mask, -1) if layer.go_backwards else mask


def resets(layer: Any, reset: Array | None) -> Array | None:
  """Where the state of a layer is zero again, of `reset` [..., T], True at first steps.

  An episode that is processed backwards begins with its last step.
  """
  if reset is None or not layer.go_backwards:
    return reset
  never = jnp.zeros_like(reset[..., :1])
  return jnp.concatenate([reset[..., 1:], never], axis=-1)


def output_reset(layer: Any, reset: Array | None) -> Array | None:
  """The flags of what a recurrent layer returns, in the order of its steps."""
  flags = resets(layer, reset)
  return jnp.flip(flags, -1) if flags is not None and layer.go_backwards else flags
