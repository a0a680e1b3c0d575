"""PyTorch on the very batches of names, tagging and char_lm.

python -m benchmarks.texts_torch --data_dir=DIR --out=FILE.json

For each experiment and seed: the flags of its file, our first weights copied over, the
same batches in the same order, the same schedule; PyTorch's Adam, whose eps joins after
the bias correction and Keras's, ours, before; dropout with one mask a sequence, as
ours, drawn by PyTorch. The epoch with the best validation value is tested.
What is in FILE.json already is not run again.
"""

import copy
import dataclasses
import importlib
import json
import math
import pathlib
import time
from typing import Any

import jax
import numpy as np
import torch

from benchmarks.report import machine
from experiments.texts import running
from seqjax import config as config_lib
from seqjax.config import field
from seqjax.data.batches import Streams
from seqjax.files import whole
from seqjax.training import optim
from seqjax.types import Batch, InputError

_FLAGS = pathlib.Path(__file__).parent.parent / 'experiments' / 'flags'
_EXPERIMENTS = ('names', 'tagging', 'char_lm')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(config_lib.Flags):
  """See --help."""

  data_dir: str = field('', 'Folder of the real data.')
  only: str = field(','.join(_EXPERIMENTS), 'Which, with commas.')
  seeds: int = field(3, 'Seeds 0, 1, ... of each.', at_least=1)
  num_epochs: int | None = field(None, "Default: the flag file's.", at_least=1)
  threads: int = field(2, 'Cores for PyTorch.', at_least=1)
  out: str = field('texts_torch.json', 'File of results, added to.')


def main(config: Config) -> None:
  """Runs what is not in the file yet."""
  for name in config.only.split(','):
    if name not in _EXPERIMENTS:
      raise InputError(f'--only: {name!r} is none of {", ".join(_EXPERIMENTS)}')
  torch.set_num_threads(config.threads)
  path = pathlib.Path(config.out)
  record: dict[str, Any] = {'runs': []}
  if path.exists():
    record = json.loads(path.read_text())
  record['machine'] = machine()
  for seed in range(config.seeds):
    for name in config.only.split(','):
      settings = _settings(config, name, seed)
      key = {'experiment': name, 'seed': seed, 'num_epochs': settings.num_epochs}
      if any(key.items() <= run.items() for run in record['runs']):
        continue
      run = key | _train(name, settings)
      record['runs'].append(run)
      whole.write(path, json.dumps(record, indent=1).encode() + b'\n')
      print({k: v for k, v in run.items() if k != 'validation'}, flush=True)


def _settings(config: Config, name: str, seed: int) -> Any:
  """The config of our run with this seed."""
  arguments = [
    f'--flagfile={_FLAGS}/{name}.flags', f'--data_dir={config.data_dir}',
    f'--seed={seed}',
  ]  # fmt: skip
  if config.num_epochs is not None:
    arguments.append(f'--num_epochs={config.num_epochs}')
  module = importlib.import_module(f'experiments.{name}')
  return config_lib.parse(module.Config, arguments)


class _Model(torch.nn.Module):
  """Embedding, one LSTM or a pair of them, and a linear layer: the three's models."""

  def __init__(self, params: Any, dropout: float, *, pools: bool):
    super().__init__()
    self.dropout, self.pools = dropout, pools
    self.embedding = torch.nn.Embedding.from_pretrained(
      _tensor(params['embedding']['embedding']), freeze=False
    )
    encoder = params['encoder'].get('layers_0', params['encoder'])
    found = [encoder]
    if 'forward_layer' in encoder:
      found = [encoder['forward_layer'], encoder['backward_layer']]
    # One for each direction: their inputs are dropped by masks of their own.
    self.layers = torch.nn.ModuleList(_lstm(layer) for layer in found)
    kernel = _tensor(params['head']['kernel'])
    self.head = torch.nn.Linear(*kernel.shape)
    with torch.no_grad():
      self.head.weight.copy_(kernel.T)
      self.head.bias.copy_(_tensor(params['head']['bias']))

  def forward(self, batch: Batch, carry: Any) -> tuple[Any, Any]:
    """Logits and, of a single LSTM, what it carries on."""
    x = self.embedding(_tensor(batch.x).long())
    mask = np.asarray(batch.mask)
    if len(self.layers) == 1:
      h, carry = self.layers[0](self._drop(x), carry)
      return self.head(h), carry
    lengths = mask.sum(1)
    n = int(lengths.max())
    # From the end, each row's real steps come first: no packing, which is slower.
    places = lengths[:, None] - 1 - np.arange(n)
    index = _tensor(np.maximum(places, 0)).long()[..., None]
    x, real = x[:, :n], _tensor(mask[:, :n])[..., None]
    back = torch.take_along_dim(self._drop(x), index, 1)
    h = torch.cat(
      [
        self.layers[0](self._drop(x))[0],
        torch.take_along_dim(self.layers[1](back)[0], index, 1),
      ],
      -1,
    )
    if self.pools:
      h = torch.where(real, h, -math.inf).amax(1)
    return self.head(h), carry

  def _drop(self, x: Any) -> Any:
    if not self.training or not self.dropout:
      return x
    keep = torch.rand(x.shape[0], 1, x.shape[2]) >= self.dropout
    return x * keep / (1 - self.dropout)


