"""What words alone say about a pair: a few numbers for a model that has to notice when a label looks out of place.

It knows texts and no labels. The numbers of a pair depend on the other documents of its query; they are never grades.
"""

import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from relgrade.records import Pair

FEATURES = (
    "coverage",  # share of the query's words in the document, by their rarity
    "bigrams",  # share of the query's neighbouring words that are neighbours in the document
    "bm25",  # BM25, k1 = 0.9, b = 0.4 (Robertson and Zaragoza 2009)
    "bm25_above_mean",  # over the mean of the query's documents
    "rank",  # by BM25 among the query's documents, 0 the best, 1 the last
    "names",  # share of the query's numbers and capitalised words in the document
    "density",  # share of the document's words that are in the query
    "log_words",  # length of the document
)
_WORD = re.compile(r"\w+")
_NAME = re.compile(r"\b(?:[A-Z]\w+|\w*\d\w*)")
_K1, _B = 0.9, 0.4
_MAX_WORDS = 4000  # of a document; what comes after rarely changes a share


def lexical_features(pairs: Sequence[Pair], query: NDArray[np.int64]) -> NDArray[np.float64]:
    """The numbers that `FEATURES` names.

    Args:
        pairs: with their texts.
        query: index of the pair's query, shape (n_pairs,).

    Returns:
        Shape (n_pairs, n_features), finite.
    """
    documents = [_words(pair.document) for pair in pairs]
    queries = {text: _words(text) for text in {pair.query for pair in pairs}}
    n_with = Counter(word for words in documents for word in set(words))
    mean_length = max(sum(map(len, documents)) / max(len(documents), 1), 1.0)
    rarity = {word: math.log1p((len(pairs) - n + 0.5) / (n + 0.5)) for word, n in n_with.items()}
    unseen = math.log1p(2.0 * len(pairs) + 1.0)
    rows = np.asarray(
        [
            _row(pair, queries[pair.query], words, rarity=rarity, unseen=unseen, mean_length=mean_length)
            for pair, words in zip(pairs, documents, strict=True)
        ]
    ).reshape(len(pairs), 6)
    bm25 = rows[:, 2]
    n_documents = np.bincount(query)
    above = bm25 - (np.bincount(query, weights=bm25) / np.maximum(n_documents, 1))[query]
    return np.column_stack([rows[:, :3], above, _ranks(bm25, query), rows[:, 3:]])


def _row(
    pair: Pair, query: list[str], words: list[str], *, rarity: dict[str, float], unseen: float, mean_length: float
) -> list[float]:
    counts, asked = Counter(words), set(query)
    weight = {word: rarity.get(word, unseen) for word in asked}
    coverage = sum(weight[word] for word in asked if word in counts) / max(sum(weight.values()), 1e-9)
    pairs_asked = set(itertools.pairwise(query))
    bigrams = len(pairs_asked & set(itertools.pairwise(words))) / max(len(pairs_asked), 1)
    length = _K1 * (1.0 - _B + _B * len(words) / mean_length)
    bm25 = sum(weight[w] * counts[w] * (_K1 + 1.0) / (counts[w] + length) for w in asked if w in counts)
    names = {name.lower() for name in _NAME.findall(pair.query)}
    named = sum(name in counts for name in names) / len(names) if names else 0.5
    density = sum(counts[word] for word in asked) / max(len(words), 1)
    return [coverage, bigrams, bm25, named, density, math.log1p(len(words))]


def _words(text: str) -> list[str]:
    return [match.group().lower() for _, match in zip(range(_MAX_WORDS), _WORD.finditer(text), strict=False)]


def _ranks(values: NDArray[np.float64], query: NDArray[np.int64]) -> NDArray[np.float64]:
    """Rank by falling value inside the query, 0 the best and 1 the last, ties the mean of theirs; 0 for a lone one."""
    order = np.lexsort((-values, query))
    sizes = np.bincount(query)
    starts = np.cumsum(sizes) - sizes
    ranks = np.empty(values.size)
    ranks[order] = np.arange(values.size) - starts[query[order]]
    is_new = np.append(True, (np.diff(values[order]) != 0.0) | (np.diff(query[order]) != 0))[: values.size]
    tie = np.empty(values.size, dtype=np.int64)
    tie[order] = np.cumsum(is_new) - 1
    ranks = (np.bincount(tie, weights=ranks) / np.bincount(tie))[tie]
    settled: NDArray[np.float64] = ranks / np.maximum(sizes[query] - 1, 1)
    return settled
