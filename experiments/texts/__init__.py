"""What the experiments on texts share: layers, vocabularies, and the tasks."""
