"""What every layer is made and called with: options, `train`, names, dtypes, copies."""

import copy
import functools
import pickle
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import InvalidRngError, NameInUseError, ScopeParamShapeError

import seqjax as sj
from seqjax import layers

B, T, D, H = 2, 5, 3, 4
# linen's own default is a closure, which pickle does not take.
dense = functools.partial(nn.Dense, kernel_init=nn.initializers.ones_init())
RECURRENT = {
  'simple_rnn': sj.SimpleRNN(H),
  'lstm': sj.LSTM(H, dropout=0.1),
  'gru': sj.GRU(H, reset_after=False),
  'layer_norm_lstm': sj.RNN(sj.LayerNormLSTMCell(H)),
  'layer_norm_gru': sj.RNN(sj.LayerNormGRUCell(H)),
  'zoneout': sj.RNN(sj.Zoneout(sj.LayerCell(sj.LSTM(H)), 0.1)),
  'both': sj.Bidirectional(sj.LSTM(H), merge_mode='sum'),
}
OTHERS = {
  'stack': sj.Stack([sj.LSTM(H, return_sequences=True), sj.GRU(2)]),
  'nested': sj.Stack([sj.Stack([dense(3)]), sj.TimeDistributed(dense(2))]),
  'embedding': sj.Embedding(5, 3),
  'conv': sj.Conv1D(2, 3, activation='relu'),
  'pool': sj.MaxPooling1D(),
  'average': sj.AveragePooling1D(padding='same'),
  'global_max': sj.GlobalMaxPooling1D(),
  'global_average': sj.GlobalAveragePooling1D(),
  'flatten': sj.Flatten(),
  'masking': sj.Masking(0.5),
  'layer_norm_rnn': sj.RNN(sj.LayerNormSimpleRNNCell(H, epsilon=0.1)),
  'both_of_a_stack': sj.Bidirectional(sj.Stack([dense(3), sj.LSTM(H)])),
  'repeat': sj.RepeatVector(2),
  'classifier': sj.SequenceClassifier(5, 3, sj.LSTM(H)),
  'regressor': sj.SequenceRegressor(sj.Bidirectional(sj.GRU(H))),
  'tagger': sj.SequenceTagger(5, 3, sj.GRU(H, return_sequences=True)),
  'conv_lstm': sj.ConvLSTM(2, [2, 2], padding='same'),
  'min_gru': sj.MinGRU(H),
  'peephole': sj.RNN(sj.PeepholeLSTMCell(H)),
  'scanned': sj.ScannedRNN(H, cell='lstm'),
}
ALL = RECURRENT | OTHERS


