"""The recurrence by kernels: `recur`, values and gradients of `seqjax.scan.recur`.

>>> from seqjax import fast
>>> cell, sequence = sj.cells.simple_rnn(), fast.Sequence(jnp.ones((2, 5, 3)))
>>> kernels = jnp.ones((3, 4)), jnp.ones((4, 4))
>>> params = sj.cells.SimpleRNNParams(*kernels, bias=jnp.zeros(4))
>>> carry, y = fast.recur(cell, params, sequence)  # y [B, T, H]
>>> fast.path(cell, params, sequence, implementation='reference')
('reference', "implementation='reference'")
"""

from seqjax.fast.dispatch import path, path_of, recur
from seqjax.scan import Lookup, Options, Sequence

__all__ = ['Lookup', 'Options', 'Sequence', 'path', 'path_of', 'recur']
