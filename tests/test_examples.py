"""The examples in the docstrings, and that every public name has one."""

import doctest
import inspect
import tempfile

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import seqjax as sj
from seqjax import text

_NAMES = {
  **{name: getattr(sj, name) for name in sj.__all__ if name != '__version__'},
  **{f'text.{name}': getattr(text, name) for name in text.__all__},
}
_TOLD = [name for name in _NAMES if '>>>' in (inspect.getdoc(_NAMES[name]) or '')]
_GLOBALS = {
  'jax': jax,
  'jnp': jnp,
  'nn': nn,
  'np': np,
  'optax': optax,
  'sj': sj,
  'tempfile': tempfile,
  'text': text,
}


def test_every_public_name_has_an_example():
  assert [name for name in _NAMES if name[:5] != 'text.' and name not in _TOLD] == []


@pytest.mark.parametrize('name', _TOLD)
def test_the_example_says_what_comes_of_it(name, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
  example = doctest.DocTestParser().get_doctest(
    inspect.getdoc(_NAMES[name]), dict(_GLOBALS), name, None, 0
  )
  with jax.numpy_rank_promotion('allow'):  # what a reader has
    found = doctest.DocTestRunner().run(example)
  assert found.attempted > 0
  assert not found.failed, capsys.readouterr().out
