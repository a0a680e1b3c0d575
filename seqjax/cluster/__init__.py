"""Devices and processes: where a run takes place, and when one is given up."""
