"""From text to arrays: ids, padding, one-hot, hashing, word vectors. NumPy only."""

from seqjax.text.bleu import check_bleu, corpus_bleu
from seqjax.text.documents import document_matrix
from seqjax.text.one_hot import (
  NUM_CHARACTER_IDS,
  Collisions,
  character_ids,
  collision_rate,
  hash_id,
  hash_words,
  ngrams,
  one_hot_characters,
  one_hot_ids,
  one_hot_words,
)
from seqjax.text.padding import pad_sequences
from seqjax.text.tokenizer import FILTERS, Tokenizer, split_words
from seqjax.text.vector_files import Skipped, WordVectors, load_vectors
from seqjax.text.vectors import Coverage, embedding_matrix

__all__ = [
  'FILTERS',
  'NUM_CHARACTER_IDS',
  'Collisions',
  'Coverage',
  'Skipped',
  'Tokenizer',
  'WordVectors',
  'character_ids',
  'check_bleu',
  'collision_rate',
  'corpus_bleu',
  'document_matrix',
  'embedding_matrix',
  'hash_id',
  'hash_words',
  'load_vectors',
  'ngrams',
  'one_hot_characters',
  'one_hot_ids',
  'one_hot_words',
  'pad_sequences',
  'split_words',
]
