"""How a run over T steps is cut into chunks: by shape alone."""

import math
from typing import NamedTuple

from seqjax.fast.twin import Twin

# An LSTM's training step at B 128, T 500, H 32 on one device takes 79 ms with chunks of
# half of this, 61 ms with these, 92 ms with eight times as much.
CHUNK_BYTES = 2**20

# A chunk adds to gradients of the size of the kernels: of few steps, wide layers
# would do little else.
FEWEST_STEPS = 8

# From H = 128 up the recurrent matmul dominates, and keeping the gates [B, T, G] of the
# forward pass is faster than computing them again.
KEEP_GATES_FROM = 128


class Plan(NamedTuple):
  """A run over T steps in `num_chunks` chunks of K; the last may be shorter."""

  twin: Twin
  T: int
  K: int
  return_sequences: bool
  keep_gates: bool
  shares: bool = False  # steps alike in all rows may be run once; see `shared`

  @property
  def num_chunks(self) -> int:
    return -(-self.T // self.K)

  @property
  def padded(self) -> int:
    """T rounded up to whole chunks."""
    return self.num_chunks * self.K


def make_plan(
  twin: Twin, *, B: int, T: int, H: int, return_sequences: bool, gate_masks: bool
) -> Plan:
  """The plan for x [B, T, D] and H units, with dropout masks for each gate or not."""
  # Masks for each gate double the temporaries of a chunk. Above 32 MiB in all, these
  # are given back and faulted in again at every training step: at B 128, T 500, H 32
  # an LSTM then makes 34 MiB and costs 175 ms of CPU; with half the chunks 135 ms.
  K = chunk_length(T, (8 if gate_masks else 4) * B * twin.num_gates * H)
  keep_gates = twin.keeps and H >= KEEP_GATES_FROM
  return Plan(twin, T, K, return_sequences, keep_gates)


def chunk_length(T: int, step_bytes: int) -> int:
  """Steps of a chunk: T if all of it is small, else a divisor of T where one is near.

  Args:
    T: Steps in all.
    step_bytes: Size of one step's pre-activations.

  Returns:
    K in [1, T], such that K * step_bytes is between half and twice `CHUNK_BYTES`, or K
    not far from `FEWEST_STEPS` where that is more.
  """
  K = max(FEWEST_STEPS, CHUNK_BYTES // step_bytes)
  if T <= 2 * K:
    return T
  near = [k for k in range(max(1, K // 2), 2 * K + 1) if T % k == 0]
  return min(near, key=lambda k: abs(math.log(k / K)), default=K)
