"""Bidirectional, TimeDistributed, RepeatVector, Stack, RNN and regularised cells."""

import functools
import itertools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import numpy_rnn
import pytest

import seqjax as sj
from seqjax.layers.wrappers import MERGES

pytestmark = pytest.mark.usefixtures('quick_programs')

B, T, D, H = 2, 5, 3, 4
MASK = np.array([[0, 1, 0, 1, 0], [1, 1, 0, 0, 0]], bool)


def random_x(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def weights_of(kind, d=D, h=H, seed=0):
  arrays = numpy_rnn.random_params(np.random.default_rng(seed), kind, d, h)
  return dict(zip(('kernel', 'recurrent_kernel', 'bias'), arrays, strict=True))


def numpy_run(kind, params, x, **kwargs):
  return numpy_rnn.run(
    kind, (params['kernel'], params['recurrent_kernel'], params['bias']), x, **kwargs
  )


def apply(layer, params, *args, train=False, **kwargs):
  run = jax.jit(lambda p, a, k: layer.apply({'params': p}, *a, train=train, **k))
  return jax.device_get(run(params, args, kwargs))


def closes(got, want, tolerance=2e-5):
  np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance / 10)


BACK = sj.LSTM(3, return_sequences=True, go_backwards=True)


class TestBidirectional:
  PARAMS = {  # noqa: RUF012
    'forward_layer': weights_of('lstm'),
    'backward_layer': weights_of('lstm', seed=1),
  }

  def both(self, x, **kwargs):
    f = numpy_run('lstm', self.PARAMS['forward_layer'], x, **kwargs)
    b = numpy_run('lstm', self.PARAMS['backward_layer'], x, go_backwards=True, **kwargs)
    return f, b

  def test_every_merge_mode_of_sequences(self):
    x = random_x(B, T, D)
    (_, _, f), (_, _, b) = self.both(x, mask=MASK)
    b = b[:, ::-1]  # in the order of time
    layer = sj.Bidirectional(sj.LSTM(H, return_sequences=True), merge_mode=None)
    y = apply(layer, self.PARAMS, x, mask=MASK)
    closes(y[0], f)
    closes(y[1], b)
    want = {'concat': np.concatenate([f, b], -1), 'sum': f + b, 'mul': f * b}
    want['ave'] = (f + b) / 2
    assert MERGES.keys() == want.keys()
    for mode, merge in MERGES.items():
      closes(merge(f, b), want[mode])
    summed = sj.Bidirectional(sj.LSTM(H, return_sequences=True), merge_mode='sum')
    closes(apply(summed, self.PARAMS, x, mask=MASK), want['sum'])

  def test_last_outputs_and_carries(self):
    x = random_x(B, T, D)
    start = random_x(2, 2, B, H, seed=1)
    layer = sj.Bidirectional(sj.LSTM(H, return_carry=True))
    (f, b), y = apply(layer, self.PARAMS, x, mask=MASK, initial_carry=tuple(start))
    kwargs = {'mask': MASK}
    want_f = numpy_run(
      'lstm', self.PARAMS['forward_layer'], x, carry=start[0], **kwargs
    )
    want_b = numpy_run(
      'lstm', self.PARAMS['backward_layer'], x, carry=start[1], go_backwards=True,
      **kwargs,
    )  # fmt: skip
    for carry, want in ((f, want_f), (b, want_b)):
      closes(carry.h, want[0])
      closes(carry.c, want[1])
    closes(y, np.concatenate([want_f[0], want_b[0]], axis=-1))

  def test_reset_lets_no_episode_see_another(self):
    """Each episode alone gives the same outputs, in both directions."""
    x = random_x(B, T, D)
    reset = np.array([[0, 0, 1, 0, 0], [1, 0, 0, 1, 0]], bool)
    layer = sj.Bidirectional(sj.LSTM(H, return_sequences=True))
    y = apply(layer, self.PARAMS, x, reset=reset)
    for row, cuts in ((0, (0, 2, 5)), (1, (0, 3, 5))):
      for start, end in itertools.pairwise(cuts):
        (_, _, f), (_, _, b) = self.both(x[row : row + 1, start:end])
        want = np.concatenate([f, b[:, ::-1]], axis=-1)
        closes(y[row : row + 1, start:end], want)

  def test_two_different_layers(self):
    x = random_x(B, T, D)
    layer = sj.Bidirectional(
      sj.LSTM(H), sj.GRU(2, go_backwards=True), merge_mode='concat'
    )
    params = {
      'forward_layer': weights_of('lstm'),
      'backward_layer': weights_of('gru', h=2),
    }
    f = numpy_run('lstm', params['forward_layer'], x)[0]
    b = numpy_run('gru', params['backward_layer'], x, go_backwards=True)[0]
    closes(apply(layer, params, x), np.concatenate([f, b], axis=-1))

  def test_a_layer_that_goes_backwards_itself(self):
    """Keras's rule: the copy goes the other way."""
    x = random_x(B, T, D)
    layer = sj.Bidirectional(sj.LSTM(H, go_backwards=True, return_sequences=True))
    f = numpy_run('lstm', self.PARAMS['forward_layer'], x, go_backwards=True)[2]
    b = numpy_run('lstm', self.PARAMS['backward_layer'], x)[2]
    y = apply(layer, self.PARAMS, x)
    closes(y, np.concatenate([f[:, ::-1], b], axis=-1))

  @pytest.mark.parametrize(
    ('options', 'merge'),
    [({}, 'concat'), ({'return_sequences': True}, 'sum')],
    ids=['last', 'sequences'],
  )
  def test_both_directions_of_a_stack_are_those_of_keras(self, options, merge):
    """Its stacked cells: values, and gradients of all weights and of x, masked."""
    x, mask = random_x(B, T, D), np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool)
    cells = [keras.layers.LSTMCell(H), keras.layers.GRUCell(2, reset_after=False)]
    peer = keras.layers.Bidirectional(keras.layers.RNN(cells, **options), merge)
    params = [
      weights_of(kind, d, h, seed=seed)
      for seed in (0, 1)
      for kind, d, h in (('lstm', D, H), ('gru_reset_before', H, 2))
    ]
    stack = sj.Stack([
      sj.LSTM(H, return_sequences=True), sj.GRU(2, reset_after=False, **options)
    ])  # fmt: skip
    layer = sj.Bidirectional(stack, merge_mode=merge)

    def of_keras(params, x):
      arrays = [p[n] for p in params for n in ('kernel', 'recurrent_kernel', 'bias')]
      y = peer.stateless_call(arrays, rest, x, mask=mask)[0]
      real = mask[..., None] if options else 1  # there Keras has zeros
      return jnp.sum(y**2 * real)

    def loss(params, x):
      sides = [dict(zip(('layers_0', 'layers_1'), p, strict=True)) for p in params]
      tree = dict(zip(('forward_layer', 'backward_layer'), sides, strict=True))
      y = layer.apply({'params': tree}, x, train=False, mask=mask)
      return jnp.sum(y**2 * (mask[..., None] if options else 1))

    with jax.numpy_rank_promotion('allow'):
      peer.build(x.shape)
      rest = [v.value for v in peer.non_trainable_variables]
      want = jax.jit(jax.value_and_grad(of_keras, argnums=(0, 1)))(params, x)
    got = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))([params[:2], params[2:]], x)
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
      np.testing.assert_allclose(g, w, rtol=0, atol=1e-5 * max(1, np.abs(w).max()))

  def test_a_stack_in_both_directions_has_masks_resets_and_carries(self):
    """Each direction against loops; the Dense occurs twice, with the same weights."""
    ids = np.array([[3, 1, 2, 0, 0], [2, 0, 1, 4, 1]])
    reset = np.array([[0, 1, 0, 0, 0], [0, 0, 0, 1, 0]], bool)
    options, dense = {'return_sequences': True, 'return_carry': True}, nn.Dense(D)
    stack = sj.Stack([
      sj.Embedding(5, D, mask_zero=True), dense, sj.LSTM(D, **options), dense,
      sj.Stack([jnp.tanh]), sj.GRU(2, **options),
    ])  # fmt: skip
    layer = sj.Bidirectional(stack)
    params = {
      f'{side}_layer': {
        'layers_0': {'embedding': random_x(5, D, seed=seed)},
        'layers_1': {'kernel': random_x(D, D, seed=seed), 'bias': random_x(D)},
        'layers_2': weights_of('lstm', D, D, seed=seed),
        'layers_5': weights_of('gru', D, 2, seed=seed),
      }
      for seed, side in enumerate(('forward', 'backward'))
    }
    shapes = jax.eval_shape(
      functools.partial(layer.init, train=False), jax.random.key(0), ids
    )['params']
    jax.tree.map(lambda a, b: np.testing.assert_equal(a.shape, b.shape), shapes, params)
    start = [(tuple(random_x(2, B, D, seed=s)), (random_x(B, 2),)) for s in (2, 3)]
    carries, y = apply(layer, params, ids, reset=reset, initial_carry=start)
    ends = np.concatenate([reset[:, 1:], np.zeros((B, 1), bool)], axis=1)
    for i, (side, flags) in enumerate((('forward', reset), ('backward', ends))):
      p = params[f'{side}_layer']
      same = {'mask': ids != 0, 'reset': flags, 'go_backwards': i == 1}
      order = slice(None, None, -1 if i else 1)

      def per_step(a, p=p):
        return a @ p['layers_1']['kernel'] + p['layers_1']['bias']

      x = per_step(p['layers_0']['embedding'][ids])
      h, c, x = numpy_run('lstm', p['layers_2'], x, carry=start[i][0], **same)
      closes(carries[i][0].h, h)
      closes(carries[i][0].c, c)
      x = np.tanh(per_step(x[:, order]))
      h, _, x = numpy_run('gru', p['layers_5'], x, carry=start[i][1], **same)
      closes(carries[i][1].h, h)
      closes(y[..., 2 * i : 2 * i + 2], x[:, order])
    np.testing.assert_array_equal(layer.compute_mask(ids, None), ids != 0)

  def test_a_backward_stack_may_turn_its_steps_round(self):
    """Layers that work in the order of processing, as weights of Keras come in."""
    x, options = random_x(B, T, D), {'return_sequences': True}
    given = sj.Stack([sj.LSTM(H, go_backwards=True, **options), sj.GRU(2, **options)])
    stack = sj.Stack([sj.LSTM(H, **options), sj.GRU(2, **options)])
    side = {'layers_0': weights_of('lstm'), 'layers_1': weights_of('gru', H, 2)}
    params = {'forward_layer': side, 'backward_layer': side}
    want = apply(sj.Bidirectional(stack), params, x, mask=MASK)
    got = apply(sj.Bidirectional(stack, given), params, x, mask=MASK)
    closes(got, want, 1e-6)
    other = sj.Bidirectional(given, stack)
    np.testing.assert_array_equal(other.compute_mask(x, MASK), MASK)
    y = apply(other, params, x, mask=MASK)
    closes(y, np.roll(want, 2, axis=-1), 1e-6)

  def test_the_directions_are_drawn_apart(self):
    layer = sj.Bidirectional(sj.LSTM(H))
    shapes = jax.eval_shape(
      functools.partial(layer.init, train=False), jax.random.key(0), random_x(B, T, D)
    )
    assert set(shapes['params']) == {'forward_layer', 'backward_layer'}
    params = jax.jit(functools.partial(layer.init, train=False))(
      jax.random.key(0), random_x(B, T, D)
    )['params']
    f, b = params['forward_layer'], params['backward_layer']
    assert np.abs(f['kernel'] - b['kernel']).min() > 0

  @pytest.mark.parametrize(
    ('options', 'message'),
    [
      ({'merge_mode': 'add'}, "merge_mode must be one of concat, .* got 'add'"),
      ({'backward_layer': sj.LSTM(3)}, 'go_backwards set the other way'),
      ({'forward_layer': nn.Dense(3)}, 'forward_layer must be .* got Dense'),
      ({'forward_layer': sj.Stack([nn.Dense(3)])}, 'a Stack of such, got Stack'),
      (
        {'forward_layer': sj.Stack([BACK, BACK.clone(go_backwards=False)])},
        'forward_layer has a layer that goes backwards without keep_order',
      ),
      (
        {'forward_layer': sj.Stack([BACK.clone(keep_order=True), sj.LSTM(3)])},
        'forward_layer has layers that go different ways',
      ),
      ({'backward_layer': sj.Stack([sj.LSTM(3)])}, 'go_backwards set the other way'),
      ({'backward_layer': nn.Dense(3)}, 'backward_layer must be .* got Dense'),
      ({'forward_layer': sj.ConvLSTM(3, (3,))}, 'ConvLSTM: make two, .* go_backwards'),
      (
        {'backward_layer': sj.LSTM(3, go_backwards=True, return_sequences=True)},
        'differ in return_sequences',
      ),
    ],
  )
  def test_what_does_not_fit_is_refused(self, options, message):
    with pytest.raises(ValueError, match=message):
      sj.Bidirectional(**{'forward_layer': sj.LSTM(3)} | options)

  def test_wrong_arguments_are_named(self):
    x = random_x(B, T, D)
    with pytest.raises(ValueError, match=r'initial_carry \(forward, backward\), got 1'):
      apply(sj.Bidirectional(sj.LSTM(H)), self.PARAMS, x, initial_carry=(None,))
    layer = sj.Bidirectional(sj.LSTM(H), sj.GRU(2, go_backwards=True), merge_mode='sum')
    params = self.PARAMS | {'backward_layer': weights_of('gru', h=2)}
    with pytest.raises(ValueError, match=r"'sum' needs .* \(2, 4\) and \(2, 2\)"):
      apply(layer, params, x)


