"""What systems leave is told from what users mean, by name."""

import pytest

from seqjax.files.litter import is_litter


@pytest.mark.parametrize(
  'name',
  ['.DS_Store', 'a/b/._x.txt', '__MACOSX/a.csv', 'a/Thumbs.db', 'THUMBS.DB',
   'a/desktop.ini', '.ipynb_checkpoints/a-checkpoint.csv', 'a/@eaDir/b/c.txt'],
)  # fmt: skip
def test_litter(name):
  assert is_litter(name)


@pytest.mark.parametrize(
  'name',
  ['a.txt', '.hidden', 'x.DS_Store', 'a/_b', 'a._b', 'Thumbs.db.txt', 'MACOSX/a', ''],
)
def test_no_litter(name):
  assert not is_litter(name)
