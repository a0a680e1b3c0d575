"""What stays of a run: its folder, checkpoints, log and progress."""

from seqjax.workdir.folder import (
  changes,
  check_config,
  environment,
  lock,
  naming,
  read_config,
  start_config,
  to_json,
  write_config,
  write_result,
)

__all__ = [
  'changes',
  'check_config',
  'environment',
  'lock',
  'naming',
  'read_config',
  'start_config',
  'to_json',
  'write_config',
  'write_result',
]