class TestTimeDistributed:
  def test_the_layer_sees_steps_as_rows(self):
    x = random_x(2, 3, 4, 5)
    seen = []

    def layer(rows):
      seen.append(rows.shape)
      return rows.sum(axis=(1, 2))[:, None]

    y = sj.TimeDistributed(layer).apply({}, x, train=False)
    assert seen == [(6, 4, 5)]
    closes(y, x.sum(axis=(2, 3))[..., None], 1e-5)

  def test_dense_at_every_step(self):
    x, params = random_x(B, T, D), {'kernel': random_x(D, 2), 'bias': random_x(2)}
    y = sj.TimeDistributed(nn.Dense(2)).apply(
      {'params': {'layer': params}}, x, train=False
    )
    closes(y, x @ params['kernel'] + params['bias'])

  def test_masks_pass_along(self):
    layer = sj.TimeDistributed(nn.Dense(2))
    assert layer.compute_mask(None, MASK) is MASK
    # Documents of sentences of words: the layer gets the words' mask.
    x, words = random_x(2, 3, 4, D), np.zeros((2, 3, 4), bool)
    words[0, :2, :3] = words[1, 0, 1:] = True
    params = weights_of('lstm')
    documents = sj.TimeDistributed(sj.LSTM(H))
    y = apply(documents, {'layer': params}, x, mask=words)
    want = numpy_run('lstm', params, x.reshape(6, 4, D), mask=words.reshape(6, 4))[0]
    closes(y, want.reshape(2, 3, H))
    np.testing.assert_array_equal(
      documents.compute_mask(x, jnp.asarray(words)), [[1, 1, 0], [1, 0, 0]]
    )

  def test_every_output_of_a_layer_gets_its_time_axis_back(self):
    x, params = random_x(2, 3, 4, D), weights_of('lstm')
    layer = sj.LSTM(H, return_sequences=True, return_carry=True)
    carry, y = apply(sj.TimeDistributed(layer), {'layer': params}, x)
    h, c, ys = numpy_run('lstm', params, x.reshape(6, 4, D))
    closes(y, ys.reshape(2, 3, 4, H))
    closes(carry.h, h.reshape(2, 3, H))
    closes(carry.c, c.reshape(2, 3, H))
    (carries, last), other = (
      apply(sj.Stack([sj.TimeDistributed(layer)]), {'layers_0': {'layer': params}}, x),
      y,
    )
    closes(last, other)
    closes(carries[0].h, carry.h)

  @pytest.mark.parametrize('nested', [False, True])
  def test_masks_made_inside_reach_the_layers_behind(self, nested):
    """Documents of sentences of words, id 0 padding, against a masked loop."""
    ids = np.random.default_rng(5).integers(0, 4, (2, 3, 4))
    ids[0, 2] = ids[1, 1] = 0  # sentences that are not there
    embedding = sj.Embedding(4, D, mask_zero=True)
    inner, outer = sj.LSTM(H, go_backwards=True), sj.LSTM(2)
    params = weights_of('lstm'), weights_of('lstm', H, 2, seed=1)
    matrix = {'embedding': random_x(4, D)}
    if nested:
      stack = sj.Stack([sj.TimeDistributed(sj.Stack([embedding, inner])), outer])
      tree = {
        'layers_0': {'layer': {'layers_0': matrix, 'layers_1': params[0]}},
        'layers_1': params[1],
      }
    else:
      stack = sj.Stack([
        sj.TimeDistributed(embedding), sj.TimeDistributed(inner), outer
      ])  # fmt: skip
      tree = {f'layers_{i}': {'layer': p} for i, p in enumerate((matrix, params[0]))}
      tree['layers_2'] = params[1]
    x, words = matrix['embedding'][ids].reshape(6, 4, D), ids != 0
    sentences = numpy_run(
      'lstm', params[0], x, mask=words.reshape(6, 4), go_backwards=True
    )[0].reshape(2, 3, H)
    real = np.ones((2, 3), bool) if nested else words.any(-1)
    closes(
      apply(stack, tree, ids), numpy_run('lstm', params[1], sentences, mask=real)[0]
    )
    given = np.array([[1, 1, 1], [0, 1, 1]], bool)
    want = numpy_run('lstm', params[1], sentences, mask=real & given)[0]
    closes(apply(stack, tree, ids, mask=given), want)

  def test_masks_inside_are_those_of_keras(self):
    x, words = (
      random_x(2, 3, 4, D),
      np.random.default_rng(0).uniform(size=(2, 3, 4)) < 0.6,
    )
    params = weights_of('lstm')
    peer = keras.layers.TimeDistributed(keras.layers.LSTM(H))
    with jax.numpy_rank_promotion('allow'):
      peer.build(x.shape)
      for variable in peer.trainable_variables:
        variable.assign(params[variable.name])
      want = peer(x, mask=words)
    got = apply(sj.TimeDistributed(sj.LSTM(H)), {'layer': params}, x, mask=words)
    closes(got, want)

  def test_a_mask_that_does_not_fit_is_refused(self):
    with pytest.raises(ValueError, match=r'needs mask bool\(2, 5\) .* bool\(2, 4\)'):
      sj.TimeDistributed(jnp.tanh).apply(
        {}, random_x(B, T, D), train=False, mask=MASK[:, :4]
      )

  def test_no_axis_beyond_time_is_refused(self):
    with pytest.raises(ValueError, match=r'needs x \[B, T, ...\], got \(2, 3\)'):
      sj.TimeDistributed(nn.Dense(2)).init(
        jax.random.key(0), np.ones((2, 3)), train=False
      )


