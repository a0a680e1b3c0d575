"""What a process frees, and has again."""

import os
import platform
import subprocess
import sys

import pytest
import toy

from seqjax.cluster import memory

_CODE = """
import ctypes, resource
from seqjax.cluster import memory
memory.keep_freed()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
for _ in range(3):
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  array = libc.malloc(ctypes.c_size_t(128 << 20))
  ctypes.memset(array, 1, 128 << 20)
  libc.free(array)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(
  platform.libc_ver()[0] != 'glibc', reason='other C libraries do as they like'
)
@pytest.mark.parametrize(
  ('variables', 'kept'), [({}, True), ({'MALLOC_TOP_PAD_': '131072'}, False)]
)
def test_pages_are_kept_unless_the_environment_says_what_to_do(variables, kept):
  told = ('MALLOC_', 'GLIBC_TUNABLES')
  inherited = {k: v for k, v in os.environ.items() if not k.startswith(told)}
  process = subprocess.run(
    [sys.executable, '-c', _CODE],
    env=inherited | variables,
    capture_output=True,
    text=True,
    check=True,
  )
  # 128 MiB are 32,768 pages, or 64 huge ones.
  assert (int(process.stdout) < 32) == kept


@pytest.mark.slow
@pytest.mark.usefixtures('no_pictures')
def test_a_command_s_run_asks_for_it(tmp_path, monkeypatch):
  asked = []
  monkeypatch.setattr(memory, 'keep_freed', lambda: asked.append(1))
  toy.train(tmp_path, num_epochs=1)
  assert asked == [1]
