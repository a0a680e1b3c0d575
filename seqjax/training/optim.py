"""RMSprop and Adam as Keras computes them, clipping of gradients, and freezing."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from seqjax.types import PyTree


def make_optimizer(
  name: Literal['rmsprop', 'adam'],
  learning_rate: float | optax.Schedule,
  *,
  clip_value: float | None = None,
  clip_norm: float | None = None,
  clip_global_norm: float | None = None,
) -> optax.GradientTransformation:
  """An optimiser with Keras's defaults, and at most one kind of clipping before it.

  Args:
    name: 'rmsprop' or 'adam'.
    learning_rate: Step size, or a schedule of the number of updates done.
    clip_value: Clips each gradient to [-clip_value, clip_value].
    clip_norm: Scales each tensor's gradient to at most this L2 norm.
    clip_global_norm: Scales all gradients together to at most this L2 norm.

  Raises:
    ValueError: if the name is unknown, a bound is not positive, or two are given.
  """
  optimizers = {'rmsprop': rmsprop, 'adam': adam}
  if name not in optimizers:
    raise ValueError(f'optimizer must be one of {", ".join(optimizers)}, got {name!r}')
  clips: dict[str, tuple[float | None, Callable[[float], optax.GradientTransformation]]]
  clips = {
    'clip_value': (clip_value, optax.clip),
    'clip_norm': (clip_norm, clip_by_norm),
    'clip_global_norm': (clip_global_norm, optax.clip_by_global_norm),
  }
  asked = {key: bound for key, (bound, _) in clips.items() if bound is not None}
  if len(asked) > 1:
    raise ValueError(f'give only one of {", ".join(clips)}, got {asked}')
  chain = []
  for key, bound in asked.items():
    if not bound > 0:
      raise ValueError(f'{key} must be positive, got {bound}')
    chain.append(clips[key][1](bound))
  return optax.chain(*chain, optimizers[name](learning_rate))


def rmsprop(learning_rate: float | optax.Schedule) -> optax.GradientTransformation:
  """v = 0.9 v + 0.1 g^2; p -= lr * g / sqrt(v + 1e-7), Keras's RMSprop.

  optax's own default eps, 1e-8, is up to three times off where gradients are tiny.

  Source: Keras 3's `RMSprop`, rho = 0.9; Hinton's lecture 6e of Coursera's "Neural
  networks for machine learning", 2012.
  """
  return optax.rmsprop(learning_rate, decay=0.9, eps=1e-7)


def adam(learning_rate: float | optax.Schedule) -> optax.GradientTransformation:
  """Keras's Adam, b1 = 0.9, b2 = 0.999, eps = 1e-7.

  p -= lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps): eps joins before the
  bias correction, as in the note below Algorithm 1 of the paper; optax.adam adds it
  after, and no constant eps makes the two equal.

  Source: Kingma & Ba 2015, arXiv:1412.6980, end of section 2.
  """
  return optax.chain(
    _scale_by_keras_adam(), optax.scale_by_learning_rate(learning_rate)
  )


def freeze(
  optimizer: optax.GradientTransformation, *paths: str
) -> optax.GradientTransformation:
  """`optimizer` for all parameters but some, which no term of it moves.

  No gradient, no momentum, no weight decay reaches a frozen parameter, and it has no
  part in a global norm; the optimiser keeps no state for it. Without paths it is
  `optimizer` itself.

  Args:
    optimizer: What the other parameters get.
    *paths: Parameters, or layers with all that is in them, by their names in `params`:
      'embedding', 'encoder/forward_layer', 'head/bias'.

  Raises:
    ValueError: at `init`, if a path names nothing.
  """

  if not paths:
    return optimizer

  def labels(tree: PyTree) -> PyTree:
    found: set[str] = set()

    def label(path: tuple, leaf: jax.Array) -> str:
      name = jax.tree_util.keystr(path, simple=True, separator='/')
      hits = {p for p in paths if f'{name}/'.startswith(f'{p}/')}
      found.update(hits)
      return 'frozen' if hits else 'trained'

    labelled = jax.tree_util.tree_map_with_path(label, tree)
    for path in paths:
      if path not in found:
        raise ValueError(f'no parameter to freeze at {path!r}')
    return labelled

  parts = {'trained': optimizer, 'frozen': optax.set_to_zero()}
  return optax.partition(parts, labels)


def _scale_by_keras_adam(
  b1: float = 0.9, b2: float = 0.999, eps: float = 1e-7
) -> optax.GradientTransformation:
  def init(params: PyTree) -> optax.ScaleByAdamState:
    # Two trees: a train step that donates its state may see no buffer twice.
    mu, nu = optax.tree.zeros_like(params), optax.tree.zeros_like(params)
    return optax.ScaleByAdamState(jnp.zeros([], jnp.int32), mu, nu)

  def update(
    grads: PyTree, state: optax.ScaleByAdamState, params: PyTree | None = None
  ) -> tuple[PyTree, optax.ScaleByAdamState]:
    del params
    count = optax.safe_increment(state.count)
    mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, grads)
    nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, grads)
    t = count.astype(jnp.float32)
    scale = jnp.sqrt(1 - b2**t) / (1 - b1**t)
    updates = jax.tree.map(lambda m, v: scale * m / (jnp.sqrt(v) + eps), mu, nu)
    return updates, optax.ScaleByAdamState(count, mu, nu)

  return optax.GradientTransformation(init, update)


def clip_by_norm(max_norm: float) -> optax.GradientTransformation:
  """Scales each tensor's gradient to an L2 norm of at most `max_norm`.

  Source: Keras's `clipnorm`.
  """

  def clip(g: jax.Array) -> jax.Array:
    norm = jnp.sqrt(jnp.sum(jnp.square(g)))
    return g * (max_norm / jnp.maximum(norm, max_norm))

  return optax.stateless(lambda grads, params: jax.tree.map(clip, grads))