def random_x(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def init(layer, x, **kwargs):
  return jax.jit(functools.partial(layer.init, **kwargs))(jax.random.key(0), x)


@pytest.mark.parametrize('name', ALL)
def test_layers_hash_compare_copy_and_pickle(name):
  layer = ALL[name]
  assert hash(layer) == hash(layer.clone())
  copies = layer.clone(), copy.copy(layer), pickle.loads(pickle.dumps(layer))
  for other in copies:
    assert type(other) is type(layer)
    assert repr(other) == repr(layer)
    assert other == layer
  assert layer != sj.LSTM(H + 1)


def test_a_stack_is_a_static_argument_of_a_jit():
  layers = [sj.LSTM(H, return_sequences=True), sj.GRU(2)]
  x = random_x(B, T, D)
  variables = init(sj.Stack(layers), x, train=False)
  traces = []

  @functools.partial(jax.jit, static_argnums=0)
  def apply(model, variables, x):
    traces.append(model)
    return model.apply(variables, x, train=False)

  first, second = (apply(sj.Stack(layers), variables, x) for _ in range(2))
  np.testing.assert_array_equal(first, second)
  assert len(traces) == 1


@pytest.mark.parametrize(
  'make',
  [
    sj.SimpleRNN, sj.LSTM, sj.GRU, sj.LayerNormLSTMCell, sj.LayerNormGRUCell,
    functools.partial(sj.Embedding, 5), lambda size: sj.Conv1D(size, 2),
    sj.LayerNormSimpleRNNCell,
  ],
)  # fmt: skip
def test_no_number_of_features_is_refused_when_the_layer_is_made(make):
  for bad, message in ((None, 'an integer, got None'), (0, 'at least 1, got 0')):
    with pytest.raises(ValueError, match=f'features must be {message}'):
      make(bad)
    for name in ('vocab_size', 'embed_size'):
      sizes = {'vocab_size': 5, 'embed_size': 3} | {name: bad}
      with pytest.raises(ValueError, match=f'{name} must be {message}'):
        sj.SequenceClassifier(encoder=sj.LSTM(H), **sizes)


@pytest.mark.parametrize('name', RECURRENT)
def test_narrow_parameters_are_the_float32_ones_cast(name):
  x, dtypes = random_x(B, T, D), ('bfloat16', 'float16')
  layers = [RECURRENT[name], *(narrowed(RECURRENT[name], dtype) for dtype in dtypes)]

  @jax.jit
  def run(key):
    drawn = [layer.init(key, x, train=False) for layer in layers]
    return drawn, [
      layer.apply(variables, x, train=False)
      for layer, variables in zip(layers, drawn, strict=True)
    ]

  (want, *drawn), (full, *ys) = run(jax.random.key(0))
  for dtype, got, y in zip(dtypes, drawn, ys, strict=True):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
      assert a.dtype == dtype
      np.testing.assert_array_equal(a, np.asarray(b).astype(a.dtype))
    assert np.abs(y - full).max() < 0.03


def narrowed(module, dtype):
  """A copy of a layer, and of the layers in it, with parameters of `dtype`."""
  changes = {'param_dtype': dtype} if hasattr(module, 'param_dtype') else {}
  for name in ('cell', 'layer', 'forward_layer', 'backward_layer'):
    inner = getattr(module, name, None)
    if isinstance(inner, nn.Module):
      changes[name] = narrowed(inner, dtype)
  return module.clone(**changes)


def test_train_is_a_field_or_an_argument_by_name_or_place():
  x = random_x(B, T, D)
  layer = sj.LSTM(H, dropout=0.5)
  variables = init(layer, x, train=False)
  rngs = {'dropout': jax.random.key(1)}
  want = {
    train: layer.apply(variables, x, train=train, rngs=rngs) for train in (False, True)
  }
  assert np.abs(want[True] - want[False]).max() > 1e-3
  for train, y in want.items():
    np.testing.assert_array_equal(layer.apply(variables, x, train, rngs=rngs), y)
    field = layer.clone(train=train)
    np.testing.assert_array_equal(field.apply(variables, x, rngs=rngs), y)
    inner = {'params': {'layers_0': variables['params']}}
    said = sj.Stack([layer]).apply(inner, x, train=train, rngs=rngs)
    own = sj.Stack([field]).apply(inner, x, train=not train, rngs=rngs)
    np.testing.assert_array_equal(own, said)  # the field wins
  with pytest.raises(ValueError, match='train'):
    layer.clone(train=True).apply(variables, x, train=True, rngs=rngs)


@pytest.mark.parametrize('name', [*RECURRENT, 'stack', 'nested', 'regressor'])
def test_nobody_saying_train_is_an_error_that_says_how(name):
  x = random_x(B, T, D)
  message = r'needs train: layer\(x, train=...\) or \w+\(train=...\)'
  with pytest.raises(TypeError, match=message):
    ALL[name].init(jax.random.key(0), x)


@pytest.mark.parametrize(
  ('wrap', 'train'),
  [
    (lambda layer: sj.SequenceRegressor(layer), False),
    (lambda layer: sj.SequenceRegressor(layer), True),
    (lambda layer: sj.SequenceRegressor(sj.Bidirectional(layer)), True),
    (lambda layer: sj.SequenceRegressor(sj.Stack([layer, jnp.tanh])), True),
  ],
)
def test_remat_of_a_layer_in_a_model_changes_nothing(wrap, train):
  x, mask = random_x(B, T, D), np.arange(T) < np.array([[3], [5]])
  options = {'dropout': 0.3, 'recurrent_dropout': 0.3}
  plain = wrap(sj.LSTM(H, **options))
  variables = init(plain, x, train=False)
  rngs = {'dropout': jax.random.key(1)}
  place = nn.remat(sj.LSTM, static_argnums=(2,))(H, **options)
  field = nn.remat(sj.LSTM)(H, train=train, **options)

  @jax.jit
  def run(variables, x):
    def loss(variables, x, model):
      return jnp.sum(model.apply(variables, x, train=train, mask=mask, rngs=rngs) ** 2)

    both = jax.value_and_grad(loss, argnums=(0, 1))
    return [both(variables, x, model) for model in (plain, wrap(place), wrap(field))]

  want, *found = run(variables, x)
  for got in found:
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), got, want
    )


