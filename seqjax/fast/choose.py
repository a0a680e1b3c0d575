"""Which path a layer takes: the rule behind `implementation`."""

from typing import Any

import jax

from seqjax import scan
from seqjax.cells import Cell
from seqjax.fast.devices import Arrays, over_devices
from seqjax.fast.recur import Lookup, recur, supported
from seqjax.types import Array, PyTree

IMPLEMENTATIONS = ('auto', 'fast', 'reference')


def recur_as(
  implementation: str,
  cell: Cell,
  params: PyTree,
  x: Array | Lookup,
  carry: PyTree,
  *,
  mask: Array | None = None,
  x_mask: Array | None = None,
  h_mask: Array | None = None,
  go_backwards: bool = False,
  zero_output_for_mask: bool = False,
  return_sequences: bool = True,
  reset: Array | None = None,
  same_carry: bool = False,
  bptt_steps: int | None = None,
  remat_chunk: int | None = None,
) -> tuple[PyTree, Any]:
  """`fast.recur` or `scan.recur`, on all devices of a mesh that is set.

  Args:
    implementation: 'fast', 'reference', or 'auto': the fast path on a CPU, wherever it
      can run; the reference path elsewhere, where the fast one is not measured.
    cell: As for `recur`; so are the arguments that are not named here.
    x: As for `recur`; the reference path looks all rows of a `Lookup` up at once.
    bptt_steps: As in `scan.recur`; the reference path only.
    remat_chunk: As in `scan.recur`; the reference path only.

  Returns:
    (carry, h of all steps [..., T, H] if they are wanted).

  Raises:
    ValueError: if `implementation` is 'fast' and that can't run; it says why.
  """
  check_implementation(implementation)
  only_scan: dict[str, Any] = {'bptt_steps': bptt_steps, 'remat_chunk': remat_chunk}
  asked = [name for name, value in only_scan.items() if value is not None]
  reason = supported(cell, params, x, carry)
  if asked:
    reason = f'it knows no {" and no ".join(asked)}'
  if implementation == 'fast' and reason is not None:
    raise ValueError(f"implementation='fast' can't run: {reason}")
  automatic = implementation == 'auto' and reason is None and _measured()
  fast = implementation == 'fast' or automatic
  if isinstance(x, Lookup) and not fast:
    x = x.rows()
  order: dict[str, Any] = {
    'go_backwards': go_backwards,
    'zero_output_for_mask': zero_output_for_mask,
  }

  def run(arrays: Arrays, alone: bool) -> tuple[PyTree, Any]:
    params, embedding = arrays.weights
    given: dict[str, Any] = {**arrays.rows, **arrays.gate_rows}
    x, carry = given.pop('x'), given.pop('carry')
    if fast:
      x = x if embedding is None else Lookup(x, embedding)
      order['return_sequences'], order['same_carry'] = return_sequences, same_carry
      return recur(cell, params, x, carry, **given, **order, alone=alone)
    return scan.recur(cell, params, x, carry, **given, **order, **only_scan)

  x, embedding = x if isinstance(x, Lookup) else (x, None)
  rows = {'x': x, 'carry': carry, 'mask': mask, 'reset': reset}
  gate_rows: dict[str, Array | None] = {}
  for name, drop in (('x_mask', x_mask), ('h_mask', h_mask)):
    a_gate = drop is not None and drop.ndim > carry.h.ndim
    (gate_rows if a_gate else rows)[name] = drop
  arrays = Arrays((params, embedding), rows, gate_rows)
  return over_devices(run, arrays) if carry.h.ndim > 1 else run(arrays, True)


def check_implementation(implementation: str) -> None:
  """Raises ValueError unless it is one of `IMPLEMENTATIONS`."""
  if implementation not in IMPLEMENTATIONS:
    raise ValueError(
      f'implementation must be one of {", ".join(IMPLEMENTATIONS)}, '
      f'got {implementation!r}'
    )


def _measured() -> bool:
  return jax.default_backend() == 'cpu'
