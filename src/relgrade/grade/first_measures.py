"""What the first stage of a cascade sees of a pair: token ids and a vector for each token id; no text is read.

The measures are those of the interaction head that need no context, in numpy: overlap weighted by idf, BM25 (Robertson
and Zaragoza 2009, section 3.2), and the best match of each token's fixed vector. A pair takes 0.3 ms with tokenising.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BM25_K1, BM25_B, MEAN_LENGTH = 1.2, 0.75, 150.0
BLOCK = 16  # tokens; a span is three blocks
NAMES = (
    *("coverage", "bm25", "bm25_sum", "bigrams", "coverage_span", "idf_missed", "idf_matched", "document_covered"),
    *("vector_idf", "vector_mean", "vector_min", "vector_span", "vector_missed", "document_near", "cosine"),
    *("query_length", "document_length", "query_idf"),
)

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Tables:
    """By token id of the tokenizer that a grader uses."""

    idf: Array  # (n_vocabulary,) >= 0
    vectors: Array  # (n_vocabulary, n_dimensions) of length 1, or 0


@dataclass(frozen=True, slots=True)
class Tokens:
    """A query or a document, looked up once for all its pairs."""

    ids: NDArray[np.int64]  # (n_tokens,), at least one
    idf: Array  # (n_tokens,)
    weights: Array  # idf at sum 1, or 0
    vectors: Array  # (n_tokens, n_dimensions)
    direction: Array  # (n_dimensions,) sum of the vectors weighted by idf, of length 1, or 0

    @classmethod
    def of(cls, ids: NDArray[np.int64], tables: Tables) -> "Tokens":
        """Look up a text of at least one token."""
        idf, vectors = tables.idf[ids], tables.vectors[ids]
        direction = idf @ vectors
        length = max(float(np.sqrt(direction @ direction)), 1e-9)
        return cls(ids, idf, idf / max(float(idf.sum()), 1e-6), vectors, direction / length)


def measure(query: Tokens, document: Tokens) -> Array:
    """The measures of a pair in the order of `NAMES`, shape (n_measures,)."""
    same = query.ids[:, None] == document.ids  # (n_query, n_document)
    near = query.vectors @ document.vectors.T  # (n_query, n_document) cosines
    has, best = same.any(1), near.max(1)  # (n_query,)
    frequency = same.sum(1)
    length = 1 - BM25_B + BM25_B * len(document.ids) / MEAN_LENGTH
    saturated = frequency * (BM25_K1 + 1) / (frequency + BM25_K1 * length)
    bigrams = (same[:-1, :-1] & same[1:, 1:]).any(1)
    return np.array(
        [
            has @ query.weights,
            saturated @ query.weights,
            np.log1p(saturated @ query.idf),
            bigrams.sum() / max(len(query.ids) - 1, 1),
            (query.weights @ _best_of_spans(same.astype(np.float32))).max(),
            (query.idf * ~has).max(),
            (query.idf * has).max(),
            same.any(0) @ document.weights,
            best @ query.weights,
            best.mean(),
            best.min(),
            (query.weights @ _best_of_spans(near)).max(),
            ((1 - best) * query.idf).max(),
            near.max(0) @ document.weights,
            query.direction @ document.direction,
            np.log1p(len(query.ids)),
            np.log1p(len(document.ids)),
            query.idf.mean(),
        ],
        dtype=np.float32,
    )


def _best_of_spans(values: Array) -> Array:
    """Largest value of each row within each span of a document, shape (n_query, n_spans); nothing counts as -1."""
    n_rows, n_tokens = values.shape
    n_blocks = -(-n_tokens // BLOCK)
    padded = np.full((n_rows, (n_blocks + 2) * BLOCK), -1.0, np.float32)
    padded[:, :n_tokens] = values
    blocks = padded.reshape(n_rows, n_blocks + 2, BLOCK).max(2)
    best: Array = np.maximum(np.maximum(blocks[:, :-2], blocks[:, 1:-1]), blocks[:, 2:])
    return best