def test_a_traced_train_is_an_error_that_says_how():
  x = random_x(B, T, D)
  variables = init(sj.LSTM(H), x, train=False)
  with pytest.raises(TypeError, match=r'needs train as a Python bool.*static_argnums'):
    nn.remat(sj.LSTM)(H).apply(variables, x, train=True)


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: sj.LSTM(units=3), 'LSTM has no units: it is called features'),
    (lambda: sj.GRU(3, return_state=True), 'has no return_state: .* return_carry'),
    (lambda: sj.GRU(3, stateful=True), 'has no stateful: .* initial_carry'),
    (lambda: sj.Conv1D(filters=3, kernel_size=2), 'has no filters: .* features'),
    (lambda: sj.Embedding(5, output_dim=3), 'has no output_dim: .* features'),
    (lambda: sj.LSTM(3, colour='red'), 'LSTM has no argument colour'),
    (
      lambda: sj.LayerNormLSTMCell(3, layernorm_epsilon=0.1),
      'LayerNormLSTMCell has no layernorm_epsilon: it is called epsilon',
    ),
  ],
)
def test_names_of_other_libraries_are_told_theirs_here(make, message):
  with pytest.raises(TypeError, match=message):
    make()


@pytest.mark.parametrize('name', [*RECURRENT, 'stack', 'nested', 'regressor'])
def test_arguments_of_other_libraries_are_told_theirs_here(name):
  x = random_x(B, T, D)
  for argument, message in (
    ('deterministic', 'has no deterministic: its opposite is called train'),
    ('initial_state', 'has no initial_state: it is called initial_carry'),
    ('colour', 'has no argument colour'),
  ):
    with pytest.raises(TypeError, match=message):
      ALL[name].init(jax.random.key(0), x, **{argument: None})


@pytest.mark.parametrize('name', ['embedding', 'conv', 'pool', 'repeat', 'masking'])
def test_layers_that_never_draw_say_what_an_argument_is_called(name):
  x = np.ones((B, T), int) if name == 'embedding' else random_x(B, T, D)
  with pytest.raises(TypeError, match='has no training: it is called train'):
    ALL[name].init(jax.random.key(0), x, training=True)


@pytest.mark.parametrize(
  ('run', 'message'),
  [
    (
      lambda: sj.ScannedRNN(4, time_major=True),
      r'ScannedRNN has no time_major: its xs are \[T, B, D\]',
    ),
    *(
      (
        lambda name=name: sj.ScannedRNN(4).apply({}, None, None, **{name: None}),
        f'ScannedRNN has no {name}: {message}',
      )
      for name, message in (
        ('lengths', 'resets say'), ('train', 'it drops'), ('reset', 'resets come')
      )
    ),
    (lambda: sj.ConvLSTM(3, (3,), data_format='channels_last'), 'S, C], channels last'),
    (lambda: sj.ConvLSTM(3, (3,), keep_order=True), r'with go_backwards .* jnp.flip'),
    *(
      (
        lambda layer=layer, name=name: layer.apply({}, None, **{name: None}),
        f'has no {name}: a Stack hands it',
      )
      for layer in (sj.Embedding(5, 3), sj.RepeatVector(2))
      for name in ('lengths', 'mask')
    ),
  ],
)  # fmt: skip
def test_what_a_layer_has_not_is_told_with_the_way_to_do_it(run, message):
  with pytest.raises(TypeError, match=message):
    run()


