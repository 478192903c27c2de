"""What a grader has to beat: word matching. Scores of pairs, no verdicts; a threshold is chosen for them elsewhere."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade.errors import InvalidInput, MissingExtra

_WORD = re.compile(r"\w+")


class BM25:
    """Okapi BM25 over one corpus by bm25s, with its defaults.

    k1 1.5, b 0.75, Lucene's idf, words of two characters and more in lower case, English stop words, no stemming.

    Args:
        corpus: the documents that word frequencies are counted on; repeated ones count once.

    Raises:
        MissingExtra: bm25s is not installed.
        InvalidInput: no document has a word to index.
    """

    def __init__(self, corpus: Iterable[str]) -> None:
        self._library = _bm25s()
        documents = list(dict.fromkeys(corpus))
        tokens = self._tokenise(documents)
        if not any(tokens):
            raise InvalidInput(f"no word to index in the {len(documents)} documents of the corpus")
        self._row = {document: row for row, document in enumerate(documents)}
        self._index = self._library.BM25()
        self._index.index(tokens, show_progress=False)

    def score(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
        """Scores >= 0 of (query, document) pairs, shape (n_pairs,); 0 when they share no indexed word.

        Raises:
            InvalidInput: a document is not of the corpus.
        """
        rows_by_query: dict[str, list[int]] = {}
        for row, (query, _) in enumerate(pairs):
            rows_by_query.setdefault(query, []).append(row)
        scores = np.zeros(len(pairs))
        for rows, tokens in zip(rows_by_query.values(), self._tokenise(list(rows_by_query)), strict=True):
            columns = [self._column(pairs[row][1]) for row in rows]
            known = self._index.get_tokens_ids(tokens)
            if known:
                scores[rows] = self._index.get_scores_from_ids(known)[columns]
        return scores

    def _column(self, document: str) -> int:
        try:
            return self._row[document]
        except KeyError:
            raise InvalidInput(f"BM25 was not given this document in its corpus: {document[:80]!r}") from None

    def _tokenise(self, texts: list[str]) -> list[list[str]]:
        tokens: list[list[str]] = self._library.tokenize(
            texts, stopwords="en", return_ids=False, show_progress=False, allow_empty=True
        )
        return [[token for token in each if token] for each in tokens]


def word_overlap(pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
    """Share of the query's distinct words that the document has, in [0, 1], case ignored; 0 for a query without words.

    Returns:
        Shape (n_pairs,).
    """
    words: dict[str, frozenset[str]] = {}

    def words_of(text: str) -> frozenset[str]:
        if text not in words:
            words[text] = frozenset(_WORD.findall(text.lower()))
        return words[text]

    shares = [len(words_of(query) & words_of(document)) / max(1, len(words_of(query))) for query, document in pairs]
    return np.asarray(shares, dtype=np.float64)


def _bm25s() -> Any:
    try:
        import bm25s
    except ImportError as error:
        raise MissingExtra("bm25s", extra="evaluate", purpose="score the BM25 baseline") from error
    return bm25s
