"""Data that comes with the package: made up from a seed, in the form of the real sets.

For trying things out and for tests. Nothing falls back on it: who wants it names it.
"""

from seqjax.data.synthetic_reviews import reviews
from seqjax.data.synthetic_weather import weather

__all__ = ['reviews', 'weather']
