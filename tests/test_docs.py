"""What the documentation names exists; code of its pages and commands run."""

import ast
import functools
import importlib.util
import json
import os
import pathlib
import re
import shlex

import jax
import numpy as np
import pytest

import seqjax as sj
from experiments import jena_gru_dropout
from seqjax import config as config_lib
from seqjax.data.reviews import synthetic as synthetic_reviews
from seqjax.data.series import synthetic as synthetic_weather
from seqjax.data.series.series import write_csv
from seqjax.data.texts import synthetic as synthetic_texts
from seqjax.interop import torch as torch_interop
from seqjax.interop.keras.load import main as show

pytestmark = pytest.mark.usefixtures('quick_programs')

_ROOT = pathlib.Path(__file__).parent.parent
_DOCS = _ROOT / 'docs'
_TEST = re.compile(r'`((?:\w+/)*test_\w+)::(test_\w+)`')


@functools.cache
def names_in(module):
  """Names of all test functions of a file, those of classes too."""
  tree = ast.parse((_ROOT / 'tests' / f'{module}.py').read_text())
  return {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}


@pytest.mark.parametrize(
  ('name', 'least'),
  [
    ('semantics.md', 15),
    ('features.md', 15),
    ('text.md', 15),
    ('experiments.md', 5),
    ('file_formats.md', 15),
    ('weather.md', 15),
    ('transformations.md', 15),
    ('sequences.md', 5),
  ],
)
def test_named_tests_exist(name, least):
  named = _TEST.findall((_ROOT / 'docs' / name).read_text())
  assert len(named) > least
  missing = [f'{m}::{t}' for m, t in named if t not in names_in(m)]
  assert not missing


def test_every_point_of_the_semantics_names_a_test():
  text = (_ROOT / 'docs' / 'semantics.md').read_text()
  points = re.split(r'\n- ', text)[1:]
  assert len(points) > 40
  bare = [p.splitlines()[0] for p in points if not _TEST.search(p.split('\n\n')[0])]
  assert not bare


@pytest.mark.parametrize('name', ['features.md', 'transformations.md'])
def test_every_row_names_a_test_and_fills_every_column(name):
  lines = (_ROOT / 'docs' / name).read_text().split('\n## ')[0].splitlines()
  header, _, *rows = [line.strip('|').split('|') for line in lines if line[:1] == '|']
  for row in rows:
    assert len(row) == len(header)
    assert all(cell.strip() for cell in row)
    assert _TEST.search(row[-1])


def _written(pattern):
  """Files of docs/, without what `make docs` makes of them."""
  return sorted(p for p in _DOCS.rglob(pattern) if '_build' not in p.parts)


_PAGES = ['index.md', 'fast_path.md', 'guides/accelerators.md', 'guides/from_keras.md']
_PAGES += ['guides/from_torch.md']
_PAGES += sorted(f'recipes/{path.name}' for path in (_DOCS / 'recipes').glob('*.md'))
_PAGES.remove('recipes/index.md')
_NEEDS = {'guides/from_torch.md': 'torch', 'recipes/serving.md': 'flatbuffers'}


@pytest.mark.slow
@pytest.mark.parametrize('page', _PAGES)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
  if page in _NEEDS:
    pytest.importorskip(_NEEDS[page])
  monkeypatch.chdir(tmp_path)
  blocks = re.findall(r'```python\n(.*?)```', (_DOCS / page).read_text(), re.S)
  assert blocks
  names = {}
  with jax.numpy_rank_promotion('allow'):  # what a reader has
    for block in blocks:
      exec(compile(block, page, 'exec'), names)


