"""Optimisers against Keras's own, clipping by hand, and freezing."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

from seqjax.training import optim

SHAPES = ((3, 4), (5,))
CLIPS = {
  'clip_value': 'clipvalue',
  'clip_norm': 'clipnorm',
  'clip_global_norm': 'global_clipnorm',
}


def random_gradients(scale, num_steps, seed=0):
  """Gradients of a few steps; each tensor has its own size, as they do in a model."""
  rng = np.random.default_rng(seed)
  return [
    [(s * rng.normal(size=shape)).astype(np.float32) for s, shape in zip(scale, SHAPES)]  # noqa: B905
    for _ in range(num_steps)
  ]


def run_keras(optimizer, params, gradients):
  variables = [keras.Variable(p) for p in params]
  optimizer.build(variables)
  for grads in gradients:
    optimizer.apply(list(map(jnp.asarray, grads)))
  return [np.asarray(v.value) for v in variables]


def run_optax(tx, params, gradients):
  params = list(map(jnp.asarray, params))
  state = tx.init(params)
  for grads in gradients:
    updates, state = tx.update(list(map(jnp.asarray, grads)), state, params)
    params = optax.apply_updates(params, updates)
  return params


@pytest.mark.parametrize(
  'scale', [(1.0, 2.0), (1e-4, 1e-3), (1e-9, 1e-7)], ids=['normal', 'small', 'tiny']
)
@pytest.mark.parametrize('name', ['rmsprop', 'adam'])
def test_steps_are_those_of_keras(name, scale):
  params = random_gradients((0.0, 0.0), 1)[0]  # from 0: updates keep all their digits
  gradients = random_gradients(scale, 6)
  keras_class = {'rmsprop': keras.optimizers.RMSprop, 'adam': keras.optimizers.Adam}
  want = run_keras(keras_class[name](1e-3), params, gradients)
  got = run_optax(optim.make_optimizer(name, 1e-3), params, gradients)
  for g, w in zip(got, want, strict=True):
    np.testing.assert_allclose(g, w, rtol=2e-5, atol=1e-9)
    assert np.abs(w).max() > 1e-8  # something moved


@pytest.mark.parametrize('clip', CLIPS)
@pytest.mark.parametrize('name', ['rmsprop', 'adam'])
def test_clipped_steps_are_those_of_keras(name, clip):
  params = random_gradients((0.1, 0.1), 1)[0]
  gradients = random_gradients((0.2, 3.0), 4, seed=1)
  keras_class = {'rmsprop': keras.optimizers.RMSprop, 'adam': keras.optimizers.Adam}
  want = run_keras(keras_class[name](0.01, **{CLIPS[clip]: 0.5}), params, gradients)
  got = run_optax(optim.make_optimizer(name, 0.01, **{clip: 0.5}), params, gradients)
  for g, w in zip(got, want, strict=True):
    np.testing.assert_allclose(g, w, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize('name', ['rmsprop', 'adam'])
def test_no_array_of_the_state_is_there_twice(name):
  """A train step donates its state, and XLA refuses to be given a buffer twice."""
  state = optim.make_optimizer(name, 1e-3).init({'a': jnp.ones(3), 'b': jnp.ones(2)})
  found = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
  assert len(found) > 1
  assert len(set(found)) == len(found)


def test_optax_defaults_are_something_else():
  """Why the epsilons are ours: on tiny gradients optax's own steps are far off."""
  params = random_gradients((0.0, 0.0), 1)[0]
  gradients = random_gradients((1e-4, 1e-4), 3)
  for ours, theirs in [
    (optim.rmsprop(1e-3), optax.rmsprop(1e-3, decay=0.9)),
    (optim.adam(1e-3), optax.adam(1e-3)),
  ]:
    a = run_optax(ours, params, gradients)[0]
    b = run_optax(theirs, params, gradients)[0]
    assert np.max(np.abs(b / a - 1)) > 0.01


def test_clipping_by_hand():
  grads = [jnp.float32([3, -4]), jnp.float32([0.3, 0.4]), jnp.zeros(2)]
  clipped, _ = optim.clip_by_norm(1.0).update(grads, optax.EmptyState())
  np.testing.assert_allclose(clipped[0], [0.6, -0.8], rtol=1e-6)
  np.testing.assert_array_equal(clipped[1], grads[1])
  np.testing.assert_array_equal(clipped[2], grads[2])  # no 0 / 0


def test_a_schedule_counts_updates():
  tx = optim.make_optimizer('adam', lambda step: jnp.where(step < 2, 1.0, 0.0))
  seen = [run_optax(tx, [np.zeros(2)], [[np.ones(2)]] * n)[0] for n in (1, 2, 3)]
  assert (seen[0] != seen[1]).all()
  np.testing.assert_array_equal(seen[1], seen[2])


