"""Optimisers as Keras computes them, schedules, decay, running means, and freezing.

Example:
  >>> rate = sj.optim.make_schedule('cosine', 1e-3, num_steps=1000, warmup_steps=100)
  >>> tx = sj.optim.make_optimizer('rmsprop', rate, clip_global_norm=1.0)
  >>> params = {'kernel': jnp.ones((3, 4))}
  >>> updates, state = tx.update(params, tx.init(params), params)
  >>> params = optax.apply_updates(params, updates)
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from seqjax.types import InputError, PyTree


def make_optimizer(
  name: str,
  learning_rate: float | optax.Schedule,
  *,
  momentum: float = 0.0,
  nesterov: bool = False,
  weight_decay: float | None = None,
  clip_value: float | None = None,
  clip_norm: float | None = None,
  clip_global_norm: float | None = None,
) -> optax.GradientTransformation:
  """An optimiser with Keras's defaults, and at most one kind of clipping before it.

  Args:
    name: One of `OPTIMIZERS`.
    learning_rate: Step size, or a schedule of the number of updates done.
    momentum: Of sgd and rmsprop.
    nesterov: Whether theirs looks ahead.
    weight_decay: See `decay_weights`; None: adamw's 0.004, nothing for the others.
    clip_value: Clips each gradient to [-clip_value, clip_value].
    clip_norm: Scales each tensor's gradient to at most this L2 norm.
    clip_global_norm: Scales all gradients together to at most this L2 norm.

  Raises:
    InputError: if the name is unknown, two bounds are given or one is not positive, or
      the optimiser has no momentum.
  """
  if name not in OPTIMIZERS:
    raise InputError(
      f'`optimizer` must be one of {", ".join(OPTIMIZERS)}, got {name!r}'
    )
  clips: dict[str, tuple[float | None, Callable[[float], optax.GradientTransformation]]]
  clips = {
    'clip_value': (clip_value, optax.clip),
    'clip_norm': (clip_norm, clip_by_norm),
    'clip_global_norm': (clip_global_norm, optax.clip_by_global_norm),
  }
  given = {key: bound for key, (bound, _) in clips.items() if bound is not None}
  if len(given) > 1:
    raise InputError(f'give only one of {", ".join(clips)}, got {given}')
  chain = []
  for key, bound in given.items():
    if not bound > 0:
      raise InputError(f'`{key}` must be positive, got {bound}')
    chain.append(clips[key][1](bound))
  options: dict[str, Any] = {}
  if momentum or nesterov:
    if name not in ('sgd', 'rmsprop') or not momentum:
      raise InputError('`momentum` is of sgd and rmsprop, and `nesterov` needs it')
    options = {'momentum': momentum, 'nesterov': nesterov}
  chain.append(OPTIMIZERS[name](learning_rate, **options))
  if weight_decay is None and name == 'adamw':
    weight_decay = 0.004
  if weight_decay:
    chain.append(decay_weights(weight_decay, learning_rate))
  return optax.chain(*chain)


def make_schedule(
  name: str,
  learning_rate: float,
  num_steps: int,
  *,
  warmup_steps: int = 0,
  final_share: float = 0.0,
  changes: Mapping[int, float] | None = None,
) -> float | optax.Schedule:
  """The rate over the steps of a run, of optax; a constant one is a number.

  Args:
    name: One of `SCHEDULES`: 'constant', or from `learning_rate` down to `final_share`
      of it at the last step: 'cosine', 'linear', 'exponential'; or 'piecewise'.
    learning_rate: The highest.
    num_steps: Of the run.
    warmup_steps: Linearly from 0 within so many steps, before what the name says.
    final_share: Of `learning_rate`.
    changes: Of 'piecewise': step of the run, after the warmup -> factor of the rate
      from there on, on top of those before.

  Raises:
    InputError: if the name is unknown, or an argument does not fit it.
  """
  if name not in SCHEDULES:
    raise InputError(f'`schedule` must be one of {", ".join(SCHEDULES)}, got {name!r}')
  if (name == 'piecewise') != bool(changes):
    raise InputError('`schedule=piecewise` and `rate_changes` need each other')
  if final_share and name in ('constant', 'piecewise'):
    raise InputError(f'`final_share` is for a rate that falls, not for {name!r}')
  if name == 'exponential' and not final_share:
    raise InputError('`schedule=exponential` needs a `final_share` above 0')
  rest = num_steps - warmup_steps
  if rest < 1:
    raise InputError(
      f'`warmup_steps={warmup_steps}` must be less than the {num_steps} of the run'
    )
  low = learning_rate * final_share
  later = {step - warmup_steps: factor for step, factor in (changes or {}).items()}
  if any(step <= 0 for step in later):
    raise InputError(
      f'`rate_changes` must come after the {warmup_steps} `warmup_steps`, got {changes}'
    )
  made: dict[str, Callable[[], optax.Schedule]] = {
    'constant': lambda: optax.constant_schedule(learning_rate),
    'cosine': lambda: optax.cosine_decay_schedule(learning_rate, rest, final_share),
    'linear': lambda: optax.linear_schedule(learning_rate, low, rest),
    'exponential': lambda: optax.exponential_decay(learning_rate, rest, final_share),
    'piecewise': lambda: optax.piecewise_constant_schedule(learning_rate, later),
  }
  if not warmup_steps:
    return learning_rate if name == 'constant' else made[name]()
  warmup = optax.linear_schedule(0.0, learning_rate, warmup_steps)
  return optax.join_schedules([warmup, made[name]()], [warmup_steps])


def sgd(
  learning_rate: float | optax.Schedule, momentum: float = 0.0, nesterov: bool = False
) -> optax.GradientTransformation:
  """p -= lr * g; with momentum v = m v + g and p -= lr * v, or lr * (g + m v)."""
  return optax.sgd(learning_rate, momentum or None, nesterov)


def rmsprop(
  learning_rate: float | optax.Schedule, momentum: float = 0.0, nesterov: bool = False
) -> optax.GradientTransformation:
  """v = 0.9 v + 0.1 g^2; p -= lr * g / sqrt(v + 1e-7), Keras's RMSprop.

  With momentum p -= u, u = momentum u + that step.

  optax's own default eps, 1e-8, is up to three times off where gradients are tiny.

  Source: Keras 3's `RMSprop`, rho = 0.9; Hinton's lecture 6e of Coursera's "Neural
  networks for machine learning", 2012.
  """
  return optax.rmsprop(
    learning_rate, decay=0.9, eps=1e-7, momentum=momentum or None, nesterov=nesterov
  )


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


def lion(learning_rate: float | optax.Schedule) -> optax.GradientTransformation:
  """p -= lr * sign(0.9 m + 0.1 g), m = 0.99 m + 0.01 g.

  Source: Chen et al. 2023, arXiv:2302.06675.
  """
  return optax.lion(learning_rate, b1=0.9, b2=0.99, weight_decay=0.0)


# Those that a run can name. adamw is adam with its weights decayed.
OPTIMIZERS: Mapping[str, Callable[..., optax.GradientTransformation]] = {
  'sgd': sgd,
  'rmsprop': rmsprop,
  'adam': adam,
  'adamw': adam,
  'lion': lion,
  'adafactor': optax.adafactor,
}
SCHEDULES = ('constant', 'cosine', 'linear', 'exponential', 'piecewise')


def decay_weights(
  rate: float, learning_rate: float | optax.Schedule
) -> optax.GradientTransformation:
  """p -= lr * rate * p besides, of kernels alone: not of biases, norms and embeddings.

  Kernels are the parameters whose name ends so. Decoupled from the gradient, which it
  neither scales nor sees: after any optimiser.

  Source: Loshchilov & Hutter 2019, arXiv:1711.05101.
  """

  def init(params: PyTree) -> optax.ScaleByScheduleState:
    del params
    return optax.ScaleByScheduleState(jnp.zeros([], jnp.int32))

  def update(
    updates: PyTree, state: optax.ScaleByScheduleState, params: PyTree | None = None
  ) -> tuple[PyTree, optax.ScaleByScheduleState]:
    lr = learning_rate(state.count) if callable(learning_rate) else learning_rate

    def decay(path: tuple, u: jax.Array, p: jax.Array) -> jax.Array:
      name = jax.tree_util.keystr(path, simple=True, separator='/')
      return u - lr * rate * p if name.endswith('kernel') else u

    updates = jax.tree_util.tree_map_with_path(decay, updates, params)
    count = optax.safe_increment(state.count)
    return updates, optax.ScaleByScheduleState(count)

  return optax.GradientTransformation(init, update)


class RateState(NamedTuple):
  """What the steps of a run are multiplied by; a plateau lowers it."""

  rate_factor: jax.Array


def reducible() -> optax.GradientTransformation:
  """Multiplies the updates by a number in the state that `reduce_rate` lowers."""

  def init(params: PyTree) -> RateState:
    del params
    return RateState(jnp.ones([]))

  def update(
    updates: PyTree, state: RateState, params: PyTree | None = None
  ) -> tuple[PyTree, RateState]:
    del params
    return jax.tree.map(lambda u: u * state.rate_factor, updates), state

  return optax.GradientTransformation(init, update)


def reduce_rate(opt_state: PyTree, factor: float) -> PyTree:
  """The state of an optimiser with `reducible` in it, its rate times the factor."""
  now = optax.tree.get(opt_state, 'rate_factor')
  return optax.tree.set(opt_state, rate_factor=now * factor)


class MeanState(NamedTuple):
  """The running mean of the parameters."""

  mean_params: PyTree


def with_mean(
  optimizer: optax.GradientTransformation, decay: float
) -> optax.GradientTransformation:
  """The optimiser, that keeps m = decay m + (1 - decay) p besides, from m = p at first.

  Source: Polyak & Juditsky 1992; Keras's `use_ema`.
  """

  def init(params: PyTree) -> MeanState:
    # Copies: a train step that donates its state may see no buffer twice.
    return MeanState(jax.tree.map(jnp.copy, params))

  def update(
    updates: PyTree, state: MeanState, params: PyTree | None = None
  ) -> tuple[PyTree, MeanState]:
    moved = optax.apply_updates(params, updates)
    return updates, MeanState(
      jax.tree.map(lambda m, p: decay * m + (1 - decay) * p, state.mean_params, moved)
    )

  return optax.chain(optimizer, optax.GradientTransformation(init, update))


def mean_params(opt_state: PyTree) -> PyTree | None:
  """The running mean in the state of `with_mean`; None where there is none."""
  return optax.tree.get(opt_state, 'mean_params')


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
    InputError: at `init`, if a path names nothing.
  """

  if not paths:
    return optimizer

  def labels(tree: PyTree) -> PyTree:
    used: set[str] = set()

    def label(path: tuple, leaf: jax.Array) -> str:
      name = jax.tree_util.keystr(path, simple=True, separator='/')
      hits = {p for p in paths if f'{name}/'.startswith(f'{p}/')}
      used.update(hits)
      return 'frozen' if hits else 'trained'

    labelled = jax.tree_util.tree_map_with_path(label, tree)
    for path in paths:
      if path not in used:
        raise InputError(f'no parameter to freeze at {path!r}')
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