@pytest.mark.slow
def test_the_code_on_weights_runs(tmp_path, monkeypatch):
  """Each block, on models of the libraries that the page has in mind."""
  keras, torch = pytest.importorskip('keras'), pytest.importorskip('torch')
  monkeypatch.chdir(tmp_path)
  ids = np.random.default_rng(0).integers(1, 10_000, (4, 12)).astype(np.int32)
  both = keras.layers.Bidirectional(keras.layers.LSTM(32), name='bidirectional')
  keras_model = keras.Sequential(
    [keras.layers.Embedding(10_000, 32, mask_zero=True), both, keras.layers.Dense(1)]
  )
  torch_model = torch.nn.ModuleDict(
    {
      'embedding': torch.nn.Embedding(10_000, 32),
      'rnn': torch.nn.LSTM(32, 32, bidirectional=True),
      'head': torch.nn.Linear(64, 1),
    }
  )
  names = {'ids': ids, 'keras_model': keras_model, 'torch_model': torch_model}
  blocks = re.findall(r'```python\n(.*?)```', (_DOCS / 'interop.md').read_text(), re.S)
  assert len(blocks) == 7
  with jax.numpy_rank_promotion('allow'):
    expected = np.asarray(keras_model(ids))
    keras_model.save('model.keras')
    state = {k: v.numpy() for k, v in torch_model.state_dict().items()}
    torch_interop.save('model.safetensors', state)
    for block in blocks:
      if 'interop import onnx' in block and importlib.util.find_spec('onnx') is None:
        continue
      exec(compile(block, 'interop.md', 'exec'), names)
    assert np.abs(names['logits'] - expected).max() < 1e-5
    # What went to Keras and back is what came from it.
    assert np.abs(np.asarray(keras_model(ids)) - expected).max() < 1e-5
  for name, value in state.items():
    np.testing.assert_allclose(
      torch_model.state_dict()[name], value, atol=1e-6, err_msg=name
    )


def test_the_step_that_a_search_is_given_runs():
  text = (_DOCS / 'sequences.md').read_text()
  (block,) = re.findall(r'```python\n(.*?)```', text, re.S)
  layer = sj.GRU(5, return_sequences=True, return_carry=True)
  model = sj.LanguageModel(7, 4, layer, return_carry=True)
  first = np.array([3, 5])
  variables = model.init(jax.random.key(0), first[:, None], train=False)
  names = {'model': model, 'variables': variables}
  exec(compile(block, 'sequences.md', 'exec'), names)
  options = {'end': 0, 'num_steps': 4}
  found = sj.decoding.greedy(names['step'], model.zero_carry(2), first, **options)
  _, logits = model.apply(variables, first[:, None], train=False)
  np.testing.assert_array_equal(found.ids[:, 0], logits[:, 0].argmax(-1))


def test_what_is_shown_as_python_is_python():
  pages = [_ROOT / 'README.md', _ROOT / 'CONTRIBUTING.md', *_written('*.md')]
  blocks = [
    (page, block)
    for page in pages
    for block in re.findall(r'```python\n(.*?)```', page.read_text(), re.S)
  ]
  assert len(blocks) > 30
  for page, block in blocks:
    compile(block, str(page), 'exec')


def test_commands_and_packages_are_named_in_one_form():
  pages = [_ROOT / 'README.md', _ROOT / 'CONTRIBUTING.md', *_written('*.md')]
  pages += _written('*.ipynb')
  other = re.compile(r'(?<!bin/)\bpython (?:-m|\w+\.py)|(?<!-m )\bpytest -|seqjax\[')
  assert [(p.name, other.findall(p.read_text())) for p in pages] == [
    (p.name, []) for p in pages
  ]
  text = ' '.join(p.read_text() for p in pages)
  assert text.count('.venv/bin/python -m') > 30
  assert text.count('PATH_OF_THE_CHECKOUT[') > 3


def test_links_of_pages_outside_the_site_lead_somewhere():
  pages = [*_ROOT.glob('C*.md'), *_ROOT.glob('launch/*.md')]
  pages += _ROOT.glob('benchmarks/**/*.md')
  links = [
    (page, link)
    for page in pages
    for link in re.findall(r'\]\(([^)#:]+)(?:#[^)]*)?\)', page.read_text())
  ]
  assert len(links) > 5
  assert [(p, link) for p, link in links if not (p.parent / link).exists()] == []


def test_the_version_to_cite_is_the_package_s():
  cited = re.findall(r'^version: (.*)$', (_ROOT / 'CITATION.cff').read_text(), re.M)
  assert cited == [sj.__version__]


def test_every_recipe_is_one_screen():
  for path in (_DOCS / 'recipes').glob('*.md'):
    assert len(path.read_text().splitlines()) <= 66, path


@pytest.mark.parametrize('path', _written('*.ipynb'), ids=lambda p: p.stem)
def test_a_notebook_is_kept_without_outputs(path):
  cells = json.loads(path.read_text())['cells']
  code = [cell for cell in cells if cell['cell_type'] == 'code']
  assert len(code) > 3
  for cell in code:
    assert cell['outputs'] == []
    assert cell['execution_count'] is None


