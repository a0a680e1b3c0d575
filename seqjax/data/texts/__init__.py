"""Texts of one's own and of known collections: files -> texts, tags, pairs. No jax."""
