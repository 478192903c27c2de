"""BM25 over a whole corpus by bm25s. Words are kept as numbers, four bytes each; texts are read once and let go."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade.candidates.ranking import Ranking, best_rows
from relgrade.errors import InvalidInput, MissingExtra

try:
    import bm25s
except ImportError as error:
    raise MissingExtra("bm25s", extra="candidates", purpose="search by words") from error

_BATCH = 2_000  # documents whose words are held as texts at once


class LexicalIndex:
    """Okapi BM25 with the defaults of bm25s.

    k1 1.5, b 0.75, Lucene's idf, words of two characters and more in lower case, English stop words, no stemming: the
    BM25 that `relgrade.evaluate` compares graders with.

    Args:
        texts: of the corpus, in the order of its rows; read once.

    Raises:
        InvalidInput: no document has a word to index.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._words: dict[str, int] = {}
        documents = [
            np.asarray([self._words.setdefault(word, len(self._words)) for word in words], np.int32)
            for words in _words_of(texts)
        ]
        if not self._words:
            raise InvalidInput(f"no word to index in the {len(documents)} documents of the corpus")
        self._n_rows = len(documents)
        self._index = bm25s.BM25()
        self._index.index((documents, dict(self._words)), show_progress=False)

    def search(self, query: str, n_wanted: int) -> Ranking:
        """The best rows for a query; only rows that share a word with it, so perhaps none."""
        scores = self.score(query)
        rows = best_rows(scores, n_wanted)
        rows = rows[scores[rows] > 0]
        return Ranking(rows, scores[rows].astype(np.float64))

    def score(self, query: str) -> NDArray[np.float32]:
        """The score of every row, shape (n_rows,); 0 where it shares no word with the query."""
        (words,) = _words_of([query])
        known = [self._words[word] for word in words if word in self._words]
        if not known:
            return np.zeros(self._n_rows, np.float32)
        scores: NDArray[np.float32] = self._index.get_scores_from_ids(known)
        return scores


def _words_of(texts: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(texts)
    while batch := list(islice(rest, _BATCH)):
        found: Any = bm25s.tokenize(batch, stopwords="en", return_ids=False, show_progress=False, allow_empty=True)
        for words in found:
            yield [word for word in words if word]
