"""SimpleRNN, LSTM, GRU and Bidirectional as modules of flax.nnx.

    from seqjax import nnx as snn

    lstm = snn.LSTM(16, 32, dropout=0.2, return_sequences=True, rngs=nnx.Rngs(0))
    y = lstm(x, mask=mask)  # train() and eval() of nnx switch the dropout

They hold parameters as nnx does, by linen's names and shapes, and compute what the
linen layers do. `to_linen` and `from_linen` move the parameters of any nnx model.
"""

from collections.abc import Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import nnx

from seqjax import layers
from seqjax.layers import RecurrentLayer
from seqjax.types import Array


class _Module(nnx.Module):
  """A linen layer whose parameters are this module's.

  Attributes:
    layer: The linen layer, with all options.
    deterministic: Whether nothing is dropped; `train()` and `eval()` of nnx set it.
    rngs: The stream `dropout`; None if nothing is ever dropped.
  """

  def __init__(self, layer: Any, deterministic: bool, rngs: Any) -> None:
    self.layer = layer
    self.deterministic = deterministic
    drops = any(_rates(layer))
    if drops and rngs is None:
      raise ValueError(f'{type(self).__name__} with dropout needs rngs')
    self.rngs = nnx.data(rngs['dropout'].fork() if drops else None)

  def __call__(
    self, x: Array, *, deterministic: bool | None = None, rngs: Any = None, **given: Any
  ) -> Any:
    """Runs the layer over sequences.

    Args:
      x: [..., T, D].
      deterministic: In place of the attribute.
      rngs: nnx.Rngs, a stream or a key, in place of the module's own.
      **given: `mask`, `initial_carry`, `reset` or `lengths`, as of the linen layer.

    Returns:
      What the linen layer does.
    """
    if deterministic is None:
      deterministic = self.deterministic
    keys = None
    if not deterministic and any(_rates(self.layer)):
      keys = {'dropout': _key(self.rngs if rngs is None else rngs)}
    params = {'params': to_linen(self)}
    return self.layer.apply(params, x, not deterministic, rngs=keys, **given)


class _Recurrent(_Module):
  """What the three recurrent modules have in common.

  Attributes, beside those of the linen layer:
    kernel, recurrent_kernel, bias: nnx.Param; without `use_bias` there is no bias.
  """

  _layer: type[RecurrentLayer]

  def __init__(
    self,
    in_features: int,
    features: int | None = None,
    *,
    rngs: nnx.Rngs,
    deterministic: bool = False,
    **options: Any,
  ) -> None:
    """Draws the parameters.

    Args:
      in_features: D.
      features: Units, H.
      rngs: Streams `params`, and `dropout` if there is any.
      deterministic: Whether nothing is dropped.
      **options: Of the linen layer of that name, `train` left out.

    Raises:
      ValueError, TypeError: as the linen layer.
    """
    # None is for those who call it otherwise, and are told so.
    layer: Any = self._layer(cast(int, features), **options)
    super().__init__(layer, deterministic, rngs)
    x = jnp.zeros((1, 1, in_features), layer.param_dtype)
    params = layer.init(rngs.params(), x, train=False)['params']
    for name, value in params.items():
      setattr(self, name, nnx.Param(value))


class SimpleRNN(_Recurrent):
  """`seqjax.SimpleRNN` as a module of nnx.

  Example:
    >>> from flax import nnx
    >>> from seqjax import nnx as snn
    >>> layer = snn.SimpleRNN(3, 8, return_sequences=True, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((2, 5, 3))).shape
    (2, 5, 8)
  """

  _layer = layers.SimpleRNN


class LSTM(_Recurrent):
  """`seqjax.LSTM` as a module of nnx.

  Example:
    >>> from flax import nnx
    >>> from seqjax import nnx as snn
    >>> layer = snn.LSTM(3, 8, return_sequences=True, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((2, 5, 3))).shape
    (2, 5, 8)
  """

  _layer = layers.LSTM


