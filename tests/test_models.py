"""Models of the experiments: numbers of parameters, masks, summaries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax import models


@pytest.mark.parametrize(
  ('encoder', 'total'), [(sj.SimpleRNN(32), 322_113), (sj.LSTM(32), 328_353)]
)
def test_summary_adds_up_to_the_published_number(encoder, total):
  model = sj.SequenceClassifier(10_000, 32, encoder)
  rows = models.summarize(model, (128, 500), jnp.int32)
  assert [row.name for row in rows] == ['embedding', 'encoder', 'head']
  assert rows[0].output_shape == (128, 500, 32)
  assert rows[1].output_shape == (128, 32)
  assert rows[0].num_params == 320_000
  assert sum(row.num_params for row in rows) == total


def test_logits_are_the_head_of_the_encoding():
  model = sj.SequenceClassifier(11, 3, sj.GRU(5))
  ids = np.random.default_rng(0).integers(0, 11, (4, 7))
  params = model.init(jax.random.key(0), ids, train=False)['params']
  x = params['embedding']['embedding'][ids]
  h = sj.GRU(5).apply({'params': params['encoder']}, x, train=False)
  expected = h @ params['head']['kernel'] + params['head']['bias'][None]
  logits = model.apply({'params': params}, ids, train=False)
  np.testing.assert_allclose(logits, expected[:, 0], rtol=1e-6)


def test_mask_zero_makes_padding_count_for_nothing():
  model = sj.SequenceClassifier(11, 3, sj.LSTM(5), mask_zero=True)
  ids = np.random.default_rng(0).integers(1, 11, (4, 6))
  padded = np.pad(ids, ((0, 0), (3, 0)))
  variables = model.init(jax.random.key(0), ids, train=False)
  np.testing.assert_allclose(
    model.apply(variables, padded, train=False),
    model.apply(variables, ids, train=False),
    rtol=1e-6,
  )
  unmasked = model.clone(mask_zero=False)
  difference = unmasked.apply(variables, padded, train=False) - model.apply(
    variables, padded, train=False
  )
  assert np.abs(difference).max() > 1e-4