def test_no_key_for_dropout_is_an_error_that_says_how():
  x = random_x(B, T, D)
  for layer in (sj.LSTM(H, dropout=0.1), RECURRENT['zoneout']):
    variables = init(layer, x, train=False)
    with pytest.raises(InvalidRngError, match=r"needs apply\(\.\.\., rngs=\{'dropout'"):
      layer.apply(variables, x, train=True)


class Two(NamedTuple):
  h: jax.Array
  past: sj.cells.LSTMCarry


class TwoCell(sj.RNNCell):
  """Its carry is a NamedTuple with another in it."""

  def zero_carry(self, batch_shape, dtype):
    zeros = jnp.zeros((*batch_shape, D), dtype)
    return Two(zeros, sj.cells.LSTMCarry(zeros, zeros))

  def __call__(self, carry, x, *, train):
    h, (before, c) = carry
    return Two(jnp.tanh(x + 0.5 * h + c), sj.cells.LSTMCarry(h, before + 0.1 * c))


def test_a_carry_with_carries_in_it_goes_on():
  x, layer = random_x(B, T, D), sj.RNN(TwoCell(), return_carry=True)
  run = functools.partial(layer.apply, {}, train=False)
  whole, _ = run(x)
  first, _ = run(x[:, :2])
  for given in (first, (first.h, list(first.past))):
    again, _ = run(x[:, 2:], initial_carry=given)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6), again, whole)
  for bad, message in (
    (first.h, r'initial_carry \(h, past\), got one array float32\(2, 3\)'),
    ((first.h, first.h), r'initial_carry.past \(h, c\), got one array float32\(2, 3\)'),
    (first._replace(h=x), r'initial_carry.h \(2, 3\), got \(2, 5, 3\)'),
  ):
    with pytest.raises(ValueError, match=message):
      run(x, initial_carry=bad)


ONE = np.zeros((4, 4), 'f')
CARRY = sj.cells.LSTMCarry(ONE[:B], ONE[:B])


