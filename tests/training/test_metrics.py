"""Metrics of a set against NumPy, the script's rule as a loop, and seqeval."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.training import losses, metrics, spans
from seqjax.types import InputError
from seqjax.workdir.progress import means

TAGS = ('O', 'B-a', 'I-a', 'E-a', 'S-a', 'B-b', 'I-b', 'E-b', 'S-b')


def _values(found, output, y, weight=None, batch=3):
  """The metrics of a set that comes in batches, the last one filled up."""
  weight = np.ones(len(y), np.float32) if weight is None else weight
  fill = -len(y) % batch
  pad = lambda a: np.concatenate([a, np.repeat(a[:1], fill, 0)])  # noqa: E731
  output, y, weight = pad(output), pad(y), np.append(weight, np.zeros(fill))
  total = {}
  step = jax.jit(lambda *b: metrics.sums(found, *b))
  for i in range(0, len(y), batch):
    part = slice(i, i + batch)
    for k, v in step(output[part], y[part], jnp.float32(weight[part])).items():
      total[k] = total.get(k, 0.0) + float(v)
  return means({**total, 'weight': float(weight.sum())}, metrics.values(found))


def _steps(seed=0, N=7, T=6, C=4):
  rng = np.random.default_rng(seed)
  y = rng.integers(0, C, (N, T))
  y[np.arange(T) >= rng.integers(0, T + 1, (N, 1))] = -1  # some rows have no label
  return rng.normal(size=(N, T, C)).astype(np.float32), y.astype(np.int32)


def test_metrics_of_labels_are_over_all_labels_whatever_the_weights():
  logits, y = _steps()
  found = {
    name: metrics.named(name)
    for name in ('perplexity', 'bits_per_character', 'label_accuracy')
  }
  wide = np.float64(logits)
  p = np.exp(wide) / np.exp(wide).sum(-1, keepdims=True)
  nats = [-np.log(p[i, t, y[i, t]]) for i, t in np.argwhere(y >= 0)]
  right = [wide[i, t].argmax() == y[i, t] for i, t in np.argwhere(y >= 0)]
  for weight in (None, np.arange(1.0, 8.0)):
    got = _values(found, logits, y, weight)
    assert got['perplexity'] == pytest.approx(np.exp(np.mean(nats)), rel=1e-5)
    assert got['bits_per_character'] == pytest.approx(np.mean(nats) / np.log(2))
    assert got['label_accuracy'] == pytest.approx(np.mean(right))


def test_a_loss_without_bound_is_no_overflow():
  logits = np.float32([[[0, 5000]]])
  assert _values({'p': metrics.perplexity}, logits, np.array([[0]]))['p'] > 1e300


def test_exact_match_wants_every_label():
  logits = jnp.float32(jax.nn.one_hot(jnp.array([[0, 1, 2], [0, 1, 1], [2, 2, 2]]), 3))
  y = jnp.array([[0, 1, -1], [0, 1, 2], [-1, -1, -1]])
  np.testing.assert_array_equal(losses.exact_match(logits, y), [1, 0, 1])


def test_pearson_r_is_that_of_numpy():
  rng = np.random.default_rng(0)
  a = rng.normal(3, 1, 50).astype(np.float32)
  b = (a + rng.normal(0, 2, 50)).astype(np.float32)
  weight = np.where(np.arange(50) % 7 == 0, 0.0, 2.0)  # 0: no example
  found = {'r': metrics.named('pearson_r')}
  want = np.corrcoef(a[weight > 0], b[weight > 0])[0, 1]
  assert _values(found, a, b, weight)['r'] == pytest.approx(want, abs=1e-5)
  assert _values(found, np.full(50, 0.3, np.float32), b)['r'] == 0


def test_what_is_padded_changes_no_loss_metric_or_gradient():
  logits, y = _steps(N=6, C=len(TAGS))
  longer = np.pad(logits, ((0, 0), (0, 3), (0, 0)), constant_values=7.0)
  longer_y = np.pad(y, ((0, 0), (0, 3)), constant_values=-1)
  found = {
    'loss': losses.softmax_xent,
    'accuracy': losses.accuracy,
    'exact_match': losses.exact_match,
    'perplexity': metrics.perplexity,
    'label_accuracy': metrics.label_accuracy,
    **spans.span_metrics(TAGS),
  }
  assert _values(found, longer, longer_y) == pytest.approx(_values(found, logits, y))
  loss = lambda logits, y: losses.softmax_xent(logits, y).sum()  # noqa: E731
  grads = jax.grad(loss)(longer, longer_y)
  np.testing.assert_allclose(grads[:, :-3], jax.grad(loss)(logits, y), rtol=1e-6)
  assert not grads[:, -3:].any()


def _chunks(tags):
  """(type, first, last) of a sequence of tags, step by step as the script goes."""
  found, kind, start = set(), None, 0
  before = 'O'
  for i, tag in enumerate([*tags, 'O']):
    prefix, _, now = tag.partition('-')
    ends = kind is not None and (
      before in 'ES' or prefix in ('B', 'S', 'O') or now != kind
    )
    if ends:
      found.add((kind, start, i - 1))
      kind = None
    if prefix != 'O' and kind is None:
      kind, start = now, i
    before = prefix
  return found


def _draw(seed, N=40, T=9):
  """Pairs of taggings, well formed or not, and much alike."""
  rng = np.random.default_rng(seed)
  wanted = rng.choice(len(TAGS), (N, T), p=[0.3, *[0.0875] * 8])
  found = np.where(rng.random((N, T)) < 0.4, rng.integers(0, len(TAGS), (N, T)), wanted)
  lengths = rng.integers(1, T + 1, (N, 1))
  wanted[np.arange(T) >= lengths] = -1
  return found, wanted


@pytest.mark.parametrize('seed', range(3))
def test_spans_are_counted_as_the_script_counts_them(seed):
  found, wanted = _draw(seed)
  got = spans.span_counts(spans.TagTable(TAGS), jnp.array(found), jnp.array(wanted))
  for i, (a, b) in enumerate(zip(found, wanted, strict=True)):
    n = (b >= 0).sum()
    a, b = (_chunks([TAGS[t] for t in row[:n]]) for row in (a, b))
    want = len(a & b), len(a), len(b)
    assert tuple(int(got[k][i]) for k in ('right', 'found', 'wanted')) == want


@pytest.mark.filterwarnings('ignore')  # its own, of a type that nothing predicts
@pytest.mark.parametrize('seed', range(3))
def test_span_f1_is_that_of_seqeval(seed):
  seqeval = pytest.importorskip('seqeval.metrics')
  found, wanted = _draw(seed)
  logits = np.eye(len(TAGS), dtype=np.float32)[found]
  names = [
    [[TAGS[t] for t in a[b >= 0]] for a, b in zip(rows, wanted, strict=True)]
    for rows in (found, wanted)
  ]
  got = _values(spans.span_metrics(TAGS), logits, wanted.astype(np.int32), batch=16)
  for name in ('f1', 'precision', 'recall'):
    want = getattr(seqeval, f'{name}_score')(names[1], names[0])
    assert got[name] == pytest.approx(want, rel=1e-6)
  assert 0.2 < got['f1'] < 0.9


def test_no_span_at_all_has_f1_0():
  y = np.zeros((2, 3), np.int32)
  logits = np.zeros((2, 3, len(TAGS)), np.float32)
  assert _values(spans.span_metrics(TAGS), logits, y)['f1'] == 0


def test_a_metric_that_there_is_not_is_refused_with_those_there_are():
  with pytest.raises(InputError, match=r'perplexity.*got .bleu.'):
    metrics.named('bleu')


def test_the_nll_of_frames_is_that_of_a_loop():
  rng = np.random.default_rng(0)
  N, T, K = 7, 6, 5
  lengths = rng.integers(1, T + 1, N)
  y = (rng.random((N, T, K)) < 0.3).astype(np.float32)
  y[np.arange(T) >= lengths[:, None]] = np.nan  # what fills pieces up
  logits = rng.normal(size=(N, T, K)).astype(np.float32) * 5
  total, frames, of_pieces = 0.0, 0, []
  for i in range(N):
    nats = 0.0
    for t in range(lengths[i]):
      for k in range(K):
        p = 1 / (1 + np.exp(-np.float64(logits[i, t, k])))
        nats -= np.log(p if y[i, t, k] else 1 - p)
    of_pieces.append(nats / lengths[i])
    total, frames = total + nats, frames + lengths[i]
  found = {'frame_nll': metrics.named('frame_nll')}
  for weight in (None, np.arange(1.0, 8.0)):
    value = _values(found, logits, y, weight)['frame_nll']
    assert value == pytest.approx(total / frames, rel=1e-5)
  got = jax.jit(losses.frame_xent)(logits, y)
  np.testing.assert_allclose(got, of_pieces, rtol=1e-5)
