"""The watchdog, in processes that it ends."""

import subprocess
import sys
import time

import pytest

from seqjax.cluster import watchdog

_STUCK = """
import sys, time
from seqjax.cluster.watchdog import Watchdog
with Watchdog(0.2) as watch:
  for _ in range(4):
    watch.beat()
    time.sleep(0.1)
  watch.beat()
  print('stuck', flush=True)
  {stuck}
"""


def test_a_step_that_takes_too_long_ends_the_process_and_shows_where():
  code = _STUCK.format(
    stuck='def wait_for_ever():\n    time.sleep(60)\n  wait_for_ever()'
  )
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
  assert done.returncode == watchdog.EXIT_CODE == 124
  assert done.stdout == 'stuck\n'
  assert '`step_timeout=0.2`' in done.stderr
  assert 'in wait_for_ever' in done.stderr


@pytest.mark.slow
def test_code_that_holds_the_lock_of_python_is_ended_too():
  stuck = 'import ctypes; ctypes.PyDLL(None).sleep(60)'
  start = time.monotonic()
  code = _STUCK.format(stuck=stuck)
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
  assert done.returncode == 1
  assert 'Timeout' in done.stderr
  assert time.monotonic() - start < 30


def test_without_a_limit_nothing_is_watched():
  with watchdog.Watchdog(None) as watch:
    watch.beat()
    assert not watch
    assert not watch._thread.is_alive()


def test_beats_and_the_end_keep_it_quiet():
  with watchdog.Watchdog(0.3) as watch:
    for _ in range(5):
      watch.beat()
      time.sleep(0.1)
    watch.beat(steps=4)
    time.sleep(0.6)
  time.sleep(0.5)  # this process would be gone
  assert not watch._thread.is_alive()
