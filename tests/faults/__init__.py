"""Faults, made on purpose, and what a run does: `make faults`."""