def cells_of(page):
  return json.loads((_DOCS / 'tutorial' / page).read_text())['cells']


@pytest.mark.parametrize('page', [p.name for p in sorted(_DOCS.glob('tutorial/*'))])
def test_what_a_page_of_the_tutorial_says_is_checked_as_it_is_built(page):
  hidden = [c for c in cells_of(page) if 'remove-cell' in c['metadata'].get('tags', [])]
  code = '\n'.join(''.join(cell['source']) for cell in hidden)
  assert any(isinstance(node, ast.Assert) for node in ast.parse(code).body)


@pytest.mark.parametrize('page', ['2_embeddings', '4_lstm', '5_weather'])
def test_outputs_of_a_run_on_real_data_say_when_with_what_and_where(page):
  text = ' '.join(''.join(cell['source']) for cell in cells_of(f'{page}.ipynb'))
  where = r'20\d\d-\d\d-\d\d,\s+JAX 0\.\d+\.\d+,\s+two AMD EPYC cores'
  assert re.search(where, text)
  pictures = re.findall(r'\]\(\.\./(pictures/\w+\.png)\)', text)
  assert pictures
  for picture in pictures:
    assert (_DOCS / picture).read_bytes()[:8] == b'\x89PNG\r\n\x1a\n'


_COMMAND = re.compile(
  r'(?:-m|\d|\.sh|\.sbatch) +((?:experiments|benchmarks|seqjax)\.[a-z][\w.]*)([^\n`]*)'
)
_WITH_COMMANDS = [
  path
  for pattern in ('*.md', 'launch/*.md', 'docs/**/*.md', 'experiments/*.py')
  for path in sorted(_ROOT.glob(pattern))
  if path.name != 'CHANGELOG.md'  # its commands are those of their day
]


def commands(path, folder):
  """(module, arguments) of the commands that a text names, for one in a folder."""
  text = path.read_text().replace('\\\n', ' ')
  flags = os.path.relpath(_ROOT / 'experiments' / 'flags', folder)
  for module, rest in _COMMAND.findall(text):
    arguments = shlex.split(rest, comments=True)
    yield module, [a.replace('experiments/flags', flags) for a in arguments]


