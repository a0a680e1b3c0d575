"""The old name of `seqjax.cluster.mesh`, for one minor version."""

import sys
import warnings

from seqjax.cluster import mesh

warnings.warn(
  'seqjax.parallel is seqjax.cluster.mesh now', DeprecationWarning, stacklevel=2
)
sys.modules[__name__] = mesh
