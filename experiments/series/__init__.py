"""The tasks of the experiments on series, a module each, and what they share."""
