"""What the experiments on sequences share, a module a task."""
