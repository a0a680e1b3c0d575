"""Exported runs: the run's own predictions, in a process without flax and seqjax."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from experiments import (
  experiment,
  export,
  imdb_bidirectional,
  imdb_lstm,
  jena_gru,
  predict,
)
from seqjax.types import InputError

pytestmark = pytest.mark.usefixtures('quick_programs')

_REVIEWS = {
  'dataset': 'synthetic',
  'synthetic_size': 160,
  'vocab_size': 90,
  'length': 20,
  'num_epochs': 1,
}
_WEATHER = {
  'dataset': 'synthetic',
  'synthetic_rows': 600,
  'lookback': 60,
  'delay': 12,
  'num_epochs': 1,
  'steps_per_epoch': 2,
}
_ALONE = """
import sys
for name in ('flax', 'seqjax', 'optax', 'orbax'):
  sys.modules[name] = None  # to import it is an error
sys.path.insert(0, sys.argv[1])
import numpy as np, predict
x = np.load(sys.argv[2])
model = predict.load()
np.savez(sys.argv[3], *[model(x[:size]) for size in (1, 7, 128)])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
  ('module', 'settings'),
  [(imdb_lstm, _REVIEWS), (imdb_bidirectional, _REVIEWS), (jena_gru, _WEATHER)],
)
def test_predictions_are_the_runs_own(module, settings, tmp_path, capsys):
  pytest.importorskip('flatbuffers')
  folder, out = tmp_path / 'run', tmp_path / 'out'
  module.run(module.Config(**settings, workdir=str(folder), batch_size=32))
  sizes = export.run(export.Config(workdir=str(folder), out=str(out)))
  shown = capsys.readouterr().out
  assert 'cpu, cuda, tpu' in shown
  assert 'exported_ms' in shown
  assert sizes['model.jax'] == (out / 'model.jax').stat().st_size
  trained = experiment.open_run(str(folder))
  about = json.loads((out / 'model.json').read_text())
  rng = np.random.default_rng(0)
  x = rng.normal(size=(128, *about['shape'])).astype(about['dtype'])
  if about['kind'] == 'text':
    x = rng.integers(0, 90, (128, *about['shape'])).astype(about['dtype'])
  np.save(tmp_path / 'x.npy', x)
  files = [str(out), str(tmp_path / 'x.npy'), str(tmp_path / 'y.npz')]
  subprocess.run([sys.executable, '-c', _ALONE, *files], check=True)
  params = experiment.best_params(trained, x[:1])
  run = jax.jit(lambda x: trained.model.apply({'params': params}, x, train=False))
  with np.load(tmp_path / 'y.npz') as file:
    found = dict(file)
  for key, size in zip(found, (1, 7, 128), strict=True):
    np.testing.assert_allclose(found[key], run(x[:size]), atol=1e-6)
  assert (out / 'step.jax').exists() == (module is not imdb_bidirectional)
  if about['kind'] == 'text':
    text = "The plot was unheardof, but I don't mind. It is clever!"
    predict.run(predict.Config(workdir=str(folder), text=text))
    wanted = capsys.readouterr().out.split()[0]
    command = [sys.executable, str(out / 'predict.py'), text]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [wanted]


@pytest.mark.slow
def test_a_run_as_onnx(tmp_path):
  runtime = pytest.importorskip('onnxruntime')
  pytest.importorskip('onnx')
  folder, out = tmp_path / 'run', tmp_path / 'out'
  imdb_lstm.run(imdb_lstm.Config(**_REVIEWS, workdir=str(folder), batch_size=32))
  export.run(export.Config(workdir=str(folder), out=str(out), onnx=True))
  trained = experiment.open_run(str(folder))
  x = np.random.default_rng(0).integers(0, 90, (7, 20)).astype(np.int32)
  params = experiment.best_params(trained, x[:1])
  session = runtime.InferenceSession(
    out / 'model.onnx', providers=['CPUExecutionProvider']
  )
  expected = trained.model.apply({'params': params}, x, train=False)
  np.testing.assert_allclose(session.run(None, {'x': x})[0], expected, atol=1e-5)


def test_the_program_beside_the_model_is_short():
  lines = export._TEMPLATE.read_text().splitlines()
  assert len([line for line in lines if line.strip()]) <= 40


@pytest.mark.parametrize(
  ('settings', 'message'), [({}, 'workdir must name'), ({'workdir': '/no'}, '/no')]
)
def test_what_is_no_run_is_refused(settings, message):
  with pytest.raises(InputError, match=message):
    export.run(export.Config(**settings, out='x'))


def test_a_missing_package_is_said_before_any_work(monkeypatch):
  found = {'flatbuffers': None}
  monkeypatch.setattr(
    'importlib.util.find_spec', lambda name: found.get(name, 'somewhere')
  )
  with pytest.raises(InputError, match='needs flatbuffers: pip install flatbuffers'):
    export.run(export.Config(workdir='none', out='out'))
  found = {'onnx': None}
  with pytest.raises(InputError, match='needs onnx: pip install onnx'):
    export.run(export.Config(workdir='none', out='out', onnx=True))
