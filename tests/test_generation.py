"""Written text is that of whole forward passes, and goes on where it stopped."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax import generation

_SEQUENCES = {'return_sequences': True, 'return_carry': True}


def _encoders():
  lstm = sj.LSTM(6, **_SEQUENCES, dropout=0.3)
  return {
    'lstm': lstm,
    'gru': sj.GRU(6, **_SEQUENCES),
    'gru, reset before': sj.GRU(6, **_SEQUENCES, reset_after=False),
    'simple_rnn without bias': sj.SimpleRNN(6, **_SEQUENCES, use_bias=False),
    'stack': sj.Stack(
      [lstm, nn.Dropout(0.5), nn.Dense(5), jnp.tanh, sj.GRU(6, **_SEQUENCES)]
    ),
    'own cell': sj.RNN(sj.LayerNormLSTMCell(6), **_SEQUENCES),
    'bfloat16': sj.LSTM(6, **_SEQUENCES, dtype=jnp.bfloat16),
  }


@functools.cache
def _drawn(model):
  init = jax.jit(functools.partial(model.init, train=False))
  return jax.device_get(init(jax.random.key(0), np.ones((1, 2), np.int32))['params'])


def _model(encoder, V=11, **options):
  model = sj.LanguageModel(V, 6, encoder, **options)
  # Wider than at the start of a training: so that texts differ.
  return model, jax.tree.map(lambda a: np.float32(3) * a, _drawn(model))


def _prompt(B=3, P=4):
  return np.random.default_rng(0).integers(0, 11, (B, P))


@pytest.mark.parametrize(
  ('kind', 'tied'),
  [*((kind, False) for kind in _encoders()), ('lstm', True), ('stack', True)],
)
def test_temperature_0_is_the_argmax_of_whole_forward_passes(kind, tied):
  model, params = _model(_encoders()[kind], tied=tied)
  prompt = _prompt()
  text = generation.start(model, params, prompt, jax.random.key(0))
  _, found = generation.generate(model, params, text, 12, temperature=0)
  ids = np.concatenate([prompt, np.zeros((3, 12), int)], 1)
  apply = jax.jit(lambda ids: model.apply({'params': params}, ids, train=False))
  for n in range(4, 16):  # what comes later changes nothing at step n
    ids[:, n] = np.asarray(apply(ids))[:, n - 1].argmax(-1)
  np.testing.assert_array_equal(found, ids[:, 4:])
  assert len(np.unique(found)) > 2


def test_a_text_goes_on_as_if_it_had_never_stopped():
  model, params = _model(_encoders()['stack'])
  write = functools.partial(generation.generate, model, params, temperature=0.9)
  text = generation.start(model, params, _prompt(), jax.random.key(5))
  _, whole = write(text, 30)
  pieces = []
  for n in (7, 1, 22):
    text, ids = write(text, n)
    pieces.append(ids)
  np.testing.assert_array_equal(np.concatenate(pieces, 1), whole)
  other = generation.start(model, params, _prompt(), jax.random.key(6))
  assert (np.asarray(write(other, 30)[1]) != whole).any()


def _frequencies(logits, **options):
  """How often each id is drawn after any token, of many rows."""
  V = len(logits)
  model, params = _model(_encoders()['gru'], V=V)
  params = jax.tree.map(np.zeros_like, params)
  params['head']['bias'] = np.float32(logits)
  prompt = np.zeros((4_000, 1), int)
  text = generation.start(model, params, prompt, jax.random.key(0))
  _, ids = generation.generate(model, params, text, 5, **options)
  return np.bincount(np.asarray(ids).ravel(), minlength=V) / ids.size


_P = np.array([0.1, 0.4, 0.05, 0.3, 0.15])


@pytest.mark.parametrize(
  ('options', 'want'),
  [
    ({}, _P),
    ({'temperature': 0.5}, _P**2 / (_P**2).sum()),
    ({'temperature': 3.0}, _P ** (1 / 3) / (_P ** (1 / 3)).sum()),
    ({'top_k': 2}, np.array([0, 4, 0, 3, 0]) / 7),
    ({'top_k': 1}, [0, 1, 0, 0, 0]),
    ({'top_k': 9}, _P),
    ({'top_p': 0.69}, np.array([0, 4, 0, 3, 0]) / 7),
    ({'top_p': 0.71}, np.array([0, 8, 0, 6, 3]) / 17),
    ({'top_p': 0.01}, [0, 1, 0, 0, 0]),
    ({'top_p': 1.0}, _P),
    ({'top_k': 3, 'never': (1,)}, np.array([2, 0, 0, 6, 3]) / 11),
    ({'temperature': 0.0, 'never': (1,)}, [0, 0, 0, 1, 0]),
  ],
)
def test_tokens_are_drawn_as_often_as_they_should(options, want):
  found = _frequencies(np.log(_P), **options)
  # 20,000 draws: five standard deviations.
  np.testing.assert_allclose(found, want, atol=0.018)
  np.testing.assert_array_equal(found[np.asarray(want) == 0], 0)


def test_what_cannot_be_is_refused_by_name():
  model, params = _model(_encoders()['gru'])
  start = functools.partial(generation.start, model, params, key=jax.random.key(0))
  with pytest.raises(ValueError, match=r'prompt must be int \[B, P\] .* \(3, 0\)'):
    start(np.zeros((3, 0), int))
  with pytest.raises(ValueError, match=r'outside \[0, 11\)'):
    start([[1, 11]])
  text = start([[1, 2]])
  for options, match in (
    ({'num_steps': 0}, 'num_steps must be at least 1'),
    ({'temperature': -1.0}, 'temperature 0 or more'),
    ({'temperature': float('nan')}, 'temperature 0 or more'),
    ({'top_k': 0}, 'top_k must be at least 1'),
    ({'top_p': 0.0}, r'top_p must be in \(0, 1\]'),
  ):
    with pytest.raises(ValueError, match=match):
      generation.generate(model, params, text, **{'num_steps': 1, **options})
  both = sj.LanguageModel(11, 6, sj.Bidirectional(sj.GRU(3, **_SEQUENCES)))
  with pytest.raises(ValueError, match='Bidirectional reads from the end'):
    generation.generate(both, params, text, 1)
