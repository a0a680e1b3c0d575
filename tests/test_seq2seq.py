"""The encoder-decoder against NumPy loops, its own steps, and itself with padding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import seqjax as sj
from seqjax import models, seq2seq
from seqjax.cluster import mesh as mesh_lib
from seqjax.seq2seq import masked_softmax
from seqjax.training import losses, steps
from seqjax.training.state import init_state
from seqjax.types import NO_LABEL, Batch

pytestmark = pytest.mark.usefixtures('quick_programs')

_OPTIONS = {'return_sequences': True, 'return_carry': True}
_B, _T, _V = 3, 5, 11


def _slow(kind):
  return pytest.param(kind, marks=pytest.mark.slow)


def _both(H=4, layer=sj.LSTM, **options):
  return sj.Bidirectional(layer(H, **_OPTIONS, **options))


def _model(encoder=None, decoder=None, **options):
  encoder = _both() if encoder is None else encoder
  decoder = sj.LSTM(6, **_OPTIONS) if decoder is None else decoder
  return sj.EncoderDecoder(9, _V, 3, encoder, decoder, **options)


def _ids():
  rng = np.random.default_rng(0)
  ids = rng.integers(1, 9, (_B, 2, _T))
  ids[0, 0, 3:] = ids[1, 1, 2:] = 0
  labels = rng.integers(0, _V, (_B, _T))
  return ids, np.where(ids[:, 1] > 0, labels, NO_LABEL).astype(np.int32)


@functools.cache
def _jitted(model, method=None, **options):
  """`apply`, compiled once for equal models."""
  return jax.jit(functools.partial(model.apply, method=method, **options))


@functools.cache
def _drawn(model):
  init = jax.jit(functools.partial(model.init, train=False))
  return jax.device_get(init(jax.random.key(0), _ids()[0])['params'])


def _params(model, scale=2.5):
  """Wider than at the start of a training: so that weights differ."""
  return jax.tree.map(lambda a: np.float32(scale) * a, _drawn(model))


def _encode(model, params, ids):
  return jax.device_get(_jitted(model, 'encode')(params, ids))


_MODELS = {
  'additive': _model(),
  'dot': _model(attention='dot'),
  'none': _model(attention=None),
  'fed': _model(input_feeding=True),
  'free': _model(teacher_forcing=0.0),
  'half': _model(teacher_forcing=0.5),
  'same carry': _model(sj.GRU(6, **_OPTIONS), sj.GRU(6, **_OPTIONS), attention='dot'),
  'stacks': _model(
    sj.Stack([_both(), _both(3, sj.GRU)]),
    sj.Stack([sj.LSTM(4, **_OPTIONS), sj.GRU(6, **_OPTIONS)]),
    input_feeding=True,
  ),
}


@pytest.mark.parametrize('kind', [_slow('fed'), _slow('stacks'), 'none'])
def test_steps_one_by_one_are_the_whole(kind):
  model, (ids, _) = _MODELS[kind], _ids()
  params = {'params': _params(model)}
  whole = np.asarray(_jitted(model, train=False)(params, ids))
  state, memory = _encode(model, params, ids[:, 0])
  for t in range(_T):
    state, logits, _ = _jitted(model, 'step')(params, state, ids[:, 1, t], memory)
    real = ids[:, 1, t] > 0
    got = np.asarray(logits)[real]
    np.testing.assert_allclose(got, whole[real, t], rtol=1e-5, atol=1e-5)


def test_scores_step_by_step_are_the_whole():
  """A CPU computes the one, other devices the other."""
  rng = np.random.default_rng(2)
  shapes = ((3, 4, 6), (3, 5, 6), (6, 1), (3, 4, 5))
  *given, factors = (rng.normal(size=shape).astype(np.float32) for shape in shapes)

  def loss(function, *given):
    scores = function(*given)
    return jnp.sum(factors * scores), scores

  both = [
    jax.jit(jax.value_and_grad(functools.partial(loss, f), (0, 1, 2), has_aux=True))
    for f in (seq2seq._additive, seq2seq._additive_by_step)
  ]
  whole, steps = (
    jax.tree.leaves((f(*given), jax.jvp(f, tuple(given), tuple(given)))) for f in both
  )
  for a, b in zip(whole, steps, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('kind', ['additive', 'dot'])
def test_attention_is_the_loop(kind):
  """Scores, weights and the attentional vector, in float64, query by query."""
  model, (ids, _) = _MODELS[kind].clone(return_attention=True), _ids()
  params = _params(model, 4)
  apply = _jitted(model, train=False)
  logits, weights = jax.device_get(apply({'params': params}, ids))
  state, memory = _encode(model, {'params': params}, ids[:, 0])
  p = jax.tree.map(np.float64, params)
  x = params['embedding']['embedding'][ids[:, 1]]
  _, h = _jitted(model.decoder, train=False)(
    {'params': params['decoder']}, x, mask=ids[:, 1] > 0, initial_carry=state.carry
  )
  h, m = np.float64(h), np.float64(memory.h)
  for b in range(_B):
    real = np.flatnonzero(ids[b, 0])
    for t in range(_T):
      scores = []
      for s in real:
        key = m[b, s] @ p['keys']['kernel']
        if kind == 'dot':
          scores.append(h[b, t] @ key)
          continue
        query = p['attend']['query']
        met = np.tanh(h[b, t] @ query['kernel'] + query['bias'] + key)
        scores.append(float(met @ p['attend']['score']['kernel'][:, 0]))
      a = np.exp(scores) / np.exp(scores).sum()
      np.testing.assert_allclose(weights[b, t, real], a, rtol=1e-4, atol=1e-6)
      context = sum(w * m[b, s] for w, s in zip(a, real, strict=True))
      combine = p['attend']['vector']
      vector = np.append(h[b, t], context) @ combine['kernel'] + combine['bias']
      want = vector @ p['head']['kernel'] + p['head']['bias']
      np.testing.assert_allclose(logits[b, t], want, rtol=1e-4, atol=1e-4)
  assert not weights[0, :, 3:].any()
  assert np.ptp(weights[1]) > 0.02


@pytest.mark.parametrize(
  'kind', ['additive', 'half', 'none', *map(_slow, ('dot', 'stacks', 'free'))]
)
def test_padding_on_either_side_changes_no_output_loss_or_gradient(kind):
  model, (ids, labels) = _MODELS[kind], _ids()
  params = _params(model)

  def run(params, ids, labels):
    how = {'train': kind in ('free', 'half'), 'rngs': {'dropout': jax.random.key(0)}}
    logits = model.apply({'params': params}, ids, **how)
    loss = losses.softmax_xent(logits, labels)
    logits = jnp.where(jnp.expand_dims(labels >= 0, -1), logits, 0)
    return jnp.mean(loss), (loss, logits)

  both = jax.jit(jax.value_and_grad(run, has_aux=True))

  def found(left, right):
    sides = (left, right)
    padded = np.pad(ids, ((0, 0), (0, 0), sides))
    of_pad = np.pad(labels, ((0, 0), sides), constant_values=NO_LABEL)
    (_, (loss, logits)), grads = both(params, padded, of_pad)
    return loss, logits[:, left : left + _T], grads

  plain = found(0, 0)
  for sides in ((0, 3), (3, 0), (1, 2)):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
      found(*sides),
      plain,
    )
  assert all(np.abs(leaf).max() > 1e-4 for leaf in jax.tree.leaves(plain[2]))


@pytest.mark.parametrize('options', [{}, {'input_feeding': True}])
def test_without_teacher_forcing_a_model_reads_its_own_tokens(options):
  model, (ids, _) = _model(teacher_forcing=0.0, **options), _ids()
  ids[2, 1] = [0, 4, 5, 6, 0]  # its first token is at its second step
  params = {'params': _params(model)}
  rngs = {'dropout': jax.random.key(0)}
  free = np.asarray(_jitted(model, train=True)(params, ids, rngs=rngs))
  state, memory = _encode(model, params, ids[:, 0])
  step = _jitted(model, 'step')
  for b, times in enumerate((range(5), range(2), range(1, 4))):
    row = jax.tree.map(lambda a, b=b: a[b : b + 1], (state, memory))
    now, seen = row[0], int(ids[b, 1, times[0]])
    for t in times:
      now, logits, _ = step(params, now, np.array([seen]), row[1])
      np.testing.assert_allclose(free[b, t], logits[0], rtol=1e-4, atol=1e-5)
      seen = int(np.argmax(logits[0]))
  # What is given does not matter then, and in evaluation it is all that does.
  other = ids.copy()
  other[0, 1, 1:] = 1
  again = _jitted(model, train=True)(params, other, rngs=rngs)
  np.testing.assert_array_equal(again[0], free[0])
  given = np.asarray(_jitted(_model(**options), train=False)(params, ids))
  found = _jitted(model, train=False)(params, ids)
  np.testing.assert_allclose(found, given, rtol=1e-5, atol=1e-6)
  assert np.abs(given[0] - free[0]).max() > 0.01


@pytest.mark.slow
def test_teacher_forcing_has_its_rate():
  N, model = 4_000, _model(teacher_forcing=0.3)
  params = {'params': _params(model)}
  ids = np.broadcast_to(np.array([[[3, 1, 4], [5, 1, 2]]]), (N, 2, 3))
  key = {'dropout': jax.random.key(1)}
  whole = _jitted(model.clone(teacher_forcing=1.0), train=False)
  forced = np.asarray(whole(params, ids[:1]))[0]
  assert int(np.argmax(forced[0])) != 1  # or its own token is the one given
  logits = np.asarray(_jitted(model, train=True)(params, ids, rngs=key))
  given = np.isclose(logits[:, 1], forced[None, 1], atol=1e-5).all(-1)
  # 0.036 are five standard deviations.
  assert given.mean() == pytest.approx(0.3, abs=0.036)
  both = given & np.isclose(logits[:, 2], forced[None, 2], atol=1e-5).all(-1)
  assert both.mean() == pytest.approx(0.09, abs=0.025)
  # What lies behind the end of all changes no draw.
  ids = np.pad(ids, ((0, 0), (0, 0), (0, 2)))
  padded = np.asarray(_jitted(model, train=True)(params, ids, rngs=key))
  np.testing.assert_allclose(padded[:, :3], logits, atol=1e-5)


@pytest.mark.parametrize('options', [{}, {'input_feeding': True}])
def test_dropout_has_one_mask_a_sequence(options):
  """With all weights of the head alike, a logit is the sum of what is left."""
  model = _model(dropout=0.5, **options)
  params = _params(model)
  params['head'] = {'kernel': np.eye(6, _V, dtype='f'), 'bias': np.zeros(_V, 'f')}
  params['attend']['vector']['kernel'] = np.zeros((14, 6), 'f')
  params['attend']['vector']['kernel'][0] = 2
  given, rngs = ({'params': params}, _ids()[0]), {'dropout': jax.random.key(3)}
  whole = np.asarray(_jitted(model, train=False)(*given))[..., :6]
  dropped = np.asarray(_jitted(model, train=True)(*given, rngs=rngs))[..., :6]
  share = (dropped / whole).round(4)
  assert set(np.unique(share)) == {0.0, 2.0}
  np.testing.assert_array_equal(share, np.broadcast_to(share[:, :1], share.shape))
  assert len(np.unique(share[:, 0], axis=0)) == _B


@pytest.mark.slow
def test_dropout_of_a_layer_in_the_loop_has_one_mask_too():
  """A decoder that hands its input on, and a head that shows it."""
  layer = sj.SimpleRNN(3, **_OPTIONS, activation='linear', dropout=0.5)
  model = _model(decoder=layer, input_feeding=True)
  params = _params(model)
  params['decoder'] = jax.tree.map(np.zeros_like, params['decoder'])
  params['decoder']['kernel'] = np.eye(6, 3, dtype='f')
  params['attend']['vector']['kernel'] = np.eye(11, 3, dtype='f')
  params['head'] = {'kernel': np.eye(3, _V, dtype='f'), 'bias': np.zeros(_V, 'f')}
  ids, rngs = np.ones((16, 2, _T), int), {'dropout': jax.random.key(0)}
  ids *= np.arange(1, _T + 1)
  logits = _jitted(model, train=True)({'params': params}, ids, rngs=rngs)
  shown = np.asarray(logits)[..., :3] != 0
  np.testing.assert_array_equal(shown, np.broadcast_to(shown[:, :1], shown.shape))
  assert len(np.unique(shown[:, 0], axis=0)) > 3


def test_weights_of_nothing_are_0_and_have_gradients():
  scores = jnp.array([[[2.0, -1.0, 40.0]], [[1.0, 2.0, 3.0]]])
  mask = jnp.array([[[True, True, False]], [[False] * 3]])
  weights = masked_softmax(scores, mask)
  p = np.exp(2.0) / (np.exp(2.0) + np.exp(-1.0))
  np.testing.assert_allclose(weights[0, 0], [p, 1 - p, 0], rtol=1e-6)
  assert not weights[1].any()
  loss = jax.jit(jax.grad(lambda s: jnp.sum(jnp.square(masked_softmax(s, mask)))))
  grads = loss(scores)
  assert np.isfinite(grads).all()


def test_a_summary_has_all_parameters():
  model = _MODELS['stacks']
  rows = models.summarize(model, (_B, 2, _T), jnp.int32)
  count = sum(a.size for a in jax.tree.leaves(_params(model)))
  assert sum(row.num_params for row in rows) == count
  assert {'bridge', 'keys', 'head', 'decoder/layers_1'} <= {
    row.name.removesuffix('/projection') for row in rows
  }
  (head,) = (row for row in rows if row.name == 'head')
  assert head.output_shape == (_B, _T, _V)


@pytest.mark.slow
def test_fit_takes_it(tmp_path):
  """Arrays x [N, 2, T] and y [N, T]: to say three letters backwards."""
  rng = np.random.default_rng(0)
  words = rng.integers(1, 6, (512, 3))
  start = np.full((512, 1), 6)
  turned = words[:, ::-1]
  x = np.stack([words, np.append(start, turned[:, :-1], 1)], 1)
  fitted = sj.fit(
    _model(_both(16, sj.GRU), sj.GRU(16, **_OPTIONS)),
    (x[:448], turned[:448]),
    (x[448:], turned[448:]),
    loss='crossentropy',
    metrics=['accuracy'],
    optimizer='adam',
    learning_rate=0.02,
    num_epochs=6,
    batch_size=32,
    quiet=True,
    workdir=tmp_path,
  )
  assert fitted.history['val_accuracy'][-1] > 0.9
  again = sj.load(tmp_path).predict(x[448:450])
  np.testing.assert_allclose(again, fitted.predict(x[448:450]), rtol=1e-6)


def test_what_cannot_be_is_refused_by_name():
  for options, match in (
    ({'attention': 'luong'}, "attention must be 'additive', 'dot' or None"),
    ({'attention': None, 'input_feeding': True}, 'need attention'),
    ({'teacher_forcing': 1.5}, r'teacher_forcing must be in \[0, 1\], got 1.5'),
    ({'dropout': 1.0}, r'dropout must be in \[0, 1\)'),
    ({'encoder': sj.LSTM(3)}, 'encoder needs return_sequences=True and return_carry'),
    ({'decoder': _both()}, 'decoder reads from the end'),
    ({'encoder': 3}, 'encoder must be a module or a function'),
  ):
    with pytest.raises(ValueError, match=match):
      _model(**options)
  model, (ids, _) = _model(), _ids()
  for wrong in (ids[:, 0], np.concatenate([ids, ids], 1)):
    with pytest.raises(ValueError, match=r'needs ids \[B, 2, T\], got'):
      model.init(jax.random.key(0), wrong, train=False)
  ids[0, 1, 1] = 12
  with pytest.raises(ValueError, match=r'id 12 at index \[0, 1\] is not in \[0, 11\)'):
    model.init(jax.random.key(0), ids, train=False)


@pytest.mark.slow
def test_bfloat16_is_float32_but_for_rounding():
  model, (ids, labels) = _model(teacher_forcing=0.5, input_feeding=True), _ids()
  params = _params(model)

  def loss(params, **given):
    logits = model.apply({'params': params}, ids, **given)
    return jnp.mean(losses.softmax_xent(logits, labels))

  short = jax.tree.map(lambda a: a.astype(jnp.bfloat16), params)
  evaluate = jax.jit(functools.partial(loss, train=False))
  np.testing.assert_allclose(evaluate(short), evaluate(params), rtol=0.02)
  train = jax.jit(jax.grad(functools.partial(loss, train=True)))
  grads = train(short, rngs={'dropout': jax.random.key(0)})
  assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['additive', 'fed'])
def test_two_devices_are_one(kind):
  model, (ids, labels) = _MODELS[kind], _ids()
  ids, labels = np.concatenate([ids, ids[::-1]]), np.concatenate([labels, labels[::-1]])
  batch = Batch(ids.astype(np.int32), labels, np.ones(6, np.float32))
  tx, found = optax.sgd(0.5), []
  for number in (1, 2):
    mesh = mesh_lib.make_mesh(number, 6)
    state = mesh_lib.replicate(init_state(model, tx, jax.random.key(0), batch.x), mesh)
    step = steps.make_train_step(model, losses.softmax_xent, {}, tx, mesh)
    state, sums = step(state, mesh_lib.put_batch(batch, mesh), jax.random.key(1))
    found.append(jax.device_get((state.params, sums)))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *found
  )
