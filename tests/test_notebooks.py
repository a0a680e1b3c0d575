"""Notebooks run from top to bottom, and a kernel that is interrupted goes on."""

import ast
import pathlib
import time

import jupyter_client
import nbclient
import nbformat
import pytest

_DOCS = pathlib.Path(__file__).parent.parent / 'docs'


@pytest.mark.slow
def test_a_notebook_of_the_documentation_runs_and_draws(tmp_path):
  notebook = nbformat.read(_DOCS / 'tagger.ipynb', as_version=4)
  nbclient.NotebookClient(
    notebook, timeout=300, resources={'metadata': {'path': str(tmp_path)}}
  ).execute()
  outputs = [o for cell in notebook.cells for o in cell.get('outputs', [])]
  assert any('image/png' in o.get('data', {}) for o in outputs)
  text = ''.join(o.get('text', '') for o in outputs)
  assert '\x1b' not in text
  assert '\r' not in text
  (recall,) = outputs[-1:]
  values = ast.literal_eval(recall['data']['text/plain']).values()
  assert min(values) > 0.9
  assert list(tmp_path.iterdir()) == []  # nothing is written where nobody asked


_FIT = """
import signal
import numpy as np, seqjax as sj

def stop(values, params):
  if values['epoch'] == 2:
    signal.raise_signal(signal.SIGINT)

x = np.random.default_rng(0).standard_normal((600, 20, 3)).astype(np.float32)

def fit(num_epochs, on_epoch=None, quiet=True):
  return sj.fit(
    sj.SequenceRegressor(sj.GRU(8)), (x, x.sum((1, 2))), loss='mse', batch_size=8,
    num_epochs=num_epochs, on_epoch=on_epoch, quiet=quiet,
  )
"""


@pytest.mark.slow
def test_the_stop_button_returns_what_there_is_and_resume_goes_on():
  manager, client = jupyter_client.manager.start_new_kernel(kernel_name='python3')

  def ask(code, *, interrupt_after=None):
    """What a cell prints, and how its bar ends; one that raises fails the test."""
    said, identity = [], client.execute(code)
    if interrupt_after is not None:
      time.sleep(interrupt_after)
      manager.interrupt_kernel()
    while True:
      message = client.get_iopub_msg(timeout=300)
      content = message['content']
      if message['parent_header'].get('msg_id') != identity:
        continue
      if message['msg_type'] == 'error':
        pytest.fail('\n'.join(content['traceback']))
      if message['msg_type'] == 'stream':
        said.append(content['text'])
      if message['msg_type'] == 'update_display_data':
        said.append(content['data']['text/html'])
      if content.get('execution_state') == 'idle':
        return ''.join(said)

  try:
    ask(_FIT)
    ask('fit(1)')  # so that what is interrupted is the loop
    said = ask('f = fit(4000, quiet=False)', interrupt_after=5)
    assert 'kept in memory; resume() goes on from there' in ' '.join(said.split())
    asked = ask('print(f.stopped, len(f.history["loss"]), f.predict(x).shape)')
    stopped, epochs, shape = asked.split(maxsplit=2)
    assert (stopped, shape.strip()) == ('True', '(600,)')
    assert 0 < int(epochs) < 4000
    shown = ask('fit(1, quiet=False)')
    assert '<progress value="75" max="75"></progress> <code>step 75/75  loss' in shown
    ask('whole, parts = fit(5), fit(5, stop).resume()')
    whole, parts = (
      ast.literal_eval(ask(f'print({name}.history["loss"].tolist())'))
      for name in ('whole', 'parts')
    )
    assert whole == parts
    assert len(whole) == 5
  finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
