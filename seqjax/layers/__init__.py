"""Layers as flax.linen modules, with Keras's semantics."""

from seqjax.layers.embedding import Embedding
from seqjax.layers.recurrent import GRU, LSTM, RecurrentLayer, SimpleRNN

__all__ = ['GRU', 'LSTM', 'Embedding', 'RecurrentLayer', 'SimpleRNN']
