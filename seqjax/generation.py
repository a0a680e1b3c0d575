"""Text from a language model, token by token: a pure function that can go on.

What `generate` returns beside the tokens is all that the next call needs: two calls of
100 give the tokens of one of 200.

Example:
  >>> layer = sj.LSTM(8, return_sequences=True, return_carry=True)
  >>> model, prompt = sj.LanguageModel(65, 16, layer), np.array([[3, 1, 4]])
  >>> params = model.init(jax.random.key(0), prompt, train=False)['params']
  >>> text = sj.generation.start(model, params, prompt, jax.random.key(1))
  >>> text, ids = sj.generation.generate(model, params, text, 20, temperature=0.8)
  >>> text, more = sj.generation.generate(model, params, text, 5, temperature=0.8)
  >>> ids.shape, more.shape
  ((1, 20), (1, 5))
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from seqjax.layers import RecurrentLayer, Stack
from seqjax.layers.base import call_options, declared
from seqjax.layers.stack import from_the_end
from seqjax.models import LanguageModel
from seqjax.types import Array, PyTree


class Text(NamedTuple):
  """Where a text stands."""

  carry: PyTree  # of the layers, before they have read `last`
  last: Array  # int [B], the newest token
  key: Array  # of the draws to come


class _Sampling(NamedTuple):
  temperature: float
  top_k: int | None
  top_p: float | None
  never: tuple[int, ...]


def start(model: LanguageModel, params: PyTree, prompt: Any, key: Array) -> Text:
  """Reads the beginning of a text.

  Args:
    model: The language model.
    params: Its parameters.
    prompt: int [B, P], P > 0; all rows are as long.
    key: Of all draws that follow.

  Raises:
    ValueError: The prompt is empty, or an id of it is outside the vocabulary.
  """
  ids = np.asarray(prompt)
  if ids.ndim != 2 or not ids.shape[1] or not np.issubdtype(ids.dtype, np.integer):
    raise ValueError(
      f'prompt must be int [B, P] with P > 0, got {ids.dtype} {ids.shape}'
    )
  if not 0 <= ids.min() <= ids.max() < model.vocab_size:
    raise ValueError(f'prompt has ids outside [0, {model.vocab_size})')
  carry = model.zero_carry(len(ids))
  if ids.shape[1] > 1:
    carry = _read(model, params, carry, jnp.asarray(ids[:, :-1]))
  return Text(carry, jnp.asarray(ids[:, -1]), key)


def generate(
  model: LanguageModel,
  params: PyTree,
  text: Text,
  num_steps: int,
  *,
  temperature: float = 1.0,
  top_k: int | None = None,
  top_p: float | None = None,
  never: Sequence[int] = (),
) -> tuple[Text, Array]:
  """Goes on with a text.

  The steps are a loop on the cells, in one compiled program. Dropout is off.

  Args:
    model: The language model: recurrent layers that go forward.
    params: Its parameters.
    text: From `start`, or an earlier call.
    num_steps: Tokens to add.
    temperature: What the logits are divided by; 0: the most likely token.
    top_k: Draw among this many, the most likely ones.
    top_p: Draw among the most likely ones that have this probability together, at the
      temperature; one at least. Source: Holtzman et al. 2020, arXiv:1904.09751.
    never: Ids that are not drawn, such as that of unknown words.

  Returns:
    Where the text stands now, and the tokens that were added, int32 [B, num_steps].

  Raises:
    ValueError: A number is outside its range, or a layer does not go forward.
  """
  if num_steps < 1 or not 0 <= temperature < np.inf:
    raise ValueError(
      f'num_steps must be at least 1 and temperature 0 or more, got {num_steps} and '
      f'{temperature}'
    )
  if top_k is not None and top_k < 1:
    raise ValueError(f'top_k must be at least 1, got {top_k}')
  if top_p is not None and not 0 < top_p <= 1:
    raise ValueError(f'top_p must be in (0, 1], got {top_p}')
  for part in from_the_end(model.encoder):
    raise ValueError(f'{type(part).__name__} reads from the end: it cannot write')
  sampling = _Sampling(temperature, top_k, top_p, tuple(never))
  return _run(model, num_steps, sampling, params, text)


@functools.partial(jax.jit, static_argnums=0)
def _read(model: LanguageModel, params: PyTree, carry: PyTree, ids: Array) -> PyTree:
  whole = model.clone(return_carry=True)
  options = call_options(whole, train=False)
  options['initial_carry'] = carry
  return whole.apply({'params': params}, ids, **options)[0]


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _run(
  model: LanguageModel, num_steps: int, sampling: _Sampling, params: PyTree, text: Text
) -> tuple[Text, Array]:
  def step(text: Text, _: None) -> tuple[Text, Array]:
    carry, logits = _logits(model, params, text.carry, text.last)
    key, now = jax.random.split(text.key)
    ids = _draw(logits, now, sampling).astype(text.last.dtype)
    return Text(carry, ids, key), ids

  text, ids = jax.lax.scan(step, text, length=num_steps)
  return text, jnp.moveaxis(ids, 0, 1)


def _logits(
  model: LanguageModel, params: PyTree, carry: PyTree, ids: Array
) -> tuple[PyTree, Array]:
  """One step: ids [B] -> (carry, logits [B, V])."""
  matrix = params['embedding']['embedding']
  carry, h = _step(model.encoder, params['encoder'], carry, matrix[ids])
  if model.tied:
    kernel, bias = matrix.T, params['bias']
  else:
    kernel, bias = params['head']['kernel'], params['head']['bias']
  logits = h @ kernel
  return carry, logits + jnp.broadcast_to(bias, logits.shape)


def _step(layer: Any, params: PyTree, carry: PyTree, x: Array) -> tuple[PyTree, Array]:
  """One step of a layer: its carry and x [B, D] -> (carry, y [B, H])."""
  if isinstance(layer, Stack):
    return _step_all(layer, params, carry, x)
  if isinstance(layer, RecurrentLayer) and layer.dtype is None:
    names = ('kernel', 'recurrent_kernel', 'bias')
    cell, weights = layer.cell(), layer.params_type(*(params.get(n) for n in names))
    projected = cell.project(weights, x[:, None])[:, 0]
    carry = cell.step(weights, carry, projected)
    return carry, carry.h
  if not isinstance(layer, nn.Module):
    return (), layer(x)
  options = call_options(layer, train=False)
  recurs = 'initial_carry' in declared(layer).takes
  if recurs:
    options['initial_carry'] = carry
  result: Any = layer.apply({'params': params}, x[:, None], **options)
  carry, y = result if recurs else ((), result)
  return carry, y[:, 0]


def _step_all(
  stack: Stack, params: PyTree, carries: PyTree, x: Array
) -> tuple[PyTree, Array]:
  given, last = list(carries), []
  names: dict[int, str] = {}  # a module that occurs twice has one name
  for index, layer in enumerate(stack.layers):
    name = names.setdefault(id(layer), f'layers_{index}')
    recurs = 'initial_carry' in declared(layer).takes
    carry, x = _step(layer, params.get(name, {}), given.pop(0) if recurs else (), x)
    if recurs:
      last.append(carry)
  return tuple(last), x


def _draw(logits: Array, key: Array, sampling: _Sampling) -> Array:
  """logits [B, V] -> ids [B]."""
  if sampling.never:
    logits = logits.at[:, jnp.array(sampling.never)].set(-jnp.inf)
  if sampling.temperature == 0:
    return jnp.argmax(logits, -1)
  logits = logits.astype(jnp.float32) / sampling.temperature
  V = logits.shape[-1]
  if sampling.top_k is not None and sampling.top_k < V:
    least = jax.lax.top_k(logits, sampling.top_k)[0][:, -1:]
    logits = jnp.where(logits < jnp.broadcast_to(least, logits.shape), -jnp.inf, logits)
  if sampling.top_p is not None and sampling.top_p < 1:
    order = jnp.argsort(-logits, -1)
    p = jnp.take_along_axis(jax.nn.softmax(logits), order, -1)
    # A token is kept while those before it have less than top_p together.
    kept = jnp.cumsum(p, -1) - p < sampling.top_p
    rank = jnp.argsort(order, -1)
    logits = jnp.where(jnp.take_along_axis(kept, rank, -1), logits, -jnp.inf)
  return jax.random.categorical(key, logits)
