"""What the README tells a user to do, done."""

import pathlib
import re

import jax
import pytest

_ROOT = pathlib.Path(__file__).parent.parent


@pytest.mark.slow
def test_the_example_runs(capsys):
  text = (_ROOT / 'README.md').read_text()
  _, code = re.findall(r'```python\n(.*?)```', text, re.S)  # the first has no data
  with jax.numpy_rank_promotion('allow'):  # nn.Dense adds [5] to [B, T, 5]
    exec(compile(code, 'README.md', 'exec'), {})
  assert "'kernel': (32, 5)" in capsys.readouterr().out


def test_every_path_it_names_is_there():
  text = (_ROOT / 'README.md').read_text()
  links = re.findall(r'\]\(([^)#]+)\)', text)
  rows = re.findall(r'^\| (`.*`) \|', text, re.M)
  folder, names = _ROOT, []
  for row in rows:  # `seqjax/cells.py`, `scan.py`: what follows is in the same folder
    for name in re.findall(r'`(.*?)`', row):
      folder = (_ROOT / name).parent if '/' in name else folder
      names.append(_ROOT / name if '/' in name else folder / name)
  assert len(links) > 1
  assert len(names) > 10
  for path in [_ROOT / link for link in links] + names:
    assert path.exists(), path
