"""`pad_ragged` and `unpad_ragged`, against torch and against each row alone."""

import jax
import jax.numpy as jnp
import numpy as np
import numpy_rnn
import pytest

import seqjax as sj

pytestmark = pytest.mark.usefixtures('quick_programs')

D, H = 3, 4


def sequences(lengths=(2, 5, 0, 3)):
  rng = np.random.default_rng(0)
  return [rng.normal(size=(t, D)).astype(np.float32) for t in lengths]


@pytest.mark.parametrize('length', [None, 7])
def test_there_and_back(length):
  rows = sequences()
  x, lengths = sj.pad_ragged(rows, length)
  assert isinstance(x, np.ndarray)
  assert x.dtype == np.float32
  want = np.zeros((4, length or 5, D))
  for i, row in enumerate(rows):
    want[i, : len(row)] = row
  np.testing.assert_array_equal(x, want)
  np.testing.assert_array_equal(lengths, [2, 5, 0, 3])
  for row, other in zip(sj.unpad_ragged(x, lengths), rows, strict=True):
    np.testing.assert_array_equal(row, other)


@pytest.mark.slow  # with those that are run where torch is
def test_there_and_back_is_that_of_torch():
  rnn = pytest.importorskip('torch').nn.utils.rnn
  tensor = pytest.importorskip('torch').tensor
  x, lengths = sj.pad_ragged(sequences())
  want = rnn.pad_sequence([tensor(row) for row in sequences()], batch_first=True)
  np.testing.assert_array_equal(x, want)
  back = rnn.unpad_sequence(want, tensor(lengths), batch_first=True)
  for row, other in zip(sj.unpad_ragged(x, lengths), back, strict=True):
    np.testing.assert_array_equal(row, other)


@pytest.mark.slow
def test_an_lstm_on_ragged_sequences_is_that_on_packed_ones():
  """Outputs of all steps, the last h, and gradients of weights and of each sequence."""
  torch = pytest.importorskip('torch')
  rnn = torch.nn.utils.rnn
  rows = sequences((2, 5, 1, 3))
  kernel, recurrent, bias = numpy_rnn.random_params(
    np.random.default_rng(1), 'lstm', D, H
  )
  module = torch.nn.LSTM(D, H, batch_first=True)
  with torch.no_grad():
    module.weight_ih_l0.copy_(torch.tensor(kernel.T))
    module.weight_hh_l0.copy_(torch.tensor(recurrent.T))
    module.bias_ih_l0.copy_(torch.tensor(bias))
    module.bias_hh_l0.zero_()
  leaves = [torch.tensor(row, requires_grad=True) for row in rows]
  ys, (h, _) = module(rnn.pack_sequence(leaves, enforce_sorted=False))
  want = rnn.unpack_sequence(ys)
  (sum((y**2).sum() for y in want) + (h**3).sum()).backward()

  @jax.jit
  def run(params, rows):
    x, lengths = sj.pad_ragged(rows)
    layer = sj.LSTM(H, return_sequences=True, return_carry=True)
    carry, y = layer.apply({'params': params}, x, train=False, lengths=lengths)
    ys = sj.unpad_ragged(y, lengths)
    return sum(jnp.sum(y**2) for y in ys) + jnp.sum(carry.h**3), (ys, carry.h)

  params = {'kernel': kernel, 'recurrent_kernel': recurrent, 'bias': bias}
  (grads, rows_grad), (got, last) = jax.grad(run, argnums=(0, 1), has_aux=True)(
    params, [jnp.asarray(row) for row in rows]
  )
  pairs = [
    *zip(got, want, strict=True),
    (last, h[0]),
    (grads['kernel'], module.weight_ih_l0.grad.T),
    (grads['recurrent_kernel'], module.weight_hh_l0.grad.T),
    (grads['bias'], module.bias_ih_l0.grad),
    *zip(rows_grad, [leaf.grad for leaf in leaves], strict=True),
  ]
  for a, b in pairs:
    b = b.detach().numpy()
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * max(1, np.abs(b).max()))


def test_lists_become_numpy_and_any_array_of_jax_makes_one():
  x, lengths = sj.pad_ragged([[1, 2, 3], [4]])
  np.testing.assert_array_equal(x, [[1, 2, 3], [4, 0, 0]])
  assert x.dtype == np.int64
  assert [row.tolist() for row in sj.unpad_ragged(x, lengths)] == [[1, 2, 3], [4]]
  mixed, _ = sj.pad_ragged([jnp.ones((1, D)), sequences()[0]])
  assert isinstance(mixed, jax.Array)


def test_an_empty_list_has_no_say_in_dtype_and_shape():
  x, lengths = sj.pad_ragged([[1, 2, 3], []])
  assert x.dtype == np.int64
  np.testing.assert_array_equal(x, [[1, 2, 3], [0, 0, 0]])
  np.testing.assert_array_equal(lengths, [3, 0])
  x, lengths = sj.pad_ragged([[], *sequences((2, 1))])
  assert x.dtype == np.float32
  np.testing.assert_array_equal(lengths, [0, 2, 1])
  assert sj.pad_ragged([[], []])[0].shape == (2, 0)
  x, _ = sj.pad_ragged([np.zeros(0), [1]])  # an array has its dtype
  assert x.dtype == np.float64


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('padding_value', 'padding is zero'), ('batch_first', 'swapaxes'),
    ('maxlen', 'it is called length'), ('colour', 'no argument colour'),
  ],
)  # fmt: skip
def test_names_of_other_libraries_are_told_theirs_here(name, message):
  for run in (
    lambda **more: sj.pad_ragged([[1]], **more),
    lambda **more: sj.unpad_ragged(np.ones((1, 1)), np.array([1]), **more),
  ):
    with pytest.raises(TypeError, match=f'pad_ragged has .*{message}'):
      run(**{name: None})


def test_what_does_not_fit_is_named():
  rows = sequences()
  for bad, message in (
    ((), 'at least one sequence, got none'),
    ((rows[0], rows[1][:, :2]), r'differ in t alone, got \(2, 3\) and at 1 \(5, 2\)'),
    ((np.float32(1),), r'got \(\) and at 0 \(\)'),
  ):
    with pytest.raises(ValueError, match=message):
      sj.pad_ragged(bad)
  with pytest.raises(ValueError, match='a length of 5 at least, got 4'):
    sj.pad_ragged(rows, 4)
  with pytest.raises(ValueError, match=r'an integer length, got 7\.0'):
    sj.pad_ragged(rows, 7.0)
  with pytest.raises(ValueError, match=r'unpad_ragged needs x .* got a list'):
    sj.unpad_ragged([[1]], [1])
  x, lengths = sj.pad_ragged(rows)
  for bad, message in (
    (lengths[:2], r'lengths \[B\], got \(4, 5, 3\) and int32\(2,\)'),
    (lengths * 1.0, r'got \(4, 5, 3\) and float64\(4,\)'),
    (lengths + 1, r'lengths from 0 to 5, got \[3, 6, 1, 4\]'),
    (lengths - 1, r'lengths from 0 to 5, got \[1, 4, -1, 2\]'),
  ):
    with pytest.raises(ValueError, match=message):
      sj.unpad_ragged(x, bad)
  with pytest.raises(ValueError, match='lengths that are known, got traced ones'):
    jax.jit(sj.unpad_ragged)(x, lengths)