def test_repeat_vector():
  x = random_x(B, D)
  y = sj.RepeatVector(3).apply({}, x)
  np.testing.assert_array_equal(y, np.stack([x] * 3, axis=1))
  with pytest.raises(ValueError, match='n must be at least 1, got 0'):
    sj.RepeatVector(0)


class TestStack:
  def test_masks_go_through_and_end_where_time_does(self):
    """An LSTM below a dropout and a backwards GRU on top; the mask turns round too."""
    x = random_x(B, T, D)
    stack = sj.Stack([
      sj.LSTM(H, return_sequences=True, go_backwards=True),
      nn.Dropout(0.5),
      jnp.tanh,
      sj.GRU(2),
      nn.Dense(3),
    ])  # fmt: skip
    params = {'layers_0': weights_of('lstm'), 'layers_3': weights_of('gru', H, 2)}
    dense = {'kernel': random_x(2, 3), 'bias': random_x(3)}
    y = apply(stack, params | {'layers_4': dense}, x, mask=MASK)
    middle = numpy_run('lstm', params['layers_0'], x, mask=MASK, go_backwards=True)[2]
    h = numpy_run('gru', params['layers_3'], np.tanh(middle), mask=MASK[:, ::-1])[0]
    closes(y, h @ dense['kernel'] + dense['bias'])

  def test_an_embedding_makes_the_mask(self):
    ids = np.array([[0, 3, 1, 0], [0, 0, 0, 0]])
    stack = sj.Stack([sj.Embedding(5, D, mask_zero=True), sj.LSTM(H)])
    params = {'layers_0': {'embedding': random_x(5, D)}, 'layers_1': weights_of('lstm')}
    y = apply(stack, params, ids)
    rows = params['layers_0']['embedding'][ids]
    closes(y, numpy_run('lstm', params['layers_1'], rows, mask=ids != 0)[0])
    np.testing.assert_array_equal(y[1], 0)

  @pytest.mark.slow
  def test_carries_in_and_out_one_for_each_recurrent_layer(self):
    x = random_x(B, 6, D)
    stack = sj.Stack([
      sj.LSTM(H, return_sequences=True, return_carry=True),
      sj.Bidirectional(sj.GRU(2, return_sequences=True, return_carry=True)),
      sj.GRU(3, return_sequences=True, return_carry=True),
    ])  # fmt: skip
    params = jax.jit(functools.partial(stack.init, train=False))(jax.random.key(0), x)[
      'params'
    ]
    carries, y = apply(stack, params, x)
    assert y.shape == (B, 6, 3)
    assert [type(c).__name__ for c in carries] == ['LSTMCarry', 'tuple', 'GRUCarry']
    # The lower LSTM alone does not depend on what is above: its state goes on exactly.
    first, _ = apply(stack, params, x[:, :3])
    second, _ = apply(stack, params, x[:, 3:], initial_carry=(first[0], None, None))
    closes(second[0].c, carries[0].c, 1e-6)
    with pytest.raises(ValueError, match=r'needs 3 initial carries.* got 1'):
      stack.apply({'params': params}, x, train=False, initial_carry=(None,))

  def test_training_reaches_dropout_and_layers(self):
    x = np.ones((B, T, D), np.float32)
    stack = sj.Stack([nn.Dropout(0.5), sj.TimeDistributed(nn.Dropout(0.5))])
    np.testing.assert_array_equal(stack.apply({}, x, train=False), x)
    train = jax.jit(functools.partial(stack.apply, {}, train=True))
    y = train(x, rngs={'dropout': jax.random.key(0)})
    assert set(np.unique(y)) == {0, 4}  # twice 1 / (1 - 0.5)

  def test_what_makes_a_mask_of_an_input_nobody_knows_is_refused(self):
    for maker in (sj.Embedding(4, D, mask_zero=True), sj.Masking()):
      inner = sj.Stack([lambda x: x, maker])
      with pytest.raises(ValueError, match=r'makes a mask of its input: .* the first'):
        inner.compute_mask(np.zeros((B, T), int), None)

  def test_a_layer_below_that_drops_time_is_refused(self):
    with pytest.raises(ValueError, match=r'layers\[0\] needs return_sequences=True'):
      sj.Stack([sj.LSTM(3), nn.Dense(2), sj.LSTM(3)])
    with pytest.raises(ValueError, match=r'layers\[0\] leaves no time axis'):
      sj.Stack([sj.GlobalMaxPooling1D(), sj.LSTM(3)])
    inner = sj.Stack([sj.LSTM(3)])
    with pytest.raises(ValueError, match=r'layers\[0\].layers\[0\] needs return_seq'):
      sj.Stack([inner, sj.LSTM(3)])
    sj.Stack([sj.LSTM(3), sj.RepeatVector(4), sj.LSTM(3)])  # has a time axis again
    sj.Stack([inner, sj.RepeatVector(4), sj.LSTM(3)])

  def test_a_stack_in_a_stack_is_its_layers_one_by_one(self):
    """Mask and resets reach the inner layers, and those behind it turned round."""
    x, reset = random_x(B, T, D), np.array([[1, 0, 0, 1, 0], [0, 1, 0, 0, 0]], bool)
    turned = sj.LSTM(H, return_sequences=True, go_backwards=True)
    nested = sj.Stack([sj.Stack([turned, jnp.tanh]), sj.GRU(2, return_sequences=True)])
    below, above = weights_of('lstm'), weights_of('gru', H, 2)
    params = {'layers_0': {'layers_0': below}, 'layers_1': above}
    y = apply(nested, params, x, mask=MASK, reset=reset)
    flat = sj.Stack([turned, jnp.tanh, sj.GRU(2, return_sequences=True)])
    params = {'layers_0': below, 'layers_2': above}
    np.testing.assert_array_equal(y, apply(flat, params, x, mask=MASK, reset=reset))
    for row, (start, end) in ((0, (0, 3)), (0, (3, 5)), (1, (0, 1)), (1, (1, 5))):
      alone = x[row : row + 1, start:end]
      mask = MASK[row : row + 1, start:end]
      middle = numpy_run('lstm', below, alone, mask=mask, go_backwards=True)[2]
      want = numpy_run('gru', above, np.tanh(middle), mask=mask[:, ::-1])[2]
      closes(y[row : row + 1, T - end : T - start], want)
    with pytest.raises(ValueError, match='an inner Stack, which returns no carries'):
      sj.Stack([sj.Stack([sj.LSTM(3, return_carry=True)])])


