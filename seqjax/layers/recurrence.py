"""What every layer that runs a cell over time offers, whatever the cell."""

import operator
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from seqjax.fast import Lookup, Options, Sequence
from seqjax.layers.base import Flags, TrainedLayer, zero_where_masked
from seqjax.layers.checks import (
  check_carry,
  check_optional_sizes,
  check_sequence,
  mask_of,
)
from seqjax.types import Array, PyTree


class Loop(NamedTuple):
  """A cell with its variables and all it needs but a mask and a carry."""

  x: Any  # [..., T, D] in the dtype of the matmuls, a Lookup, or a tree
  zeros: PyTree  # the carry it starts from, a NamedTuple of [..., H]s
  dtype: Any  # of y; None: as it is
  # As `scan.recur` without cell and parameters; a carry of None is `zeros`.
  run: Callable[[Sequence, Options], tuple[PyTree, Any]]
  output: Callable[[PyTree], PyTree] = operator.attrgetter('h')  # what of a carry is y


class Recurrence(TrainedLayer, kw_only=True):
  """Runs a cell over sequences; what the cell is, a class below says in `loop`.

  Attributes:
    return_sequences: Return h of all steps [..., T, H], not only of the last real one.
    return_carry: Return (carry, y), not y.
    go_backwards: Process from the last step to the first; y is in that order.
    keep_order: y is in the order of x all the same.
    zero_output_for_mask: The output of a masked step is 0, not the one before it.
    bptt_steps: Gradients stop every so many steps; None: they go all the way.
    remat_chunk: Keep the carry only every so many steps for the backward pass, and
      compute the rest again: memory O(T / k + k), not O(T). None: keep all.

  Raises:
    ValueError: when it is made, if a size is less than 1.
  """

  return_sequences: bool = False
  return_carry: bool = False
  go_backwards: bool = False
  zero_output_for_mask: bool = False
  keep_order: bool = False
  bptt_steps: int | None = None
  remat_chunk: int | None = None
  takes: ClassVar[tuple[str, ...]] = ('mask', 'reset', 'initial_carry')

  def __post_init__(self) -> None:
    check_optional_sizes(bptt_steps=self.bptt_steps, remat_chunk=self.remat_chunk)
    super().__post_init__()

  @nn.compact
  def __call__(
    self,
    x: Array | Lookup,
    train: bool | None = None,
    *,
    mask: Array | None = None,
    initial_carry: PyTree | None = None,
    reset: Array | None = None,
    lengths: Array | None = None,
    **extra: Any,
  ) -> Any:
    """Runs the layer over sequences.

    Args:
      x: [..., T, D], any number of leading batch axes; or an embedding's `Lookup`; RNN
        takes a tree of such arrays too.
      train: Whether to drop; if so the rng collection `dropout` is used. None: what
        the field says.
      mask: bool [..., T], True where a step is real. A masked step carries the state
        through. A row without a real step returns its initial state.
      initial_carry: The cell's carry, each field [..., H]; None: zeros.
      reset: bool [..., T], True at the first step of an episode, for sequences that
        hold several: there the state is zero again. With `go_backwards` it is so
        before an episode's last step, so that no episode sees another either way.
      lengths: int [...], how many steps of each row are real, from the first on; in
        place of a mask.
      **extra: `constants` of RNN; else refused, with its name here if it has one.

    Returns:
      y [..., T, H] with `return_sequences`, else [..., H]; with `return_carry`
      (carry, y).

    Raises:
      ValueError: if the shapes of x, mask, reset and initial_carry do not fit together.
      TypeError: if nothing says `train`, or an argument is unknown.
    """
    kind = type(self).__name__
    train = self.is_training(train, (name for name in extra if name not in self.takes))
    mask = mask_of(kind, x, mask, lengths)
    if isinstance(x, Lookup) and not self.takes_lookup:
      x = x.rows()
    self.check(x, mask=mask, reset=reset)
    loop = self.loop(x, train, **extra)
    carry = None
    if initial_carry is not None:
      carry = check_carry(kind, initial_carry, loop.zeros)
    x = loop.x if mask is None else _only_real(loop.x, mask)
    options = Options(
      go_backwards=self.go_backwards,
      zero_output_for_mask=self.zero_output_for_mask,
      return_sequences=self.return_sequences,
      bptt_steps=self.bptt_steps,
      remat_chunk=self.remat_chunk,
    )
    reset = self._state_resets(reset)
    carry, ys = loop.run(Sequence(x, carry, mask, reset), options)
    y = ys if self.return_sequences else loop.output(carry)
    if self.return_sequences and self.go_backwards and self.keep_order:
      y = jax.tree.map(lambda a: jnp.flip(a, -2), y)
    if loop.dtype is not None:
      y = y.astype(loop.dtype)
    return (carry, y) if self.return_carry else y

  @nn.nowrap
  def check(self, x: Any, **flags: Flags) -> None:
    """Raises ValueError unless x, mask and reset fit together."""
    check_sequence(type(self).__name__, x, **flags)

  @nn.nowrap
  def loop(self, x: Any, train: bool) -> Loop:
    """Declares the parameters for x [..., T, D]."""
    raise NotImplementedError

  @nn.nowrap
  def compute_mask(self, x: Any, mask: Flags, y: Any = None) -> Flags:
    """The mask of y in the order of its steps: None where y has no time axis."""
    return self._in_order(super().compute_mask(x, mask))

  @nn.nowrap
  def compute_reset(self, reset: Flags) -> Flags:
    """The flags at the steps of y, in their order."""
    reset = super().compute_reset(reset)
    return self._in_order(self._state_resets(reset)) if self.turned else reset

  @property
  def turned(self) -> bool:
    """Whether the steps of y are those of x from the last to the first."""
    return self.go_backwards and not self.keep_order

  @nn.nowrap
  def _in_order(self, flags: Flags) -> Flags:
    return jnp.flip(flags, -1) if flags is not None and self.turned else flags

  @nn.nowrap
  def _state_resets(self, reset: Flags) -> Flags:
    """Where the state is zero again: backwards an episode begins with its last step."""
    if reset is None or not self.go_backwards:
      return reset
    never = jnp.zeros_like(reset[..., :1])
    return jnp.concatenate([reset[..., 1:], never], axis=-1)


def _only_real(x: Any, mask: Array) -> Any:
  """x with zeros where masked: even a NaN there must not reach a kernel's gradient."""
  if isinstance(x, Lookup):
    return Lookup(jnp.where(mask, x.ids, 0), x.embedding)
  return jax.tree.map(lambda a: zero_where_masked(a, mask), x)
