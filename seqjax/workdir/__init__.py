"""What stays of a run: its folder, checkpoints, log and progress."""

from seqjax.workdir.folder import (
  SEEDS,
  check_config,
  environment,
  lock,
  read_config,
  seed_folders,
  settings,
  start_config,
  to_json,
  write_config,
  write_result,
)

__all__ = [
  'SEEDS',
  'check_config',
  'environment',
  'lock',
  'read_config',
  'seed_folders',
  'settings',
  'start_config',
  'to_json',
  'write_config',
  'write_result',
]
