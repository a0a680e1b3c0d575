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
    ({'name': 'sgd'}, "optimizer must be one of rmsprop, adam, got 'sgd'"),
    ({'clip_norm': 0.0}, 'clip_norm must be positive, got 0.0'),
    ({'clip_value': float('nan')}, 'clip_value must be positive, got nan'),
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
