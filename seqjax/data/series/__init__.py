"""Series measured at equal steps of time, from files or a generator to windows."""
