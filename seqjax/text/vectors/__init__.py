"""Files of word vectors: GloVe text, word2vec text and binary; plain, gzip or zip."""

from seqjax.text.vectors.load import Coverage, embedding_matrix, load_vectors
from seqjax.text.vectors.rows import Skipped, WordVectors

__all__ = ['Coverage', 'Skipped', 'WordVectors', 'embedding_matrix', 'load_vectors']
