"""Settings of every test: eight host devices, strict ranks, real data by a variable."""

import os
import pathlib

# Before jax starts: the tests of parallel.py need more devices than a laptop has.
os.environ.setdefault('KERAS_BACKEND', 'jax')
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ['XLA_FLAGS'] = (
  os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=8'
)

import jax
import pytest

# Labels [B] against logits [B, 1] would otherwise become [B, B] in silence.
jax.config.update('jax_numpy_rank_promotion', 'raise')


@pytest.fixture
def real_data() -> pathlib.Path:
  """The folder of real data; skips the test where SEQJAX_TEST_DATA is not set."""
  folder = os.environ.get('SEQJAX_TEST_DATA')
  if not folder:
    pytest.skip('SEQJAX_TEST_DATA is not set')
  return pathlib.Path(folder).resolve()
