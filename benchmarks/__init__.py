"""Timings of seqjax against its peers. Imports seqjax; nobody imports this."""
