"""The recurrence by kernels: `recur`, values and gradients of `seqjax.scan.recur`."""

from seqjax.fast.dispatch import check_implementation, path, path_of, recur
from seqjax.scan import Lookup, Options, Sequence

__all__ = [
  'Lookup',
  'Options',
  'Sequence',
  'check_implementation',
  'path',
  'path_of',
  'recur',
]