def _lstm(layer: Any) -> torch.nn.LSTM:
  """An LSTM with our weights; of its two biases one is 0, and not trained."""
  D, H = layer['kernel'].shape[0], layer['recurrent_kernel'].shape[0]
  lstm = torch.nn.LSTM(D, H, batch_first=True)
  with torch.no_grad():
    lstm.weight_ih_l0.copy_(_tensor(layer['kernel']).T)
    lstm.weight_hh_l0.copy_(_tensor(layer['recurrent_kernel']).T)
    lstm.bias_ih_l0.copy_(_tensor(layer['bias']))
    lstm.bias_hh_l0.zero_()
  lstm.bias_hh_l0.requires_grad_(False)
  return lstm


def _tensor(a: Any) -> Any:
  return torch.from_numpy(np.array(a))


def _train(name: str, config: Any) -> dict[str, Any]:
  """One run: validation values of all epochs, and the test of the best."""
  module = importlib.import_module(f'experiments.{name}')
  data = module.task.load(config)
  if name == 'char_lm':
    feed, validation = (
      Streams(ids, config.batch_size, config.length)
      for ids in (data.train, data.validation)
    )
    test = None
  else:
    feed, validation, test = running.feeds(config, *data.parts)  # type: ignore[assignment]
  ours = module.make_model(config, *data.sizes)
  init_key, _ = jax.random.split(jax.random.key(config.seed))  # as the loop does
  params = ours.init(init_key, feed.batch(0).x, train=False)['params']
  torch.manual_seed(config.seed)
  model = _Model(jax.device_get(params), config.dropout, pools=name == 'names')
  trained = [p for p in model.parameters() if p.requires_grad]
  tx = torch.optim.Adam(trained, eps=1e-7)
  steps = config.num_epochs * feed.steps_per_epoch
  rate: Any = optim.make_schedule(
    config.schedule, config.learning_rate, steps, warmup_steps=config.warmup_steps
  )
  rates = np.asarray(jax.vmap(rate)(np.arange(steps)))
  values: list[float] = []
  best: dict[str, Any] = {}
  training, carry = 0.0, None
  for epoch in range(config.num_epochs):
    model.train()
    began = time.perf_counter()
    for step in range(epoch * feed.steps_per_epoch, (epoch + 1) * feed.steps_per_epoch):
      batch = feed.batch(step)
      tx.param_groups[0]['lr'] = float(rates[step])
      carry = _begin(batch, carry)
      logits, carry = model(batch, carry)
      tx.zero_grad()
      _loss(logits, batch, 'mean').backward()
      if config.clip_global_norm:
        torch.nn.utils.clip_grad_norm_(trained, config.clip_global_norm)
      tx.step()
    training += time.perf_counter() - began
    values.append(_evaluate(model, validation, by_loss=test is None))
    if values[-1] == (min if test is None else max)(values):
      best = copy.deepcopy(model.state_dict())
  model.load_state_dict(best)
  found = {'best_validation': (min if test is None else max)(values)}
  if test is not None:
    found['test_accuracy'] = _evaluate(model, test, by_loss=False)
  count = sum(p.numel() for p in trained)
  return {**found, 'num_params': count, 'training_seconds': training,
          'validation': values}  # fmt: skip


def _begin(batch: Batch, carry: Any) -> Any:
  """What the last step left, cut from its gradients; None where the text begins."""
  if batch.reset is None or np.asarray(batch.reset)[:, 0].all():
    return None
  return tuple(a.detach() for a in carry)


def _labels(logits: Any, batch: Batch) -> Any:
  y = _tensor(batch.y).long()
  return y[:, : logits.shape[1]] if y.ndim == 2 else y


def _loss(logits: Any, batch: Batch, reduction: str) -> Any:
  """Over all labels there are; rows that fill a batch up have none."""
  y = _labels(logits, batch).clamp(min=-1)  # whatever stands where there is none
  y[_tensor(np.asarray(batch.weight) == 0)] = -1
  return torch.nn.functional.cross_entropy(
    logits.reshape(-1, logits.shape[-1]), y.flatten(), ignore_index=-1,
    reduction=reduction,
  )  # fmt: skip


@torch.no_grad()
def _evaluate(model: _Model, batches: Any, *, by_loss: bool) -> float:
  """The mean loss, or the share of right labels, over all labels of a set."""
  model.eval()
  total, number, carry = 0.0, 0, None
  for batch in batches:
    carry = _begin(batch, carry)
    logits, carry = model(batch, carry)
    y = _labels(logits, batch)
    counts = (y >= 0) & (_tensor(batch.weight) > 0).reshape(-1, *[1] * (y.ndim - 1))
    number += int(counts.sum())
    if by_loss:
      total += float(_loss(logits, batch, 'sum'))
    else:
      total += int(((logits.argmax(-1) == y) & counts).sum())
  return total / number


if __name__ == '__main__':
  config_lib.main(Config, main)
