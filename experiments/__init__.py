"""Experiments: each a command, `python -m experiments.NAME --help`."""
