"""Which layer of a file goes where, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.interop import keras as interop
from seqjax.interop.weights import LossyWarning
from seqjax.types import InputError


def gru(D, H, bias=True, value=0.0):
  params = {
    'kernel': jnp.full((D, 3 * H), value),
    'recurrent_kernel': jnp.full((H, 3 * H), value),
  }
  return params | ({'bias': jnp.full((2, 3 * H), value)} if bias else {})


def test_parameters_without_an_order_are_refused():
  gru = {'kernel': np.ones((3, 12)), 'recurrent_kernel': np.ones((4, 12))}
  with pytest.raises(InputError, match="'a', 'b' of params have the same shapes"):
    interop.from_params({'a': gru, 'b': gru})
  numbered = interop.from_params({'gru_10': gru, 'gru_9': gru})
  assert [layer.store for layer in numbered.values()] == [
    'layers/gru/cell',
    'layers/gru_1/cell',
  ]
  assert list(numbered) == ['gru_9', 'gru_10']
  assert numbered.ordered
  head = {'kernel': np.ones((4, 2))}
  mixed = interop.from_params({'b': head, 'gru_2': gru, 'gru_1': gru})
  assert {name: layer.store for name, layer in mixed.items()} == {
    'gru_1': 'layers/gru/cell',
    'gru_2': 'layers/gru_1/cell',
    'b': 'layers/dense',
  }
  with pytest.raises(ValueError, match='does not say in which order'):
    interop.arrays(mixed)
  ordered = interop.from_params({'b': gru, 'a': gru, 'c': head}, order=['c', 'a', 'b'])
  assert list(ordered) == ['c', 'a', 'b']
  assert ordered['b'].store == 'layers/gru_1/cell'
  with pytest.raises(ValueError, match='order must name each layer once'):
    interop.from_params({'a': gru, 'b': gru}, order=['a'])
  with pytest.raises(InputError, match='give like='):
    interop.from_params({'own': {'alpha': np.ones(3)}})


def test_a_mismatch_names_both_layers_and_both_shapes():
  params = {'encoder': gru(3, 4), 'head': {'kernel': jnp.ones((4, 2))}}
  weights = {'gru_7': gru(3, 5), 'dense': {'kernel': np.ones((4, 2), np.float32)}}
  with pytest.raises(InputError) as error:
    interop.load_into(params, weights)
  for part in ("'encoder'", "'gru_7'", 'kernel', '(3, 12)', '(3, 15)'):
    assert part in str(error.value)
  assert '\n' not in str(error.value)


def test_a_gru_of_the_other_reset_mode_is_refused():
  before = gru(3, 4) | {'bias': np.zeros(12, np.float32)}
  with pytest.raises(InputError, match=r'\(2, 12\).*\(12,\).*reset_after'):
    interop.load_into({'encoder': gru(3, 4)}, {'gru': before})
  with pytest.raises(InputError, match='bias is absent there'):
    interop.load_into({'encoder': gru(3, 4, bias=False)}, {'gru': gru(3, 4)})


def test_layers_left_over_are_listed():
  head = {'kernel': np.ones((4, 2), np.float32)}
  with pytest.raises(InputError, match=r"nothing for 'head' \(Dense: kernel \(4, 2\)"):
    interop.load_into({'encoder': gru(3, 4), 'head': head}, {'gru': gru(3, 4)})
  with pytest.raises(InputError, match=r"no place for 'dense' \(Dense: kernel"):
    interop.load_into({'encoder': gru(3, 4)}, {'gru': gru(3, 4), 'dense': head})
  loaded = interop.load_into(
    {'encoder': gru(3, 4)},
    {'gru': gru(3, 4, value=2.0), 'dense': head},
    allow_unused=True,
  )
  assert float(loaded['encoder']['kernel'].min()) == 2.0
  lstm = {'kernel': np.ones((3, 16)), 'recurrent_kernel': np.ones((4, 16))}
  with pytest.raises(InputError, match=r"'encoder' \(GRU.*'lstm' \(LSTM"):
    interop.load_into({'encoder': gru(3, 4)}, {'lstm': lstm})


def test_layers_of_the_same_shapes_need_numbers_or_a_mapping():
  weights = {f'gru_{i}': gru(4, 4, value=float(i)) for i in (2, 1)}
  with pytest.raises(InputError, match=r"'a', 'b' of the parameters .* mapping"):
    interop.load_into({'a': gru(4, 4), 'b': gru(4, 4)}, weights)
  params = {f'layers_{i}': gru(4, 4) for i in (11, 9)}
  loaded = interop.load_into(params, weights)  # a dict has an order: gru_2 is first
  assert float(loaded['layers_9']['kernel'].max()) == 2.0
  assert float(loaded['layers_11']['bias'].max()) == 1.0
  loaded = interop.load_into(
    params, weights, {'layers_9': 'gru_1', 'layers_11': 'gru_2'}
  )
  assert float(loaded['layers_9']['kernel'].max()) == 1.0
  with pytest.raises(InputError, match=r'has 2 layers .* fit 1 of the parameters'):
    interop.load_into({'encoder': gru(4, 4)}, weights, allow_unused=True)
  with pytest.raises(InputError, match=r"mapping names layer 'nope'.*'gru_2', 'gru_1'"):
    interop.load_into(params, weights, {'layers_9': 'nope'})
  with pytest.raises(InputError, match="'top/layers_9' more than once"):
    interop.load_into({'top': params}, weights, {'top/layers_9': 'gru_1', 'top': ''})


def test_a_mapping_leaves_other_layers_alone():
  params = {'encoder': gru(3, 4), 'other': gru(3, 4, value=5.0)}
  loaded = interop.load_into(
    params, {'gru': gru(3, 4, value=1.0), 'x': {'y': np.ones(3)}}, {'encoder': 'gru'}
  )
  assert float(loaded['encoder']['bias'].max()) == 1.0
  assert loaded['other']['kernel'] is params['other']['kernel']


def test_rounding_is_said_and_overflow_refused():
  params = jax.tree.map(lambda a: a.astype(jnp.bfloat16), {'encoder': gru(3, 4)})
  with pytest.warns(LossyWarning, match='kernel .* rounded to bfloat16 and 2 more'):
    loaded = interop.load_into(params, {'gru': gru(3, 4, value=1.001)})
  assert loaded['encoder']['kernel'].dtype == jnp.bfloat16
  loaded = interop.load_into(params, {'gru': gru(3, 4, value=0.5)})  # exact: no warning
  assert float(loaded['encoder']['kernel'].max()) == 0.5
  params = jax.tree.map(lambda a: a.astype(jnp.float16), params)
  with pytest.raises(InputError, match='does not fit into float16'):
    interop.load_into(params, {'gru': gru(3, 4, value=1e6)})
  integers = {'gru': jax.tree.map(lambda a: a.astype(np.int8), gru(3, 4))}
  with pytest.raises(InputError, match='int8, not floating point'):
    interop.load_into(params, integers)


def test_wrong_calls():
  weights = interop.from_params({'head': {'kernel': np.ones((3, 4))}})
  with pytest.raises(InputError, match=r'must end in \.weights\.h5'):
    interop.save_weights('weights.h5', weights)
  with pytest.raises(InputError, match='cannot be written'):
    interop.save_weights('/nonexistent/a.weights.h5', weights)
  with pytest.raises(ValueError, match='no place in a file'):
    interop.save_weights('a.weights.h5', interop.Weights({'a': interop.Layer({})}))
  with pytest.raises(TypeError, match="'head/kernel' is float"):
    interop.load_into({'head': {'kernel': 1.0}}, weights)
  with pytest.raises(ValueError, match='like='):
    interop.from_params({}, mapping={'a': 'b'})
