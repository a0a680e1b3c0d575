"""How a run over T steps is cut into chunks: by shapes, and by who else is at work."""

from typing import NamedTuple

from seqjax.fast.twin import Twin

# Chunks of small steps stay in a core's cache. With two devices on two cores an LSTM's
# training step at B 128, T 500, H 32 with an embedding takes 22 ms with these, 27 with
# 1 MiB.
CHUNK_BYTES = 2**17

# XLA's threads look for work for some 50 us before they sleep, and to wake them again
# takes as long. Alone on its cores, a loop hands them work in every chunk, so it pays
# to be back in time: the same step on one device takes 41 ms with chunks of up to this
# cost, 51 with twice as much, 54 with 1 MiB, which wakes them seldom. In bytes of
# pre-activations, with what their matmul costs: 4 KiB to the us of large steps; small
# ones, which cost a few us whatever their size, take longer.
AWAKE_COST = 200 * 2**10

# Where one step costs more than that; or where inputs are wide and fewer than
# `ASLEEP_STEPS` steps cost less, for then projecting them is most of the work.
ASLEEP_BYTES, ASLEEP_STEPS = 2**20, 8

# A chunk adds to gradients of the size of the kernels: with fewer rows, B * K, wide
# layers would do little else. Alone half as many will do, for the sake of being back in
# time; with fewer than that, chunks are those of `ASLEEP_BYTES`.
FEWEST_ROWS = 128

# From H = 128 up the recurrent matmul dominates, and keeping the gates [T, B, G] of the
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
  twin: Twin, *, B: int, T: int, D: int, H: int, return_sequences: bool, alone: bool
) -> Plan:
  """The plan for x [B, T, D] and H units.

  Args:
    twin: The cell.
    B: Rows of this device.
    T: Steps.
    D: Width of what each chunk projects; 0: nothing.
    H: Units.
    return_sequences: Whether h of all steps is wanted.
    alone: No other device runs its rows on this host at the same time, as far as one
      knows.
  """
  keep_gates = twin.keeps and H >= KEEP_GATES_FROM
  K = chunk_length(B, D, twin.num_gates * H, H, keep_gates, alone)
  return Plan(twin, T, divisor_near(T, K), return_sequences, keep_gates)


def chunk_length(B: int, D: int, G: int, H: int, keep_gates: bool, alone: bool) -> int:
  """Steps of a chunk, by the sizes of `make_plan` and G = gates * H."""
  step_bytes = 4 * B * G  # of pre-activations
  if not alone:
    return max(CHUNK_BYTES // step_bytes, -(-FEWEST_ROWS // B))
  cost = step_bytes + step_bytes * H // 64  # the more units, the more is the matmul
  wide = D > G
  if wide:  # their matmul, and 8 ns for each cache line of x, 2 us for 16 KiB
    cost += step_bytes * D // 64 + 4 * B * D // 2
  K = AWAKE_COST // cost
  if keep_gates:
    K = max(1, K)  # there is little to do but the steps
  if K * B >= FEWEST_ROWS // 2 and (not wide or K >= ASLEEP_STEPS):
    return K
  return max(ASLEEP_BYTES // step_bytes, ASLEEP_STEPS)


def divisor_near(T: int, K: int) -> int:
  """K, T where that is less, or the greatest divisor of T above K / 2 up to K."""
  if T <= K:
    return T
  divisors = (k for k in range(K, K // 2, -1) if T % k == 0)
  return next(divisors, K)