class Decay(NamedTuple):
  h: jax.Array


class DecayCell(sj.RNNCell):
  """h' = decay * h + x W: a cell of a user's own, with linen's own Dense in it."""

  features: int

  def zero_carry(self, batch_shape, dtype):
    return Decay(jnp.zeros((*batch_shape, self.features), dtype))

  @nn.compact
  def __call__(self, carry, x, *, train):
    decay = self.param('decay', nn.initializers.constant(0.5), ())
    return Decay(decay * carry.h + nn.Dense(self.features, use_bias=False)(x))


class NoisyCell(sj.RNNCell):
  """Adds a fresh draw in every step of training."""

  def zero_carry(self, batch_shape, dtype):
    return Decay(jnp.zeros((*batch_shape, 3), dtype))

  def __call__(self, carry, x, *, train):
    if not train:
      return Decay(carry.h + x)
    noise = jax.random.normal(self.make_rng('dropout'), x.shape)
    return Decay(carry.h + noise)


class TestRNN:
  def test_a_cell_of_ones_own_has_all_the_options(self):
    x, start = random_x(B, T, D), random_x(B, 2, seed=1)
    reset = np.array([[0, 0, 0, 1, 0], [1, 1, 0, 0, 0]], bool)
    layer = sj.RNN(
      DecayCell(2), return_sequences=True, return_carry=True, go_backwards=True
    )
    kernel = random_x(D, 2)
    params = {'cell': {'decay': np.float32(0.5), 'Dense_0': {'kernel': kernel}}}
    carry, y = apply(layer, params, x, mask=MASK, reset=reset, initial_carry=(start,))
    want = np.zeros((B, T, 2))
    for b in range(B):
      h = start[b]
      for out, t in enumerate(range(T - 1, -1, -1)):
        h = 0 * h if t + 1 < T and reset[b, t + 1] else h  # an episode's last step
        h = 0.5 * h + x[b, t] @ kernel if MASK[b, t] else h
        want[b, out] = h
    closes(y, want)
    closes(carry.h, want[:, -1])
    with pytest.raises(ValueError, match='cell must be an RNNCell, got LSTM'):
      sj.RNN(sj.LSTM(2))
    chunked = layer.clone(remat_chunk=2)
    closes(
      apply(chunked, params, x, mask=MASK, reset=reset, initial_carry=(start,))[1], want
    )

  def test_parameters_are_those_of_the_cell(self):
    params = jax.eval_shape(
      functools.partial(sj.RNN(DecayCell(2)).init, train=False),
      jax.random.key(0),
      random_x(B, T, D),
    )['params']
    shapes = jax.tree.map(lambda leaf: leaf.shape, params)
    assert shapes == {'cell': {'decay': (), 'Dense_0': {'kernel': (D, 2)}}}

  def test_every_step_draws_anew_and_only_in_training(self):
    layer, x = sj.RNN(NoisyCell(), return_sequences=True), np.ones((B, 4, 3), 'f')
    y = jax.jit(functools.partial(layer.apply, {}, train=True))(
      x, rngs={'dropout': jax.random.key(0)}
    )
    steps = np.diff(np.asarray(y), axis=1, prepend=0)
    assert len(np.unique(steps.round(5))) == steps.size
    closes(layer.apply({}, x, train=False)[:, -1], np.full((B, 3), 4.0))

  def test_both_directions_of_a_cell(self):
    x = random_x(B, T, D)
    layer = sj.Bidirectional(sj.RNN(sj.LayerCell(sj.GRU(H))))
    params = {'forward_layer': {'cell': weights_of('gru')}}
    params['backward_layer'] = {'cell': weights_of('gru', seed=1)}
    f = numpy_run('gru', params['forward_layer']['cell'], x)[0]
    b = numpy_run('gru', params['backward_layer']['cell'], x, go_backwards=True)[0]
    closes(apply(layer, params, x), np.concatenate([f, b], axis=-1))

  def test_the_cell_of_a_layer_is_the_layer(self):
    for kind, layer in (('lstm', sj.LSTM(H)), ('gru', sj.GRU(H))):
      x, params = random_x(B, T, D), weights_of(kind)
      y = apply(sj.RNN(sj.LayerCell(layer)), {'cell': params}, x, mask=MASK)
      closes(y, numpy_run(kind, params, x, mask=MASK)[0])
    with pytest.raises(ValueError, match='LayerCell has no dropout'):
      sj.LayerCell(sj.LSTM(H, dropout=0.1))


