"""Modules as JSON: what is built was described, and what has no name is said."""

import json

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax.types import InputError
from seqjax.workdir import modules


class Holder(nn.Module):
  """Of any value."""

  held: object = None


@pytest.mark.parametrize(
  ('value', 'description'),
  [
    (nn.GRUCell, {'named': 'flax.linen.recurrent:GRUCell'}),
    (jnp.bfloat16, {'dtype': 'bfloat16'}),
    (np.float32, {'dtype': 'float32'}),
    (np.dtype('int8'), {'dtype': 'int8'}),
    (np.int64(3), 3),
    (np.float32(0.5), 0.5),
    (np.bool_(True), True),
    (nn.relu, None),
    ((1, 'a', [2.5]), {'tuple': [1, 'a', {'list': [2.5]}]}),
  ],
)
def test_what_a_field_holds_comes_back(value, description):
  record = json.loads(json.dumps(modules.describe(Holder(value))))
  held = record['fields']['held']
  assert held == (description or held)
  built = modules.build(record).held
  same = np.dtype(built) == np.dtype(value) if 'dtype' in str(held) else built == value
  assert same


def test_a_size_of_numpy_s_is_a_size():
  assert modules.build(modules.describe(sj.GRU(np.int64(3)))) == sj.GRU(3)


def test_what_has_no_name_is_said_by_class_and_field_alike_in_every_process():
  one, other = (
    modules.describe(Holder(sj.GRU(size, kernel_init=nn.initializers.he_normal())))
    for size in (2, 3)
  )
  with pytest.raises(InputError) as error:
    modules.build(one)
  assert str(error.value) == (
    'model.json: Holder.held.kernel_init holds variance_scaling.<locals>.init, which '
    'has no name to be saved by; hand the model over as `model`'
  )
  assert one != other  # all else is still compared
  with pytest.raises(InputError, match=r'Holder.held holds ndarray, which'):
    modules.build(modules.describe(Holder(np.ones(3))))

  class Local(Holder):
    pass

  with pytest.raises(InputError, match=r'Local holds test_.*Local, which has no name'):
    modules.build(modules.describe(Local(2)))
