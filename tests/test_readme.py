"""What the README tells a user to do, done."""

import pathlib
import re

import jax

_ROOT = pathlib.Path(__file__).parent.parent


def test_the_example_runs(capsys):
  (code,) = re.findall(r'```python\n(.*?)```', (_ROOT / 'README.md').read_text(), re.S)
  with jax.numpy_rank_promotion('allow'):  # nn.Dense adds [5] to [B, T, 5]
    exec(compile(code, 'README.md', 'exec'), {})
  assert "'kernel': (32, 5)" in capsys.readouterr().out


def test_every_path_it_names_is_there():
  text = (_ROOT / 'README.md').read_text()
  links = re.findall(r'\]\(([^)#]+)\)', text)
  rows = re.findall(r'^\| `(.*?)` \|', text, re.M)
  assert links
  assert rows
  for name in links:
    assert (_ROOT / name).exists(), name
