"""What is timed: one layer between its inputs and a logit, and made-up data for it."""

import dataclasses

import numpy as np

V = 10_000
GATES = {'lstm': 4, 'gru': 3, 'simple_rnn': 1}


@dataclasses.dataclass(frozen=True)
class Workload:
  """A step of training, or of inference, of [embedding,] layer, Dense(1)."""

  cell: str  # 'lstm', 'gru' or 'simple_rnn'
  B: int = 128
  T: int = 500
  D: int = 32  # inputs of the layer; E where there is an embedding
  H: int = 32
  embedding: bool = False  # inputs are ids in [1, V)
  dropout: float = 0.0  # of inputs and of the recurrent state
  training: bool = True
  resets: bool = False  # episodes begin at one step in twenty, as in recurrent PPO

  @property
  def title(self) -> str:
    """A line of a table."""
    parts = [
      f'{self.cell} B{self.B} T{self.T} D{self.D} H{self.H}',
      'with embedding' if self.embedding else '',
      f'dropout {self.dropout} + {self.dropout}' if self.dropout else '',
      'resets' if self.resets else '',
      'training' if self.training else 'inference',
    ]
    return ', '.join(part for part in parts if part)

  @property
  def flops(self) -> float:
    """Of the products with W and U: forward, and twice as many on the way back."""
    steps = self.B * self.T * (3 if self.training else 1)
    return 2 * steps * (self.D + self.H) * GATES[self.cell] * self.H


def resets(workload: Workload) -> np.ndarray | None:
  """bool [B, T], or None."""
  if not workload.resets:
    return None
  rng = np.random.default_rng(1)
  return rng.random((workload.B, workload.T)) < 0.05


def data(workload: Workload) -> tuple[np.ndarray, np.ndarray]:
  """(x float32 [B, T, D] or ids int32 [B, T], y float32 [B] of 0 and 1)."""
  rng = np.random.default_rng(0)
  shape = (workload.B, workload.T)
  y = rng.integers(0, 2, workload.B).astype(np.float32)
  if workload.embedding:
    return rng.integers(1, V, shape).astype(np.int32), y
  return rng.standard_normal((*shape, workload.D), np.float32), y
