"""Models of the experiments: numbers of parameters, masks, summaries."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax import models
from seqjax.workdir import modules


def _init(model, x):
  """Variables, by one program instead of one for each operation."""
  init = jax.jit(functools.partial(model.init, train=False))
  return jax.device_get(init(jax.random.key(0), x))


@functools.cache
def _jitted(model):
  return jax.jit(functools.partial(model.apply, train=False))


def _apply(model, *given, **more):
  """Outputs in NumPy, by a program for each model and shape."""
  return jax.device_get(_jitted(model)(*given, **more))


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
  params = _init(model, ids)['params']
  x = params['embedding']['embedding'][ids]
  h = _apply(sj.GRU(5), {'params': params['encoder']}, x)
  expected = h @ params['head']['kernel'] + params['head']['bias'][None]
  logits = _apply(model, {'params': params}, ids)
  np.testing.assert_allclose(logits, expected[:, 0], rtol=1e-6)


def test_mask_zero_makes_padding_count_for_nothing():
  model = sj.SequenceClassifier(11, 3, sj.LSTM(5), mask_zero=True)
  ids = np.random.default_rng(0).integers(1, 11, (4, 6))
  padded = np.pad(ids, ((0, 0), (3, 0)))
  variables = _init(model, ids)
  found = _apply(model, variables, padded)
  np.testing.assert_allclose(found, _apply(model, variables, ids), rtol=1e-6)
  unmasked = _apply(model.clone(mask_zero=False), variables, padded)
  assert np.abs(unmasked - found).max() > 1e-4


def _encoder(layer=sj.LSTM, H=5, **options):
  return sj.Bidirectional(layer(H, return_sequences=True, **options))


@pytest.mark.parametrize(
  ('model', 'shape'),
  [
    (
      sj.SequenceClassifier(11, 3, sj.GRU(5), num_classes=4, mask_zero=True),
      (6, 7),
    ),
    (
      sj.SequenceTagger(
        11, 3, _encoder(), num_tags=4, num_classes=2, mask_zero=True
      ),
      (6, 7),
    ),
    (
      sj.SequenceComparer(
        11, 3, sj.Stack([_encoder(), sj.GlobalMaxPooling1D()]), mask_zero=True
      ),
      (6, 2, 7),
    ),
  ],
  ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_padding_changes_no_output_and_no_gradient(model, shape):
  ids = np.random.default_rng(0).integers(1, 11, shape)
  ids[0, ..., 4:] = 0
  padded = np.pad(ids, [(0, 0)] * (ids.ndim - 1) + [(0, 3)])
  variables = _init(model, ids)

  def run(variables, ids):
    outputs = jax.tree.leaves(model.apply(variables, ids, train=False))
    outputs = [o[:, :7] if o.ndim == 3 else o for o in outputs]
    outputs = [
      jnp.where((ids[:, :7] > 0)[..., None], o, 0) if o.ndim == 3 else o
      for o in outputs
    ]
    return sum(jnp.sum(jnp.sin(o)) for o in outputs), outputs

  run = jax.jit(jax.value_and_grad(run, has_aux=True))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    run(variables, padded),
    run(variables, ids),
  )


def test_a_tagger_and_classes_share_one_encoding():
  model = sj.SequenceTagger(11, 3, _encoder(), num_tags=4, num_classes=2)
  ids = np.random.default_rng(0).integers(0, 11, (4, 7))
  mask = np.arange(7) < np.array([[7], [3], [1], [5]])
  variables = _init(model, ids)
  params = variables['params']
  x = params['embedding']['embedding'][ids]
  h = _apply(_encoder(), {'params': params['encoder']}, x, mask=mask)
  tags, classes = _apply(model, variables, ids, mask=mask)
  want = h @ params['head']['kernel'] + params['head']['bias'][None, None]
  np.testing.assert_allclose(tags, want, rtol=1e-5, atol=1e-6)
  top = np.stack([row[real].max(0) for row, real in zip(h, mask, strict=True)])
  head = params['class_head']
  np.testing.assert_allclose(
    classes, top @ head['kernel'] + head['bias'][None], rtol=1e-5, atol=1e-6
  )


def test_a_comparison_has_no_order_and_knows_likeness():
  encoder = sj.LSTM(5)
  model = sj.SequenceComparer(11, 3, encoder, mask_zero=True)
  ids = np.random.default_rng(0).integers(1, 11, (4, 2, 7))
  variables = _init(model, ids)
  found = _apply(model, variables, ids)
  turned = _apply(model, variables, ids[:, ::-1])
  np.testing.assert_allclose(found, turned, rtol=1e-6)
  params = variables['params']
  x = params['embedding']['embedding'][ids]
  a, b = np.moveaxis(_apply(encoder, {'params': params['encoder']}, x), 1, 0)
  both = np.concatenate([np.abs(a - b), a * b], -1)
  layer, head = params['comparison'], params['head']
  h = 1 / (1 + np.exp(-(both @ layer['kernel'] + layer['bias'][None])))
  np.testing.assert_allclose(
    found, (h @ head['kernel'] + head['bias'][None])[:, 0], rtol=1e-5
  )
  with pytest.raises(ValueError, match=r'\[B, 2, T\], got \(4, 7\)'):
    model.init(jax.random.key(0), ids[:, 0], train=False)


def _language_model(**options):
  layers = [
    sj.LSTM(4, return_sequences=True, return_carry=True),
    sj.GRU(3, return_sequences=True, return_carry=True),
  ]
  return sj.LanguageModel(11, 3, sj.Stack(layers), return_carry=True, **options)


@pytest.mark.parametrize('tied', [False, True])
def test_a_text_read_in_pieces_is_the_text_read_at_once(tied):
  model = _language_model(tied=tied)
  ids = np.random.default_rng(0).integers(0, 11, (2, 9))
  variables = _init(model, ids)
  apply = functools.partial(_apply, model, variables)
  _, whole = apply(ids)
  carry, pieces = jax.device_get(model.zero_carry(2)), []
  for piece in np.split(ids, 3, 1):
    carry, logits = apply(piece, initial_carry=carry)
    pieces.append(logits)
  np.testing.assert_allclose(np.concatenate(pieces, 1), whole, rtol=1e-5, atol=1e-6)
  reset = np.zeros((2, 3), bool)
  reset[1, 1] = True  # a text begins: what was before is forgotten
  _, logits = apply(piece, initial_carry=carry, reset=reset)
  np.testing.assert_allclose(
    logits[1, 1:], apply(piece[1:, 1:])[1][0], rtol=1e-5, atol=1e-6
  )
  matrix = variables['params']['embedding']['embedding']
  if tied:
    assert set(variables['params']) == {'embedding', 'encoder', 'bias'}
    params = {'params': variables['params']['encoder']}
    _, h = _apply(model.encoder, params, matrix[ids])
    np.testing.assert_allclose(whole, h @ matrix.T, rtol=1e-5, atol=1e-6)


def test_tied_logits_need_units_as_wide_as_the_embedding():
  encoder = sj.LSTM(4, return_sequences=True, return_carry=True)
  model = sj.LanguageModel(11, 3, encoder, tied=True)
  with pytest.raises(ValueError, match='is wide, 3; got 4'):
    model.init(jax.random.key(0), np.ones((2, 5), int), train=False)


def test_several_labels_at_once_are_learnt():
  rng = np.random.default_rng(0)
  ids = rng.integers(1, 8, (120, 6))
  y = np.stack([(ids == k).any(1) for k in (2, 4, 5)], 1).astype(np.float32)
  encoder = sj.Stack([sj.GRU(16, return_sequences=True), sj.GlobalMaxPooling1D()])
  fitted = sj.fit(
    sj.SequenceClassifier(8, 8, encoder, num_classes=3),
    (ids, y),
    loss='binary_crossentropy',
    metrics=['accuracy'],
    optimizer='adam',
    learning_rate=0.03,
    num_epochs=12,
    batch_size=24,
    quiet=True,
  )
  assert fitted.predict(ids).shape == (120, 3)
  assert fitted.history['accuracy'][-1] > 0.97


def test_a_regressor_of_several_numbers_is_one_layer_on_the_encoding():
  x = np.random.default_rng(0).normal(size=(5, 7, 3)).astype(np.float32)
  mask = np.arange(7) < np.array([[7], [3], [1], [5], [2]])
  model = sj.SequenceRegressor(sj.GRU(4), output_shape=(2, 3))
  variables = _init(model, x)
  params = variables['params']
  h = _apply(sj.GRU(4), {'params': params['encoder']}, x, mask=mask)
  want = np.float64(h) @ np.float64(params['head']['kernel']) + np.float64(
    params['head']['bias']
  )
  found = _apply(model, variables, x, mask=mask)
  np.testing.assert_allclose(found, want.reshape(5, 2, 3), rtol=1e-5, atol=1e-6)
  rebuilt = modules.build(json.loads(json.dumps(modules.describe(model))))
  assert rebuilt == model
  with pytest.raises(ValueError, match=r'output_shape\[1\] must be at least 1, got 0'):
    sj.SequenceRegressor(sj.GRU(4), output_shape=(2, 0))