@pytest.mark.parametrize(
  ('layer', 'bad', 'message'),
  [
    (sj.LSTM(H), ONE[:B], r'LSTM needs initial_carry \(h, c\), got one array float32'),
    (sj.LSTM(H), {'h': ONE, 'c': ONE}, r'initial_carry \(h, c\), got a dict'),
    (sj.LSTM(H), 0.0, r'initial_carry \(h, c\), got a float'),
    (sj.GRU(H), ONE[:1], r'GRU needs initial_carry \(h\), got one array float32\(1, 4'),
    (sj.SimpleRNN(H), jnp.float32(0), r'carry \(h\), got one array float32\(\)'),
    (sj.Bidirectional(sj.LSTM(H)), ONE, r'backward\), got one array float32\(4, 4\)'),
    (sj.Bidirectional(sj.LSTM(H)), CARRY, r'backward\), got one LSTMCarry'),
    (sj.Stack([sj.LSTM(H)]), CARRY, 'needs 1 initial carries.*, got one LSTMCarry'),
    (
      sj.Stack([sj.LSTM(H, return_sequences=True), sj.GRU(H)]), ONE[:B],
      r'needs 2 initial carries.*, got one array float32\(2, 4\)',
    ),
    (
      sj.ConvLSTM(2, (2,)), ONE,
      r'ConvLSTM needs initial_carry \(h, c\), got one array float32\(4, 4\)',
    ),
  ],
)  # fmt: skip
def test_one_array_is_no_carry_of_several(layer, bad, message):
  x = random_x(B, T, D, 1) if isinstance(layer, sj.ConvLSTM) else random_x(B, T, D)
  with pytest.raises(ValueError, match=message):
    layer.init(jax.random.key(0), x, train=False, initial_carry=bad)


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: sj.TimeDistributed(None), 'layer must be a module or a func.* NoneType'),
    (lambda: sj.Stack([sj.GRU(H), None]), r'layers\[1\] must be a module .* NoneType'),
    (lambda: sj.Stack(sj.LSTM(H)), 'layers must be a list of layers, got one LSTM'),
    (lambda: sj.SequenceClassifier(5, 3, None), 'encoder must be a module .* NoneType'),
    (lambda: sj.SequenceRegressor(None), 'encoder must be a module .* NoneType'),
    *(
      (lambda make=make, bad=bad: make(H, epsilon=bad), f'epsilon .* 0, got {bad}')
      for make in (sj.LayerNormLSTMCell, sj.LayerNormGRUCell, sj.LayerNormSimpleRNNCell)
      for bad in (None, -1)
    ),
    (lambda: sj.Masking(None), 'mask_value must be a number, got None'),
    (lambda: sj.ConvLSTM(3, 3), 'kernel_size must have one number or two, got 3'),
    (lambda: sj.ConvLSTM(3, None), 'kernel_size must have one number or two, got None'),
    (lambda: sj.LSTM(3, dropout=None), r'dropout must be in \[0, 1\), got None'),
  ],
)  # fmt: skip
def test_what_makes_no_layer_is_refused_when_it_is_made(make, message):
  with pytest.raises(ValueError, match=message):
    make()


@pytest.mark.parametrize(
  'layer',
  [sj.ConvLSTM(2, (2,)), sj.RNN(sj.PeepholeLSTMCell(2)), sj.MinGRU(2)],
  ids=['ConvLSTM', 'PeepholeLSTMCell', 'MinGRU'],
)
def test_parameters_are_float32_whatever_x_is(layer):
  axes = (2, 3, 4, 1) if isinstance(layer, sj.ConvLSTM) else (2, 3, 4)
  dtypes = ('bfloat16', 'float32', 'float64')
  with jax.enable_x64(True):
    x = np.random.default_rng(0).standard_normal(axes)

    @jax.jit
    def run(some):
      found = []
      for x in some:
        y, variables = layer.init_with_output(jax.random.key(0), x, train=False)
        wide = x.astype('float64')
        found.append((y, variables, layer.apply(variables, wide, train=False)))
      return found

    found = run([jnp.asarray(x, dtype) for dtype in dtypes])
    for dtype, (y, variables, exact) in zip(dtypes, found, strict=True):
      assert {a.dtype for a in jax.tree.leaves(variables)} == {np.dtype('float32')}
      assert y.dtype == max(dtype, 'float32')
      assert np.abs(np.float64(y) - np.float64(exact)).max() < 1e-5


def test_a_parameter_that_is_there_is_not_drawn_and_must_fit():
  drawn = []

  def kernel_init(key, shape, dtype):
    drawn.append(shape)
    return jnp.ones(shape, dtype)

  layer, x = sj.LSTM(H, kernel_init=kernel_init), jnp.ones((B, T, D))
  variables = layer.init(jax.random.key(0), x, train=False)
  assert drawn == [(D, 4 * H)]
  layer.apply(variables, x, train=False)
  assert len(drawn) == 1
  with pytest.raises(ScopeParamShapeError, match=r'"kernel" .*\(2, 16\).*\(3, 16\)'):
    layer.apply(variables, x[..., :2], train=False)


def test_two_parameters_of_one_name_are_refused():
  class Twice(layers.Layer):
    def setup(self):
      self.weights = [self.param('kernel', nn.initializers.ones, (2,)) for _ in 'ab']

    def __call__(self, x):
      return self.weights[0] + self.weights[1]

  with pytest.raises(NameInUseError, match='kernel'):
    Twice().init(jax.random.key(0), 1.0)
