"""Faults, made on purpose, and what a run does: `python -m faults` or `make faults`."""
