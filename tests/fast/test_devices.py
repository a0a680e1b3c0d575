"""A run cut over the devices of a mesh that is set: same values, one exchange."""

import re
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_cases import Case, make
from jax.sharding import AxisType, PartitionSpec

from seqjax import fast
from seqjax.cluster import mesh as mesh_lib
from seqjax.fast.devices import may_be_cut

_CASES = [
  (Case('lstm', (4, 3), T=9, padding='pre', recurrent_dropout=0.4), 'fast'),
  (Case('gru', (8,), T=9, padding='scattered', dropout=0.3), 'fast'),
  (Case('simple_rnn', (4, 3), T=9, padding='pre', recurrent_dropout=0.4), 'fast'),
  (Case('simple_rnn', (4,), T=9, options=('go_backwards',)), 'reference'),
  (Case('lstm', (4,), T=9, padding='post', recurrent_dropout=0.4), 'reference'),
]


def _pulled(implementation, cell, keywords, num_devices):
  """Jitted (params, x, carry) -> (outputs, gradients of their weighted sum)."""
  mesh = mesh_lib.make_mesh(num_devices, 4)

  def loss(params, x, carry):
    with mesh_lib.on(mesh):
      outputs = fast.recur_as(implementation, cell, params, x, carry, **keywords)
    weights = [jnp.cos(jnp.arange(y.size)).reshape(y.shape) for y in _leaves(outputs)]
    return sum(
      jnp.vdot(y, w) for y, w in zip(_leaves(outputs), weights, strict=True)
    ), outputs

  whole = mesh_lib.replicated(mesh)
  return jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True), in_shardings=whole)


def _leaves(tree):
  return jax.tree.leaves(tree)


def _exchanging(text):
  """The computations of a compiled program that hold an all-reduce."""
  found = re.findall(r'^(ENTRY )?%(\S+) \([^\n]*\{\n(.*?)^\}', text, re.M | re.S)
  assert len(found) > 5  # the loops are computations of their own
  return [entry or name for entry, name, body in found if ' all-reduce(' in body]


@pytest.mark.slow
@pytest.mark.parametrize(('case', 'implementation'), _CASES)
def test_each_device_runs_its_rows(case, implementation):
  cell, params, x, carry, keywords = make(case)
  runs = [_pulled(implementation, cell, keywords, n) for n in (1, 4)]
  one, four = (run(params, x, carry) for run in runs)
  assert len(_leaves(one)) == len(_leaves(four))
  for a, b in zip(_leaves(one), _leaves(four), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('implementation', ['fast', 'reference'])
def test_devices_exchange_nothing_in_the_loop_over_time(implementation):
  cell, params, x, carry, keywords = make(Case('lstm', (4,), T=9))
  run = _pulled(implementation, cell, keywords, 4)
  text = run.lower(params, x, carry).compile().as_text()
  assert _exchanging(text) == ['ENTRY ']


def test_a_table_is_projected_on_each_device_and_only_its_embedding_exchanged():
  cell, params, x, carry, _ = make(Case('gru', (8,), T=9))
  ids = jax.random.randint(jax.random.key(0), x.shape[:-1], 0, 7)
  embedding = jax.random.normal(jax.random.key(1), (7, x.shape[-1]))

  def gradient(num_devices):
    mesh = mesh_lib.make_mesh(num_devices, 8)

    def loss(params, embedding):
      with mesh_lib.on(mesh):
        lookup = fast.Lookup(ids, embedding)
        last, _ = fast.recur_as('fast', cell, params, lookup, carry)
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


@pytest.mark.parametrize(('num_devices', 'alone'), [(1, True), (2, False), (3, True)])
def test_chunks_are_planned_for_who_else_is_at_work(num_devices, alone):
  cell, params, x, carry, _ = make(Case('gru', (4,), T=5))
  mesh = mesh_lib.make_mesh(num_devices, 4 if num_devices < 3 else 3)

  def run(params, x, carry):
    with mesh_lib.on(mesh):
      return fast.recur_as('fast', cell, params, x, carry)

  names = fast.recur.__globals__
  planned = mock.Mock(wraps=names['make_plan'])
  with mock.patch.dict(names, make_plan=planned):
    jax.eval_shape(jax.jit(run), params, x, carry)
  assert {call.kwargs['alone'] for call in planned.call_args_list} == {alone}


def test_may_be_cut_is_false_on_one_device_and_where_all_axes_are_taken():
  assert may_be_cut()  # the tests' devices, and no mesh
  with mesh_lib.on(mesh_lib.make_mesh(1, 4)):
    assert not may_be_cut()
  two = mesh_lib.make_mesh(2, 4)
  with mesh_lib.on(two):
    assert may_be_cut()
  seen = []

  def inner(x):
    seen.append(may_be_cut())
    return x

  rows = PartitionSpec('data')
  jax.shard_map(inner, mesh=two, in_specs=rows, out_specs=rows)(jnp.zeros(4))
  jax.pmap(inner)(jnp.zeros((2, 4)))
  assert seen == [False, False]
  for other, cut in ((1, False), (2, True)):
    sizes, axis_types = (2, other), (AxisType.Auto,) * 2
    mesh = jax.make_mesh(sizes, ('data', 'other'), axis_types)
    keywords = {'in_specs': rows, 'out_specs': rows, 'axis_names': {'data'}}
    jax.jit(jax.shard_map(inner, mesh=mesh, **keywords))(jnp.zeros(4))
    assert seen[-1] == cut


def test_a_batch_that_does_not_divide_runs_uncut():
  cell, params, x, carry, keywords = make(Case('gru', (3,), T=5))
  one, four = (_pulled('fast', cell, keywords, n)(params, x, carry) for n in (1, 4))
  for a, b in zip(_leaves(one), _leaves(four), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
