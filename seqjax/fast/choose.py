"""Which path a layer takes: the rule behind `implementation`."""

from typing import Any

import jax

from seqjax import scan
from seqjax.cells import Cell
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
  return_sequences: bool = True,
  reset: Array | None = None,
  bptt_steps: int | None = None,
  remat_chunk: int | None = None,
  **options: Any,
) -> tuple[PyTree, Any]:
  """`fast.recur` or `scan.recur`.

  Args:
    implementation: 'fast', 'reference', or 'auto': the fast path on a CPU, wherever it
      can run; the reference path elsewhere, where the fast one is not measured.
    cell: As for `recur`; so are params, x, carry and `options`.
    params: Weights.
    x: [..., T, D], or a `Lookup`, which is done as a table where that is faster.
    carry: State before the first step.
    return_sequences: Whether the outputs of all steps are wanted.
    reset: As in `scan.recur`; the reference path only.
    bptt_steps: As in `scan.recur`; the reference path only.
    remat_chunk: As in `scan.recur`; the reference path only.
    **options: Masks and order, the same for both.

  Returns:
    (carry, h of all steps [..., T, H] if they are wanted).

  Raises:
    ValueError: if `implementation` is 'fast' and that can't run; it says why.
  """
  check_implementation(implementation)
  if isinstance(x, Lookup) and not _table_pays(x, options.get('x_mask')):
    x = x.rows()
  only_scan = {'reset': reset, 'bptt_steps': bptt_steps, 'remat_chunk': remat_chunk}
  asked = [name for name, value in only_scan.items() if value is not None]
  reason = supported(cell, params, x, carry)
  if asked:
    reason = f'it knows no {" and no ".join(asked)}'
  if implementation == 'fast' and reason is not None:
    raise ValueError(f"implementation='fast' can't run: {reason}")
  automatic = implementation == 'auto' and reason is None and _measured()
  if implementation == 'fast' or automatic:
    sequences = return_sequences
    return recur(cell, params, x, carry, return_sequences=sequences, **options)
  if isinstance(x, Lookup):
    x = x.rows()
  return scan.recur(cell, params, x, carry, **only_scan, **options)  # type: ignore[arg-type]


def check_implementation(implementation: str) -> None:
  """Raises ValueError unless it is one of `IMPLEMENTATIONS`."""
  if implementation not in IMPLEMENTATIONS:
    raise ValueError(
      f'implementation must be one of {", ".join(IMPLEMENTATIONS)}, '
      f'got {implementation!r}'
    )


def _measured() -> bool:
  return jax.default_backend() == 'cpu'


def _table_pays(x: Lookup, x_mask: Array | None) -> bool:
  """Whether to project the embedding and look up, not to look up and project.

  Without dropout on the rows, and where there are fewer rows than steps to project.
  """
  return x_mask is None and len(x.embedding) <= x.ids.size