class GRU(_Recurrent):
  """`seqjax.GRU` as a module of nnx.

  Example:
    >>> from flax import nnx
    >>> from seqjax import nnx as snn
    >>> layer = snn.GRU(3, 8, return_sequences=True, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((2, 5, 3))).shape
    (2, 5, 8)
  """

  _layer = layers.GRU


class Bidirectional(_Module):
  """`seqjax.Bidirectional` of two modules, the second with `go_backwards`.

  Attributes:
    forward_layer, backward_layer: SimpleRNN, LSTM or GRU of this file.

  Example:
    >>> from flax import nnx
    >>> from seqjax import nnx as snn
    >>> forward = snn.GRU(3, 8, rngs=nnx.Rngs(0))
    >>> backward = snn.GRU(3, 8, go_backwards=True, rngs=nnx.Rngs(1))
    >>> snn.Bidirectional(forward, backward)(jnp.ones((2, 5, 3))).shape
    (2, 16)
  """

  def __init__(
    self,
    forward_layer: _Recurrent,
    backward_layer: _Recurrent,
    *,
    merge_mode: Any = 'concat',
    deterministic: bool = False,
    rngs: nnx.Rngs | None = None,
  ) -> None:
    """Takes the modules; `rngs` are needed if one of them drops."""
    layer = layers.Bidirectional(
      forward_layer.layer, backward_layer.layer, merge_mode=merge_mode
    )
    super().__init__(layer, deterministic, rngs)
    self.forward_layer = forward_layer
    self.backward_layer = backward_layer


def to_linen(module: nnx.Module) -> dict[str, Any]:
  """The parameters of a module and all in it, nested by name: linen's `params`.

  Example:
    >>> from flax import nnx
    >>> from seqjax import nnx as snn
    >>> params = snn.to_linen(snn.GRU(3, 8, rngs=nnx.Rngs(0)))
    >>> sj.GRU(8).apply({'params': params}, jnp.ones((2, 5, 3)), train=False).shape
    (2, 8)
  """
  return nnx.to_pure_dict(nnx.state(module, nnx.Param))


def from_linen(module: nnx.Module, params: Mapping[str, Any]) -> None:
  """Sets the parameters of a module and all in it; all or, by a ValueError, none.

  Args:
    module: Of nnx.
    params: Nested by the same names, arrays of the same shapes; cast to its dtypes.

  Example:
    >>> from flax import nnx
    >>> from seqjax import nnx as snn
    >>> gru, x = snn.GRU(3, 8, rngs=nnx.Rngs(0)), jnp.ones((2, 5, 3))
    >>> params = sj.GRU(8).init(jax.random.key(1), x, train=False)['params']
    >>> snn.from_linen(gru, params)
    >>> bool((snn.to_linen(gru)['kernel'] == params['kernel']).all())
    True
  """
  own, _ = jax.tree_util.tree_flatten_with_path(to_linen(module))
  given, _ = jax.tree_util.tree_flatten_with_path(dict(params))
  shapes = [
    {
      jax.tree_util.keystr(path, simple=True, separator='/'): jnp.shape(a)
      for path, a in leaves
    }
    for leaves in (own, given)
  ]
  for name in dict.fromkeys([*shapes[0], *shapes[1]]):
    expected, got = (side.get(name, 'absent') for side in shapes)
    if expected != got:
      raise ValueError(f'{name!r} is {expected} in the module, {got} in params')
  state = nnx.state(module, nnx.Param)
  cast = jax.tree.map(
    lambda old, new: jnp.asarray(new, old.dtype), to_linen(module), dict(params)
  )
  nnx.replace_by_pure_dict(state, cast)
  nnx.update(module, state)


def _rates(layer: Any) -> list[float]:
  inner = [getattr(layer, f'{d}_layer', None) for d in ('forward', 'backward')]
  return [
    getattr(each, name)
    for each in (layer, *inner)
    for name in ('dropout', 'recurrent_dropout')
    if hasattr(each, name)
  ]


def _key(rngs: Any) -> Array:
  if isinstance(rngs, nnx.Rngs):
    return rngs.dropout()
  return rngs() if isinstance(rngs, nnx.RngStream) else rngs
