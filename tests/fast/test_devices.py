"""A run cut over the devices of a mesh that is set: same values, one exchange."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_cases import Case, make

from seqjax import fast
from seqjax.cluster import mesh as mesh_lib

pytestmark = pytest.mark.usefixtures('quick_programs')

_CASES = [
  (Case('lstm', (4, 3), T=9, padding='pre', recurrent_dropout=0.4), 'fast'),
  (Case('gru', (8,), T=9, padding='scattered', dropout=0.3), 'fast'),
  (Case('simple_rnn', (4, 3), T=9, padding='pre', recurrent_dropout=0.4), 'fast'),
  (Case('simple_rnn', (4,), T=9, options=('go_backwards',)), 'reference'),
  (Case('lstm', (4,), T=9, padding='post', recurrent_dropout=0.4), 'reference'),
  (Case('gru', (4,), T=9, carry=False), 'reference'),
  (Case('lstm', (4,), T=9, carry=False), 'fast'),
]


def _pulled(implementation, made, num_devices):
  """Jitted (params, x, carry) -> (outputs, gradients of their weighted sum)."""
  mesh = mesh_lib.make_mesh(num_devices, 4)
  cell, _, sequence, options = made

  def loss(params, x, carry):
    given = sequence._replace(x=x, carry=carry)
    with mesh_lib.on_mesh(mesh):
      outputs = fast.recur(cell, params, given, options, implementation)
    weights = [jnp.cos(jnp.arange(y.size)).reshape(y.shape) for y in _leaves(outputs)]
    return sum(
      jnp.vdot(y, w) for y, w in zip(_leaves(outputs), weights, strict=True)
    ), outputs

  whole = mesh_lib.replicated(mesh)
  return jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True), in_shardings=whole)


def _arguments(made):
  _, params, sequence, _ = made
  return params, sequence.x, sequence.carry


def _leaves(tree):
  return jax.tree.leaves(tree)


def _exchanging(text):
  """The computations of a compiled program that hold an all-reduce."""
  found = re.findall(r'^(ENTRY )?%(\S+) \([^\n]*\{\n(.*?)^\}', text, re.M | re.S)
  assert found
  return [entry or name for entry, name, body in found if ' all-reduce(' in body]


@pytest.mark.slow
@pytest.mark.parametrize(('case', 'implementation'), _CASES)
def test_each_device_runs_its_rows(case, implementation):
  made = make(case)
  runs = [_pulled(implementation, made, n) for n in (1, 4)]
  one, four = (run(*_arguments(made)) for run in runs)
  assert len(_leaves(one)) == len(_leaves(four))
  for a, b in zip(_leaves(one), _leaves(four), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('implementation', ['fast', 'reference'])
def test_devices_exchange_nothing_in_the_loop_over_time(implementation):
  made = make(Case('lstm', (4,), T=9))
  run = _pulled(implementation, made, 4)
  text = run.lower(*_arguments(made)).compile().as_text()
  assert _exchanging(text) == ['ENTRY ']


def test_a_table_is_projected_on_each_device_and_only_its_embedding_exchanged():
  cell, params, sequence, _ = make(Case('gru', (8,), T=9, vocab_size=7))
  embedding = sequence.x.embedding

  def gradient(num_devices):
    mesh = mesh_lib.make_mesh(num_devices, 8)

    def loss(params, embedding):
      with mesh_lib.on_mesh(mesh):
        lookup = sequence.x._replace(embedding=embedding)
        given = sequence._replace(x=lookup)
        last, _ = fast.recur(cell, params, given, implementation='fast')
      return (last.h**3).sum()

    whole = mesh_lib.replicated(mesh)
    jitted = jax.jit(jax.grad(loss, (0, 1)), in_shardings=whole)
    compiled = jitted.lower(params, embedding).compile()
    return compiled(params, embedding), compiled.as_text()

  (one, _), (four, text) = gradient(1), gradient(4)
  for a, b in zip(_leaves(one), _leaves(four), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
  assert any('f32[7,4]' in line for line in text.splitlines() if 'all-reduce(' in line)
  assert not any(
    'f32[7,15]' in line for line in text.splitlines() if 'all-reduce(' in line
  )


def test_a_batch_that_does_not_divide_runs_uncut():
  made = make(Case('gru', (3,), T=5))
  one, four = (_pulled('fast', made, n)(*_arguments(made)) for n in (1, 4))
  for a, b in zip(_leaves(one), _leaves(four), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
