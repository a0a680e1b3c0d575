"""Greedy and beam search against Python loops and against all sequences there are."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax import decoding

pytestmark = pytest.mark.usefixtures('quick_programs')

_END = 2
_OPTIONS = {'return_sequences': True, 'return_carry': True}


def _recurrent(seed, V, H=6):
  """Weights of a small recurrent model, and its first carry [B, H]."""
  rng = np.random.default_rng(seed)
  weights = [
    rng.normal(0, 1.2, shape).astype(np.float32) for shape in ((V, H), (H, H), (H, V))
  ]
  return weights, rng.normal(0, 2, (5, H)).astype(np.float32)


def _step(weights, h, ids, xp=np):
  """-> h [B, H] and logits [B, V] after a token."""
  embedding, recurrent, head = weights
  h = xp.tanh(h @ recurrent + embedding[ids])
  return h, h @ head


@functools.cache
def _search(function, **options):
  """Jitted (weights, h) -> what is found after token 1."""

  def search(weights, h):
    step = functools.partial(_step, weights, xp=jnp)
    return function(step, h, jnp.ones(len(h), int), end=_END, **options)

  return jax.jit(search)


@functools.cache
def _searches(seed, V, N, K, penalty):
  """What both searches find, each in one program."""
  options = {'num_steps': N, 'length_penalty': penalty}
  single = _search(decoding.greedy, **options)
  beams = _search(decoding.beam_search, beam_size=K, **options)
  given = _recurrent(seed, V)
  return jax.device_get((single(*given), beams(*given)))


def _by_hand(weights, h, ids, penalty):
  """The score of one sequence, from log p of each of its tokens."""
  log_p, last = 0.0, 1
  for token in ids:
    h, logits = _step(weights, h, last)
    log_p += logits[token] - np.log(np.exp(np.float64(logits)).sum())
    last = token
  return log_p / ((5 + len(ids)) / 6) ** penalty


@pytest.mark.parametrize('penalty', [0.0, 1.0])
@pytest.mark.parametrize(('V', 'N', 'K'), [(5, 2, 5), (4, 3, 16)])
def test_a_beam_that_holds_all_beginnings_is_an_exhaustive_search(V, N, K, penalty):
  weights, h = _recurrent(1, V)
  _, found = _searches(1, V, N, K, penalty)
  tokens = [t for t in range(V) if t != _END]
  every = [
    (*head, last)
    for n in range(N)
    for head in itertools.product(tokens, repeat=n)
    for last in (range(V) if n == N - 1 else [_END])
  ]
  for b, row in enumerate(h):
    scores = {ids: _by_hand(weights, row, ids, penalty) for ids in every}
    ranked = sorted(every, key=lambda ids: -scores[ids])[: len(found.ids[b])]
    if N == 2:  # of those with a rank beyond the beam some are never looked at
      ranked = ranked[:1]
    for k, ids in enumerate(ranked):
      assert tuple(found.ids[b, k, : found.lengths[b, k]]) == ids
      np.testing.assert_allclose(found.scores[b, k], scores[ids], rtol=1e-5)
    assert not found.ids[b, 0, len(ranked[0]) :].any()


@pytest.mark.parametrize('penalty', [0.0, 0.7])
def test_a_beam_of_one_is_greedy(penalty):
  ended = 0
  for seed in range(4):
    greedy, beam = _searches(seed, 5, 7, 1, penalty)
    np.testing.assert_array_equal(beam.ids[:, 0], greedy.ids)
    np.testing.assert_array_equal(beam.lengths[:, 0], greedy.lengths)
    np.testing.assert_allclose(beam.scores[:, 0], greedy.scores, rtol=1e-5)
    ended += (greedy.lengths < 7).sum()
  assert 5 < ended < 20  # rows of both kinds


def test_greedy_is_the_loop_of_argmax():
  greedy, _ = _searches(0, 5, 7, 1, 0.7)
  weights, h = _recurrent(0, 5)
  for b, row in enumerate(h):
    ids, carry, last = [], row, 1
    while len(ids) < 7 and _END not in ids:
      carry, logits = _step(weights, carry, last)
      last = logits.argmax()
      ids.append(int(last))
    assert greedy.ids[b].tolist() == ids + [0] * (7 - len(ids))
    assert greedy.lengths[b] == len(ids)
    np.testing.assert_allclose(
      greedy.scores[b], _by_hand(weights, row, ids, 0.7), rtol=1e-5
    )


def test_an_ended_row_stays_as_it_is():
  """Rows that end early wait for the others: alone they are the same."""
  ended = 0
  options = {'beam_size': 3, 'num_steps': 9, 'length_penalty': 2.0}
  search = _search(decoding.beam_search, **options)
  for seed in range(3):
    weights, h = _recurrent(seed, 6)
    whole = search(weights, h)
    for b in range(5):
      alone = search(weights, h[b : b + 1])
      for one, many in zip(alone, whole, strict=True):
        np.testing.assert_allclose(one[0], many[b], rtol=1e-5)
    assert (np.diff(whole.scores) <= 0).all()
    ended += (np.asarray(whole.lengths).max(1) < 9).sum()
  assert 3 < ended < 15  # rows of both kinds


def test_a_wider_beam_finds_better():
  greedy, beam = _searches(3, 6, 9, 3, 0.0)
  gain = beam.scores[:, 0] - greedy.scores
  assert (gain > -1e-5).all()
  assert (gain > 0.01).any()


def test_what_is_never_to_be_written_is_not():
  given, numbers = _recurrent(0, 5), {'num_steps': 7, 'never': (0, 3)}
  greedy = _search(decoding.greedy, **numbers)(*given)
  beams = _search(decoding.beam_search, beam_size=2, **numbers)(*given)
  free, _ = _searches(0, 5, 7, 1, 0.0)
  assert (free.ids == 3).any()
  for found in (greedy, beams):
    ids, lengths = np.asarray(found.ids), np.asarray(found.lengths)
    real = np.arange(7) < lengths[..., None]
    assert not np.isin(ids[real], (0, 3)).any()


@functools.cache
def _model(**options):
  encoder = sj.Bidirectional(sj.LSTM(4, **_OPTIONS))
  model = sj.EncoderDecoder(9, 8, 3, encoder, sj.LSTM(5, **_OPTIONS), **options)
  ids = np.random.default_rng(0).integers(1, 8, (4, 2, 6))
  init = jax.jit(functools.partial(model.init, train=False))
  params = jax.device_get(init(jax.random.key(0), ids)['params'])
  return model, jax.tree.map(lambda a: 4 * a, params), ids[:, 0]


@pytest.mark.parametrize('options', [{'input_feeding': True}, {'attention': None}])
def test_a_model_writes_what_whole_forward_passes_tell(options):
  model, params, source = _model(**options)
  decode = functools.partial(
    decoding.decode, model, params, first=6, end=7, num_steps=5
  )
  found = jax.device_get(decode(source))
  apply = jax.jit(lambda ids: model.apply({'params': params}, ids, train=False))
  target = np.full((4, 6), 0)
  target[:, 0] = 6
  for n in range(5):
    logits = np.asarray(apply(np.stack([source, target], 1)))[:, n]
    target[:, n + 1] = logits[:, 1:].argmax(-1) + 1
  for b in range(4):
    wanted = target[b, 1:].tolist()
    length = wanted.index(7) + 1 if 7 in wanted else 5
    assert found.ids[b, :length].tolist() == wanted[:length]
    assert found.lengths[b] == length
  one = decoding.decode(model, params, source, first=6, end=7, num_steps=5, beam_size=1)
  np.testing.assert_array_equal(one.ids[:, 0], found.ids)
  np.testing.assert_array_equal(one.lengths[:, 0], found.lengths)
  np.testing.assert_allclose(one.scores[:, 0], found.scores, rtol=1e-5)
  # The beams of a row see its own source, and padding of it changes nothing.
  several = decode(source, beam_size=3)
  for sides in ((3, 0), (0, 3)):
    padded = np.pad(source, ((0, 0), sides))
    again = decode(padded, beam_size=3)
    np.testing.assert_array_equal(again.ids, several.ids)
    np.testing.assert_allclose(again.scores, several.scores, rtol=1e-4)
  other = decode(source[[1, 3, 2, 0]], beam_size=3)
  np.testing.assert_array_equal(other.ids[2], several.ids[2])
  assert not np.array_equal(other.ids[0], several.ids[0])


@pytest.mark.slow
def test_several_models_write_by_the_mean_of_their_probabilities():
  models, params, (*_, source) = [], [], _model()
  for seed, cell in enumerate((sj.GRU, sj.LSTM)):
    encoder, decoder = cell(5 + seed, **_OPTIONS), cell(4, **_OPTIONS)
    models.append(sj.EncoderDecoder(9, 8, 5, encoder, decoder))
    ids = np.stack([source] * 2, 1)
    drawn = models[-1].init(jax.random.key(seed), ids, train=False)
    params.append(jax.tree.map(lambda a: 3 * a, drawn['params']))
  options = {'first': 6, 'end': 7, 'num_steps': 5}
  found = decoding.decode(models, params, source, **options)
  target = np.zeros((4, 6), int)
  target[:, 0] = 6
  log_p = np.zeros(4)
  for n in range(5):
    ids = np.stack([source, target], 1)
    each = [
      jax.nn.softmax(model.apply({'params': p}, ids, train=False)[:, n])
      for model, p in zip(models, params, strict=True)
    ]
    mean = np.mean(each, 0)
    target[:, n + 1] = mean[:, 1:].argmax(-1) + 1
    is_open = ~(target[:, 1 : n + 1] == 7).any(-1)
    log_p += is_open * np.log(mean[np.arange(4), target[:, n + 1]])
  for b in range(4):
    length = found.lengths[b]
    assert found.ids[b, :length].tolist() == target[b, 1 : length + 1].tolist()
  np.testing.assert_allclose(found.scores, log_p, rtol=1e-4)
  alone = decoding.decode(models[0], params[0], source, **options, beam_size=3)
  pair = decoding.decode(models[:1] * 2, params[:1] * 2, source, **options, beam_size=3)
  np.testing.assert_array_equal(pair.ids, alone.ids)
  np.testing.assert_allclose(pair.scores, alone.scores, rtol=1e-4)
  for wrong in (models[:1], [models[0], models[1].clone(vocab_size=9)], []):
    with pytest.raises(ValueError, match='model must be one, or several with the same'):
      decoding.decode(wrong, params, source, **options)


def test_what_cannot_be_is_refused_by_name():
  model, params, source = _model()
  decode = functools.partial(decoding.decode, model, params)
  numbers = {'first': 6, 'end': 7, 'num_steps': 5}
  for ids, match in (
    (source[0], r'source must be int \[B, S\]'),
    (source + 0.5, r'source must be int \[B, S\]'),
    (source + 2, r'outside \[0, 9\)'),
  ):
    with pytest.raises(ValueError, match=match):
      decode(ids, **numbers)
  for options, match in (
    ({'first': 8}, r'first must be an id in \(0, 8\), got 8'),
    ({'end': 0}, r'end must be an id in \(0, 8\), got 0'),
    ({'never': (1, 8)}, r'never must be ids in \[0, 8\), got \[1, 8\]'),
    ({'never': [-1]}, r'never must be ids in \[0, 8\), got \[-1\]'),
    ({'num_steps': 0}, 'num_steps must be at least 1'),
    ({'length_penalty': -1.0}, 'length_penalty 0 or more'),
    ({'beam_size': 0}, 'beam_size must be at least 1'),
  ):
    with pytest.raises(ValueError, match=match):
      decode(source, **{**numbers, **options})


@pytest.mark.parametrize(('M', 'k'), [(1_000, 7), (129, 2), (50, 3)])
def test_the_largest_are_those_of_lax(M, k):
  """Of whole numbers many are the same; of some rows few are finite."""
  rng = np.random.default_rng(0)
  values = rng.integers(0, 40, (9, M)).astype(np.float32)
  values[6:] = rng.normal(size=(3, M))
  values[0], values[1, : M // 2], values[2, :-1] = -np.inf, -np.inf, -np.inf
  for ours, theirs in zip(
    decoding._largest(values, k), jax.lax.top_k(values, k), strict=True
  ):
    np.testing.assert_array_equal(ours[1:], theirs[1:])
  assert np.isneginf(decoding._largest(values, k)[0][0]).all()


def test_a_language_model_is_a_step():
  """Greedy is what `generation.generate` writes at temperature 0, up to the end."""
  model = sj.LanguageModel(7, 5, sj.GRU(6, **_OPTIONS), return_carry=True)
  prompt = np.array([[3], [4], [5], [6]])
  init = jax.jit(functools.partial(model.init, train=False))
  params = init(jax.random.key(3), prompt)['params']
  params = jax.tree.map(lambda a: 5 * a, params)

  def step(carry, ids):
    options = {'train': False, 'initial_carry': carry}
    carry, logits = model.apply({'params': params}, ids[:, None], **options)
    return carry, logits[:, 0]

  search = functools.partial(decoding.greedy, step, end=_END, num_steps=8)
  found = jax.jit(search)(model.zero_carry(4), jnp.asarray(prompt[:, 0]))
  text = sj.generation.start(model, params, prompt, jax.random.key(0))
  _, ids = sj.generation.generate(model, params, text, 8, temperature=0)
  for b, length in enumerate(found.lengths.tolist()):
    np.testing.assert_array_equal(found.ids[b, :length], ids[b, :length])
    assert length == 8 or found.ids[b, length - 1] == _END
    assert not found.ids[b, length:].any()
  assert len(np.unique(found.ids)) > 3
