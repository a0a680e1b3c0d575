"""What stays of a run: its folder, checkpoints, log and progress.

| in the workdir             | what it is                             | written by   |
|----------------------------|----------------------------------------|--------------|
| config.json                | flags, and the environment at starts   | folder       |
| checkpoints/               | saves: state, progress, a manifest     | checkpoint   |
| metrics.jsonl              | numbers by step and epoch              | log          |
| timing.jsonl, tb/          | seconds and rates; TensorBoard's files | log          |
| result.json                | best epoch, test, digest of parameters | folder       |
| curves.png                 | the curves                             | view.report  |
| tokenizer.json and others  | what a task needs to predict           | the task     |
"""

from seqjax.workdir.folder import (
  check_config,
  environment,
  lock,
  read_config,
  start_config,
  to_json,
  write_config,
  write_result,
)

__all__ = [
  'check_config',
  'environment',
  'lock',
  'read_config',
  'start_config',
  'to_json',
  'write_config',
  'write_result',
]