def test_every_command_has_its_module_and_flags(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  seen = {}
  for path in _WITH_COMMANDS:
    for module, arguments in commands(path, tmp_path):
      assert importlib.util.find_spec(module), (path, module)
      seen.setdefault(module, []).append(arguments)
      if module.startswith('experiments.'):
        config = importlib.import_module(module).Config
        config_lib.parse(config, [a for a in arguments if a not in ('--help', '...')])
  assert len(seen) > 25
  assert sum(map(len, seen.values())) > 40
  assert any(
    '--distributed' in arguments for arguments in seen['experiments.imdb_lstm']
  )


# What makes each command short enough for a test. A sweep is in test_sweep.py.
_SHORT = {
  'imdb_lstm': ['--num_epochs=1', '--length=20', '--vocab_size=90', '--batch_size=32'],
  'jena_gru': ['--train_rows=2400', '--validation_rows=2000', '--steps_per_epoch=2',
               '--num_epochs=1', '--batch_size=8'],
  'jena_explore': [],
  'imdb_explore': [],
  'export': [],
  'predict': [],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize('linked', [False, True])
def test_commands_run_in_another_folder(tmp_path, monkeypatch, capsys, linked):
  pytest.importorskip('flatbuffers')
  data, here = tmp_path / 'my data', tmp_path / 'an other folder'
  for folder in (data, here):
    folder.mkdir()
  for split, part in zip(
    ('train', 'test'), synthetic_reviews.reviews(0, 64, 32), strict=True
  ):
    for i, (text, label) in enumerate(zip(part.texts, part.labels, strict=True)):
      path = (
        data / 'aclImdb' / split / ('neg', 'pos')[label] / f'{i}_{9 * label + 1}.txt'
      )
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_text(text)
  write_csv(synthetic_weather.weather(0, 8_000), data / 'jena_climate_2020.csv')
  monkeypatch.chdir(here)
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  folder, runs = '../my data/', 'runs/'
  if linked:
    (tmp_path / 'link').symlink_to(data)
    monkeypatch.setenv('HOME', str(tmp_path))
    folder, runs = '~/link', './runs/../runs'
  pages = ('README.md', 'docs/experiments.md', 'docs/weather.md')
  ran = []
  for module, arguments in [c for page in pages for c in commands(_ROOT / page, here)]:
    name = module.removeprefix('experiments.')
    if name not in _SHORT or '--distributed' in arguments or not arguments:
      continue
    of_weather = '--file=FILE.csv' in arguments
    names = {'FILE.csv': f'{folder}/jena_climate_2020.csv', '=DIR': f'={folder}'}
    run = 'jena_gru' if of_weather else 'imdb_lstm'
    if any('--samples' in a for a in arguments):  # of a run with dropout
      run = 'jena_gru_dropout'
      flags = [f'--data_dir={folder}', f'--workdir={runs}/{run}', *_SHORT['jena_gru']]
      jena_gru_dropout.run(config_lib.parse(jena_gru_dropout.Config, flags))
    names['=RUN'] = f'={runs}/{run}'
    for old, new in names.items():
      arguments = [a.replace(old, new) for a in arguments]
    found = importlib.import_module(module)
    capsys.readouterr()
    found.run(config_lib.parse(found.Config, [*arguments, *_SHORT[name]]))
    if name == 'predict':
      assert capsys.readouterr().out.strip()
    ran += [name, of_weather]
  assert set(ran) == {*_SHORT, True, False}
  assert (data / 'model.jax').is_file()
  assert {path.name for path in (here / 'runs').iterdir()} >= {
    'imdb_lstm',
    'jena_gru',
    'jena_explore',
    'imdb_explore',
  }
  assert not list(here.glob('*~*'))


@pytest.mark.slow
@pytest.mark.parametrize('linked', [False, True])
def test_commands_on_texts_run_in_another_folder(tmp_path, monkeypatch, capsys, linked):
  h5py = pytest.importorskip('h5py')
  data, here = tmp_path / 'my data', tmp_path / 'an other folder'
  for folder in (data, here):
    folder.mkdir()
  parts = synthetic_texts.topics(1, 120)
  topics = [p for part in parts for p in zip(part.texts, part.labels, strict=True)]
  rows = ['text,label', *(f'"{text}",{label}' for text, label in topics)]
  (data / 'letters.csv').write_text('\r'.join(rows))
  for i, (text, label) in enumerate(topics):
    (data / 'letters' / label).mkdir(parents=True, exist_ok=True)
    (data / 'letters' / label / f'{i}.txt').write_text(text)
  (data / 'mine.txt').write_text(synthetic_texts.play(0, 200), newline='\r\n')
  with h5py.File(data / 'model.keras', 'w') as file:
    file['layers/dense/vars/0'] = np.ones((2, 3))
  monkeypatch.chdir(here)
  folder = '../my data'
  if linked:
    (tmp_path / 'link').symlink_to(data)
    monkeypatch.setenv('HOME', str(tmp_path))
    folder = '~/link'
  short = {
    **dict.fromkeys(('classify_explore', 'predict', 'keras')),
    'classify': ['--num_epochs=1', '--features=4', '--embed_size=4', '--test_split=.2'],
    'char_lm': ['--num_epochs=1', '--features=4', '--batch_size=2', '--warmup_steps=0'],
    'generate': ['--num_tokens=5'],
  }
  names = {'=letters': f'={folder}/letters', '=mine.txt': f'={folder}/mine.txt'}
  names |= {'=RUN': '=runs/letters', 'model.keras': f'{folder}/model.keras'}
  ran = set()
  pages = ('own_data.md', 'experiments.md', 'interop.md')
  for module, given in [c for page in pages for c in commands(_DOCS / page, here)]:
    name, arguments = module.rpartition('.')[2], given
    if name not in short or not given or any('FILE' in a for a in given):
      continue
    if '--data=letters' in given:  # the same command as for the table
      arguments = [a.replace('runs/letters', 'runs/folder') for a in given]
    for old, new in names.items():
      arguments = [a.replace(old, new) for a in arguments]
    capsys.readouterr()
    if name == 'keras':
      assert show(arguments) == 0
      assert 'dense  Dense' in capsys.readouterr().out
    else:
      found = importlib.import_module(module)
      found.run(config_lib.parse(found.Config, [*arguments, *(short[name] or [])]))
    ran.add(name)
  assert ran == set(short)
  assert {path.name for path in (here / 'runs').iterdir()} >= {
    'letters',
    'folder',
    'mine',
  }
  assert not list(here.glob('*~*'))