def numpy_norm(x, epsilon=1e-5):
  x = x - x.mean(-1, keepdims=True)
  return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon)


def layer_norm_simple_rnn(p, norm, x, h, _):
  z = norm(x @ p['kernel'] + h @ p['recurrent_kernel'])
  return np.tanh(p['scale'] * z + p['bias']), None


def layer_norm_lstm(p, norm, x, h, c):
  z = p['x_scale'] * norm(x @ p['kernel']) + p['bias']
  z = z + p['h_scale'] * norm(h @ p['recurrent_kernel'])
  i, f, g, o = np.split(z, 4, -1)
  c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
  return sigmoid(o) * np.tanh(p['c_scale'] * norm(c) + p['c_bias']), c


def layer_norm_gru(p, norm, x, h, _):
  def normal(a, scale):  # the gates, and the candidate
    return scale * np.concatenate([norm(a[:, : 2 * H]), norm(a[:, 2 * H :])], -1)

  a = normal(x @ p['kernel'], p['x_scale']) + p['bias']
  u = normal(h @ p['recurrent_kernel'], p['h_scale'])
  z, r = np.split(sigmoid(a[:, : 2 * H] + u[:, : 2 * H]), 2, -1)
  return z * h + (1 - z) * np.tanh(a[:, 2 * H :] + r * u[:, 2 * H :]), None


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


