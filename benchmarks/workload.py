"""What is timed: one layer between its inputs and a logit, and made-up data for it."""

import dataclasses

import numpy as np

V = 10_000


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
  devices: int = 1

  @property
  def title(self) -> str:
    """A line of a table."""
    parts = [
      f'{self.cell} B{self.B} T{self.T} D{self.D} H{self.H}',
      'with embedding' if self.embedding else '',
      f'dropout {self.dropout} + {self.dropout}' if self.dropout else '',
      'training' if self.training else 'inference',
      f'{self.devices} device{"s" if self.devices > 1 else ""}',
    ]
    return ', '.join(part for part in parts if part)


def data(workload: Workload) -> tuple[np.ndarray, np.ndarray]:
  """(x float32 [B, T, D] or ids int32 [B, T], y float32 [B] of 0 and 1)."""
  rng = np.random.default_rng(0)
  shape = (workload.B, workload.T)
  y = rng.integers(0, 2, workload.B).astype(np.float32)
  if workload.embedding:
    return rng.integers(1, V, shape).astype(np.int32), y
  return rng.standard_normal((*shape, workload.D), np.float32), y
