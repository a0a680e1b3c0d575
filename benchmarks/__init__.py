"""Timings of seqjax against its peers. Imports seqjax; nobody imports this."""

import os

# NumPy's threads would spin for 20 ms after a product, beside whatever is timed next.
os.environ.setdefault('OPENBLAS_THREAD_TIMEOUT', '4')