class TestRegularized:
  def random_params(self, cell):
    shapes = jax.eval_shape(
      functools.partial(sj.RNN(cell).init, train=False),
      jax.random.key(0),
      random_x(B, T, D),
    )['params']['cell']
    rng = np.random.default_rng(3)
    return {k: rng.normal(size=s.shape).astype('f') for k, s in shapes.items()}

  @pytest.mark.parametrize('kind', ['simple_rnn', 'lstm', 'gru'])
  def test_layer_norm_cells_are_the_equations(self, kind):
    """Values and gradients of all weights and of x, by differences in float64."""
    cell, step = {
      'simple_rnn': (sj.LayerNormSimpleRNNCell, layer_norm_simple_rnn),
      'lstm': (sj.LayerNormLSTMCell, layer_norm_lstm),
      'gru': (sj.LayerNormGRUCell, layer_norm_gru),
    }[kind]
    x, p = random_x(B, T, D), self.random_params(cell(H))

    def numpy_loss(*arrays, epsilon=0.3):
      p, x = dict(zip(names, arrays, strict=False)), arrays[-1]
      norm = functools.partial(numpy_norm, epsilon=epsilon)
      carry, total = (np.zeros((B, H)),) * 2, 0.0
      for t in range(T):
        carry = step(p, norm, x[:, t], *carry)
        total += (carry[0] ** 2).sum()
      return total

    def loss(p, x, epsilon=0.3):
      layer = sj.RNN(cell(H, epsilon=epsilon), return_sequences=True)
      y = layer.apply({'params': {'cell': p}}, x, train=False)
      return jnp.sum(y**2)

    @jax.jit
    def run(p, x):
      return jax.value_and_grad(loss, (0, 1))(p, x), loss(p, x, 1e-5)

    names = sorted(p)
    arrays = [np.float64(p[name]) for name in names] + [np.float64(x)]
    with jax.enable_x64(True):
      exact = jax.tree.map(np.float64, (p, x))
      (value, grads), small = jax.tree.map(np.asarray, run(*exact))
    np.testing.assert_allclose(value, numpy_loss(*arrays), rtol=1e-10)
    np.testing.assert_allclose(small, numpy_loss(*arrays, epsilon=1e-5), rtol=1e-10)
    np.testing.assert_allclose(jax.jit(loss)(p, x), value, rtol=1e-5)
    wants = numpy_rnn.numeric_gradient(numpy_loss, arrays)
    for got, want in zip([grads[0][n] for n in names] + [grads[1]], wants, strict=True):
      assert np.abs(got - want).max() < 1e-5 * max(1, np.abs(want).max())

  def test_layer_norm_starts_with_unit_scales_and_forget_bias(self):
    params = jax.jit(
      functools.partial(sj.RNN(sj.LayerNormLSTMCell(2)).init, train=False)
    )(jax.random.key(0), random_x(B, T, D))['params']['cell']
    np.testing.assert_array_equal(params['bias'], [0, 0, 1, 1, 0, 0, 0, 0])
    for name in ('x_scale', 'h_scale', 'c_scale'):
      np.testing.assert_array_equal(params[name], 1)

  def test_zoneout_mixes_when_not_training(self):
    x, params = random_x(B, T, D), weights_of('lstm')
    cell = sj.Zoneout(sj.LayerCell(sj.LSTM(H)), h_rate=0.3, c_rate=0.2)
    layer = sj.RNN(cell, return_sequences=True)
    y = apply(layer, {'cell': {'cell': params}}, x)
    h = c = np.zeros((B, H))
    for t in range(T):
      new_h, new_c, _ = numpy_run('lstm', params, x[:, t : t + 1], carry=(h, c))
      h, c = 0.3 * h + 0.7 * new_h, 0.2 * c + 0.8 * new_c
      closes(y[:, t], h)

  def test_zoneout_keeps_the_share_it_should_anew_in_each_step(self):
    """On a cell that counts steps an old value is one less than it would be."""

    class CountCell(sj.RNNCell):
      def zero_carry(self, batch_shape, dtype):
        return Decay(jnp.zeros((*batch_shape, 50), dtype))

      def __call__(self, carry, x, *, train):
        return Decay(carry.h + 1)

    x = np.ones((40, 20, 1), np.float32)
    layer = sj.RNN(sj.Zoneout(CountCell(), h_rate=0.25), return_sequences=True)
    y = jax.jit(functools.partial(layer.apply, {}, train=True))(
      x, rngs={'dropout': jax.random.key(1)}
    )
    kept = np.diff(np.asarray(y), axis=1, prepend=0) == 0
    error = np.sqrt(0.25 * 0.75 / kept.size)
    assert abs(kept.mean() - 0.25) < 5 * error
    # Independent from step to step: both kept in rate^2 of the pairs.
    both = (kept[:, 1:] & kept[:, :-1]).mean()
    assert abs(both - 0.25**2) < 5 * np.sqrt(0.0625 / kept.size)

  def test_zoneout_refuses_what_it_cannot_do(self):
    with pytest.raises(ValueError, match=r'h_rate must be in \[0, 1\), got 1.0'):
      sj.Zoneout(DecayCell(2), h_rate=1.0)
    with pytest.raises(ValueError, match=r'c_rate is 0\.1, but Decay has no c'):
      sj.RNN(sj.Zoneout(DecayCell(2), c_rate=0.1)).init(
        jax.random.key(0), random_x(B, T, D), train=False
      )