@pytest.mark.parametrize(
  ('kwargs', 'message'),
  [
    ({'name': 'sdg'}, "`optimizer` must be one of sgd, rmsprop.* got 'sdg'"),
    ({'clip_norm': 0.0}, '`clip_norm` must be positive, got 0.0'),
    ({'clip_value': float('nan')}, '`clip_value` must be positive, got nan'),
    ({'clip_norm': 1.0, 'clip_value': 1.0}, 'give only one of clip_value, clip_norm'),
  ],
)
def test_what_makes_no_sense_is_refused(kwargs, message):
  with pytest.raises(ValueError, match=message):
    optim.make_optimizer(**{'name': 'adam', 'learning_rate': 0.1} | kwargs)


def model_params():
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
  return {
    'embedding': {'embedding': draw(7, 3)},
    'encoder': {'kernel': draw(3, 4), 'bias': draw(4)},
    'encoder_2': {'kernel': draw(4, 2)},
  }


@pytest.mark.parametrize(
  'tx',
  [
    optax.adamw(0.1, weight_decay=0.5),
    optax.sgd(0.1, momentum=0.9),
    optax.chain(optax.add_decayed_weights(0.3), optim.rmsprop(0.1)),
    optim.make_optimizer('adam', 0.1, clip_global_norm=1.0),
  ],
  ids=['adamw', 'momentum', 'decay', 'clipped'],
)
def test_nothing_moves_what_is_frozen(tx):
  params = model_params()
  frozen = optim.freeze(tx, 'embedding', 'encoder/bias')
  state = frozen.init(params)
  # The state holds nothing for what is frozen either: no array of its shape.
  shapes = {getattr(leaf, 'shape', ()) for leaf in jax.tree.leaves(state)}
  assert not shapes & {(7, 3), (4,)}
  new = params
  for seed in range(3):
    grads = jax.tree.map(lambda p: p + seed + 1e3, params)  # noqa: B023
    grads['embedding'] = jax.tree.map(lambda p: p * jnp.nan, params['embedding'])
    updates, state = frozen.update(grads, state, new)
    new = optax.apply_updates(new, updates)
  np.testing.assert_array_equal(
    new['embedding']['embedding'], params['embedding']['embedding']
  )
  np.testing.assert_array_equal(new['encoder']['bias'], params['encoder']['bias'])
  for layer in ('encoder', 'encoder_2'):  # and a common beginning is not a name
    moved = np.abs(new[layer]['kernel'] - params[layer]['kernel'])
    assert 0.01 < moved.min() < np.inf
    assert np.isfinite(moved).all()


def test_the_others_move_as_if_alone():
  params = model_params()
  alone = {k: v for k, v in params.items() if k != 'embedding'}
  tx = optim.make_optimizer('rmsprop', 0.1, clip_global_norm=1.0)
  updates, _ = optim.freeze(tx, 'embedding').update(
    params, optim.freeze(tx, 'embedding').init(params), params
  )
  want, _ = tx.update(alone, tx.init(alone), alone)
  del updates['embedding']
  jax.tree.map(np.testing.assert_array_equal, updates, want)


@pytest.mark.parametrize('path', ['embeding', 'encoder/kernels', 'enc', 'kernel'])
def test_a_path_that_names_nothing_is_refused(path):
  with pytest.raises(ValueError, match=f"no parameter to freeze at '{path}'"):
    optim.freeze(optim.adam(0.1), 'encoder', path).init(model_params())


def named(tensors):
  return dict(zip(('kernel', 'bias'), map(jnp.asarray, tensors), strict=True))


@pytest.mark.parametrize(
  ('name', 'options', 'theirs'),
  [
    ('sgd', {}, lambda: keras.optimizers.SGD(0.1)),
    ('sgd', {'momentum': 0.9}, lambda: keras.optimizers.SGD(0.1, momentum=0.9)),
    (
      'sgd',
      {'momentum': 0.9, 'nesterov': True},
      lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    ),
    ('rmsprop', {'momentum': 0.5}, lambda: keras.optimizers.RMSprop(0.1, momentum=0.5)),
    ('adamw', {}, lambda: keras.optimizers.AdamW(0.1)),
    (
      'adamw',
      {'weight_decay': 0.3},
      lambda: keras.optimizers.AdamW(0.1, weight_decay=0.3),
    ),
    (
      'sgd',
      {'weight_decay': 0.3},
      lambda: keras.optimizers.SGD(0.1, weight_decay=0.3),
    ),
    ('lion', {}, lambda: keras.optimizers.Lion(0.1)),
  ],
)
def test_every_optimizer_is_that_of_keras(name, options, theirs):
  start, gradients = random_gradients((1.0, 1.0), 1)[0], random_gradients((1.0, 2.0), 5)
  optimizer = theirs()
  if optimizer.weight_decay:
    optimizer.exclude_from_weight_decay(var_names=['bias'])
  variables = [
    keras.Variable(p, name=n) for p, n in zip(start, ('kernel', 'bias'), strict=True)
  ]
  optimizer.build(variables)
  tx = optim.make_optimizer(name, 0.1, **options)
  params = named(start)
  state = tx.init(params)
  for grads in gradients:
    optimizer.apply(list(map(jnp.asarray, grads)))
    updates, state = tx.update(named(grads), state, params)
    params = optax.apply_updates(params, updates)
  for variable in variables:
    got = params[variable.name]
    np.testing.assert_allclose(got, variable.value, rtol=1e-6, atol=1e-6)


