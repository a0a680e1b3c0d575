"""Handwritten digits as sequences of pixels. No jax."""
