"""A runner of any model in JAX: RMSprop on the binary cross-entropy, jitted whole."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from benchmarks.timing import Runner
from benchmarks.workload import Workload, data

Logits = Callable[[Any, Any, Any], Any]  # (params, x, key) -> [B]


def jax_runner(
  name: str,
  workload: Workload,
  params: Any,
  logits: Logits,
  batches: list[tuple[np.ndarray, np.ndarray]] | None = None,
) -> Runner:
  """Times a model in a plain jax.jit, on one device.

  Args:
    name: Of the row.
    workload: What to do.
    params: The model's parameters.
    logits: (params, x, key) -> [B].
    batches: What to run over each time; None: the workload's one batch.
  """
  tx = optax.rmsprop(1e-3, decay=0.9, eps=1e-7)
  batches = batches or [data(workload)]

  def train(state: Any, x: Any, y: Any) -> Any:
    params, opt_state, key = state
    key, step_key = jax.random.split(key)

    def loss(params: Any) -> Any:
      found = logits(params, x, step_key)
      return optax.sigmoid_binary_cross_entropy(found, y).mean()

    updates, opt_state = tx.update(jax.grad(loss)(params), opt_state, params)
    return optax.apply_updates(params, updates), opt_state, key

  def infer(state: Any, x: Any, y: Any) -> Any:
    del y
    return logits(state[0], x, None)

  # A copy: train gives its state away, and the caller's params are shared.
  state = (jax.tree.map(np.array, params), tx.init(params), jax.random.key(0))
  step = train if workload.training else infer
  return step_runner(name, step, state, batches, trains=workload.training)


def step_runner(
  name: str,
  step: Callable[[Any, Any, Any], Any],
  state: Any,
  batches: list[tuple[np.ndarray, np.ndarray]],
  *,
  trains: bool,
) -> Runner:
  """Compiles a step (state, x, y), which gives the next state if it trains."""
  state, batches = jax.device_put((state, batches))
  jitted = jax.jit(step, donate_argnums=0 if trains else ())
  start = time.perf_counter()
  compiled = jitted.lower(state, *batches[0]).compile()
  compile_seconds = time.perf_counter() - start

  def run() -> None:
    nonlocal state
    for batch in batches:
      out = jax.block_until_ready(compiled(state, *batch))
      state = out if trains else state

  memory = compiled.memory_analysis()
  temp_bytes = None if memory is None else memory.temp_size_in_bytes
  return Runner(name, run, temp_bytes, compile_seconds)
