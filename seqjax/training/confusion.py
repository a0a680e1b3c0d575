"""Which classes are taken for which: counts, and the scores of each class. NumPy."""

from collections.abc import Sequence

import numpy as np


def confusion_matrix(
  labels: np.ndarray, predicted: np.ndarray, num_classes: int
) -> np.ndarray:
  """How often class i was taken for class j: labels [N], predicted [N] -> int [C, C].

  Raises:
    ValueError: if they are not as many, or a class is not in [0, C).
  """
  if labels.shape != predicted.shape or labels.ndim != 1:
    raise ValueError(
      f'labels {labels.shape} and predicted {predicted.shape} must both be [N]'
    )
  both = np.concatenate([labels, predicted])
  if len(both) and not 0 <= both.min() <= both.max() < num_classes:
    raise ValueError(f'classes must be in [0, {num_classes}), got {both.max()}')
  matrix = np.zeros((num_classes, num_classes), np.int64)
  np.add.at(matrix, (labels, predicted), 1)
  return matrix


def class_scores(
  matrix: np.ndarray, classes: Sequence[str]
) -> dict[str, dict[str, float]]:
  """Precision, recall, F1 and number of each class, of a matrix of `confusion_matrix`.

  A score of nothing is 0: the precision of a class that was never predicted, say.
  """
  scores = {}
  for i, name in enumerate(classes):
    right, predicted, actual = matrix[i, i], matrix[:, i].sum(), matrix[i].sum()
    scores[name] = {
      'precision': float(right / max(predicted, 1)),
      'recall': float(right / max(actual, 1)),
      'f1': float(2 * right / max(predicted + actual, 1)),
      'number': int(actual),
    }
  return scores
