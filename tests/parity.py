"""When another library and we compute the same: the rule of the tests against peers.

For each output, and each gradient of a weight, the inputs or an initial state: in
float32 no element differs by more than 1e-5 of the tensor's largest.

Now and then the terms of a gradient cancel until their rounding exceeds 1e-5 of what is
left: then the exact gradient itself, of weights and inputs moved by one rounding of a
float32, is another one. By four times as much as it moves may such a tensor differ
besides, if the two agree to 1e-10 in float64. About one configuration in a hundred is
like that; one in twenty-five may be, since draws come in groups that are alike. Every
tenth one is compared in float64 in any case.
"""

import hypothesis
import jax
import numpy as np
from hypothesis import HealthCheck, Phase

TOLERANCE, TOLERANCE_FLOAT64, MARGIN = 1e-5, 1e-10, 4
# Small programs that run once: LLVM's expensive passes don't pay, nor a module cut into
# parts. A GRU's gradient compiles in 0.07 s, and in 0.36 with the first two alone.
QUICK = {
  'xla_llvm_disable_expensive_passes': True,
  'xla_backend_optimization_level': 0,
  'xla_cpu_parallel_codegen_split_count': 1,
}
if jax.__version_info__ < (0, 11):  # later ones refuse it
  QUICK['xla_cpu_use_fusion_emitters'] = False


def check(make_ours, make_theirs, arguments, *, in_float64=False):
  """Asserts the rule.

  Args:
    make_ours: dtype -> function of `arguments`, a list of outputs and gradients.
    make_theirs: The same of the other library.
    arguments: Tree of float32 arrays.
    in_float64: Compare in float64 too, in any case.

  Returns:
    Whether some tensor needed the larger bound.
  """
  got, want = make_ours('float32')(arguments), make_theirs('float32')(arguments)
  distance, bound = distances(got, want), TOLERANCE * largest(want)
  needed = bool(np.any(distance > bound))
  if needed or in_float64:
    with jax.enable_x64(True):
      run = make_ours('float64')
      exact, want = run(arguments), make_theirs('float64')(arguments)
      assert {a.dtype for a in (*exact, *want)} == {np.dtype('float64')}
      off = distances(exact, want) / np.maximum(largest(want), 1e-300)
      assert np.all(off <= TOLERANCE_FLOAT64), off
      # Sixteen: of a gradient of one number the largest of four moves is often small.
      moved = [run(moved_by_a_rounding(arguments, seed)) for seed in range(16)]
    bound = bound + MARGIN * np.max([distances(m, exact) for m in moved], axis=0)
  assert np.all(distance <= bound), (distance, bound)
  return needed


def for_all(strategy, seed, count, test):
  """Calls `test` with `count` draws of a strategy: always the same ones of a seed."""

  @hypothesis.settings(
    max_examples=count,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # shrinking would compile hundreds more
    suppress_health_check=list(HealthCheck),
  )
  @hypothesis.seed(seed)
  @hypothesis.given(strategy)
  def run(config):
    test(config)

  run()


def check_all(strategy, seed, count, check_one):
  """`check_one(config, in_float64=...)` for all draws; at most 4 % need the margin."""
  needed = []

  def test(config):
    needed.append(check_one(config, in_float64=len(needed) % 10 == 0))

  for_all(strategy, seed, count, test)
  assert len(needed) >= count
  assert sum(needed) <= count // 25


def largest(arrays):
  """The largest element of each."""
  return np.array([np.abs(a).max() for a in arrays], np.float64)


def distances(some, others):
  """The largest difference of each tensor."""
  for a, b in zip(some, others, strict=True):
    assert a.shape == b.shape
    assert np.isfinite(a).all()
  return largest([np.float64(a) - b for a, b in zip(some, others, strict=True)])


def moved_by_a_rounding(arguments, seed):
  """Each number of them, up or down by the rounding of a float32."""
  rng, step = np.random.default_rng(seed), np.finfo(np.float32).eps
  return jax.tree.map(
    lambda a: np.float64(a) * (1 + step * rng.choice([-1, 1], np.shape(a))), arguments
  )
