"""What stays of a run: its folder, checkpoints, log and progress."""

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