def test_adafactor_is_optax_s_and_decay_takes_kernels_alone():
  start, grads = (
    named([np.ones((3, 4)), np.ones(5)]),
    named([np.ones((3, 4)), np.ones(5)]),
  )
  tx, plain = optim.make_optimizer('adafactor', 0.1), optax.adafactor(0.1)
  got, want = (t.update(grads, t.init(start), start)[0] for t in (tx, plain))
  np.testing.assert_allclose(got['kernel'], want['kernel'], rtol=1e-6)
  tx = optim.make_optimizer('sgd', 0.1, weight_decay=0.5)
  updates, _ = tx.update(jax.tree.map(jnp.zeros_like, grads), tx.init(start), start)
  np.testing.assert_allclose(updates['kernel'], -0.1 * 0.5)
  np.testing.assert_array_equal(updates['bias'], 0)


@pytest.mark.parametrize(
  ('options', 'theirs'),
  [
    ({'name': 'constant'}, lambda step: 0.2),
    ({'name': 'cosine'}, keras.optimizers.schedules.CosineDecay(0.2, 40)),
    (
      {'name': 'cosine', 'final_share': 0.1, 'warmup_steps': 10},
      keras.optimizers.schedules.CosineDecay(
        0.0, 30, alpha=0.1, warmup_target=0.2, warmup_steps=10
      ),
    ),
    (
      {'name': 'linear', 'final_share': 0.25},
      keras.optimizers.schedules.PolynomialDecay(0.2, 40, 0.05),
    ),
    (
      {'name': 'exponential', 'final_share': 0.01},
      keras.optimizers.schedules.ExponentialDecay(0.2, 40, 0.01),
    ),
    (
      {'name': 'piecewise', 'changes': {10: 0.5, 20: 0.1}},
      # Keras changes after the boundary, optax at it.
      keras.optimizers.schedules.PiecewiseConstantDecay([9, 19], [0.2, 0.1, 0.01]),
    ),
    (
      {'name': 'piecewise', 'changes': {10: 0.5}, 'warmup_steps': 4},
      lambda step: step * 0.05 if step < 4 else 0.2 if step < 10 else 0.1,
    ),
  ],
)
def test_every_schedule_is_that_of_keras(options, theirs):
  rate = optim.make_schedule(
    options.pop('name'), learning_rate=0.2, num_steps=40, **options
  )
  for step in range(41):
    got = rate(step) if callable(rate) else rate
    np.testing.assert_allclose(got, theirs(step), rtol=1e-6, atol=1e-7, err_msg=step)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'name': 'step'}, "`schedule` must be one of constant, .* got 'step'"),
    ({'name': 'exponential'}, '`final_share` above 0'),
    ({'name': 'constant', 'final_share': 0.1}, 'for a rate that falls'),
    ({'name': 'cosine', 'changes': {1: 0.1}}, 'need each other'),
    ({'name': 'cosine', 'warmup_steps': 40}, 'less than the 40'),
    (
      {'name': 'piecewise', 'changes': {3: 0.1}, 'warmup_steps': 3},
      'after the 3 `warmup_steps`',
    ),
  ],
)
def test_a_schedule_that_makes_no_sense_is_refused(options, message):
  with pytest.raises(ValueError, match=message):
    optim.make_schedule(learning_rate=0.1, num_steps=40, **options)


def test_a_mean_and_a_plateau_lie_in_the_state():
  tx = optim.with_mean(optax.chain(optax.sgd(1.0), optim.reducible()), 0.75)
  params = named([np.zeros((3, 4)), np.zeros(5)])
  state = optim.reduce_rate(tx.init(params), 0.5)
  ones = jax.tree.map(jnp.ones_like, params)
  for _ in range(2):
    updates, state = tx.update(ones, state, params)
    params = optax.apply_updates(params, updates)
  np.testing.assert_allclose(params['bias'], -1.0)  # two steps of a half
  np.testing.assert_allclose(optim.mean_params(state)['bias'], 0.75 * -0.125 - 0.25)
