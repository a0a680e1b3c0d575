"""States whose every bit is known, saved, damaged, compared: to test checkpoint.py."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import optax

from seqjax.workdir.checkpoint import Checkpoints


def make_state(seed):
  """A small state of many kinds of leaves; all bits depend on `seed`."""
  rng = np.random.default_rng(seed)
  odd = rng.integers(0, 2**32, 12, dtype=np.uint32).view(np.float32)  # NaNs and all
  return {
    'step': jnp.asarray(seed, jnp.int32),
    'params': {
      'kernel': jnp.asarray(rng.standard_normal((3, 5)), jnp.float32),
      'half': jnp.asarray(rng.standard_normal(7), jnp.bfloat16),
      'odd': odd.reshape(3, 4),
    },
    'nothing': (None, optax.EmptyState(), jnp.zeros((0, 4))),
    'numbers': [seed, 0.5 + seed, True, np.float32(seed)],
  }


def bits(tree):
  """All leaves as (path, dtype, shape, bytes): an oracle that knows no digests."""
  found = []
  for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
    leaf = np.asarray(leaf)
    found.append((str(path), str(leaf.dtype), leaf.shape, leaf.tobytes()))
  return found


def assert_restored(restored, step):
  assert restored is not None
  assert restored.step == step
  assert restored.progress == {'step': step}
  assert bits(restored.state) == bits(make_state(step))


def save_steps(folder, steps, best=(), keep=3):
  with Checkpoints(folder, keep=keep) as checkpoints:
    for step in steps:
      checkpoints.save(step, make_state(step), {'step': step}, best=step in best)


def saved_steps(checkpoints):
  return [int(path.name.partition('-step')[2]) for path in checkpoints.folders()]


def files_of(folder):
  return sorted(path for path in folder.rglob('*') if path.is_file())


def _flip(path, rng):
  raw = bytearray(path.read_bytes())
  raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
  path.write_bytes(raw)


def _truncate(path, rng):
  os.truncate(path, rng.randrange(path.stat().st_size))


def _scramble(path, rng):
  """Zeros a range, or fills it with ones where it was zero."""
  raw = path.read_bytes()
  start = rng.randrange(len(raw))
  stop = min(len(raw), start + rng.randrange(1, 512))
  zeros = bytes(stop - start)
  other = zeros if raw[start:stop] != zeros else b'\xff' * len(zeros)
  path.write_bytes(raw[:start] + other + raw[stop:])


def _append(path, rng):
  with path.open('ab') as file:
    file.write(rng.randbytes(rng.randrange(1, 9)))


def _delete(path, rng):
  path.unlink()


DAMAGES = [_flip, _truncate, _scramble, _append, _delete]
