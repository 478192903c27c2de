"""Search by vectors: exact with numpy up to a million of them, an index of faiss beyond.

Vectors have length 1, so the inner product is the cosine. The corpus may lie on disk: it is read a block at a time.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade.candidates.ranking import Ranking, best_rows
from relgrade.errors import InvalidInput, MissingExtra

Vectors = NDArray[np.float32]
Rows = Callable[[int, int], Vectors]  # (start, stop) -> vectors of those rows of the corpus

BLOCK_ROWS = 16_384  # 25 MB of 384 floats
QUERY_BLOCK = 256  # with a block of rows, 17 MB of scores
_TRAIN_ROWS_PER_LIST = 64  # faiss asks for 39 at least
_PROBED_LISTS = 64


class ExactIndex:
    """The nearest rows, by comparing every pair.

    Args:
        rows: reads a block of the corpus.
        n_rows: of the corpus.
    """

    def __init__(self, rows: Rows, n_rows: int) -> None:
        self._rows, self._n_rows = rows, n_rows

    def search(self, queries: Vectors, n_wanted: int) -> list[Ranking]:
        """The nearest rows of each query, `n_wanted` at most; queries have shape (n_queries, dimension)."""
        kept = [Ranking(np.empty(0, np.int64), np.empty(0, np.float64)) for _ in queries]
        for start in range(0, self._n_rows, BLOCK_ROWS):
            block = self._rows(start, min(start + BLOCK_ROWS, self._n_rows))  # (n_block, dimension)
            for first in range(0, len(queries), QUERY_BLOCK):
                scores = queries[first : first + QUERY_BLOCK] @ block.T  # (n_part, n_block)
                for number, own in enumerate(scores, start=first):
                    found = best_rows(own, n_wanted)
                    # What is kept comes first and has lower rows, so that ties fall to the lower row here too.
                    all_rows = np.concatenate([kept[number].rows, found + start])
                    all_scores = np.concatenate([kept[number].scores, own[found].astype(np.float64)])
                    best = best_rows(all_scores, n_wanted)
                    kept[number] = Ranking(all_rows[best], all_scores[best])
        return kept


class ListIndex:
    """Nearly the nearest rows, through inverted lists (faiss `IndexIVFFlat`).

    Lists, not a graph: they are built the same way every time, whatever the number of threads. Vectors are held in
    memory, four bytes a number.

    Args:
        rows: reads a block of the corpus.
        n_rows: of the corpus.
        dimension: of a vector.
        seed: of the clustering.

    Raises:
        MissingExtra: faiss is not installed.
    """

    def __init__(self, rows: Rows, n_rows: int, *, dimension: int, seed: int) -> None:
        faiss = _faiss(n_rows)
        n_lists = max(1, int(4 * np.sqrt(n_rows)))
        self._n_rows = n_rows
        self._index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dimension), dimension, n_lists, faiss.METRIC_INNER_PRODUCT)
        self._index.cp.seed = seed
        self._index.train(_sample(rows, n_rows, n_lists * _TRAIN_ROWS_PER_LIST))
        for start in range(0, n_rows, BLOCK_ROWS):
            self._index.add(np.ascontiguousarray(rows(start, min(start + BLOCK_ROWS, n_rows))))
        self._index.nprobe = min(n_lists, _PROBED_LISTS)

    def search(self, queries: Vectors, n_wanted: int) -> list[Ranking]:
        """As `ExactIndex.search`."""
        scores, found = self._index.search(np.ascontiguousarray(queries), min(n_wanted, self._n_rows))
        rankings = []
        for own_scores, own_rows in zip(scores, found, strict=True):
            is_found = own_rows >= 0  # the probed lists may hold fewer rows than were asked for
            rows, kept = own_rows[is_found].astype(np.int64), own_scores[is_found].astype(np.float64)
            order = np.lexsort((rows, -kept))
            rankings.append(Ranking(rows[order], kept[order]))
        return rankings


def unit_rows(vectors: NDArray[np.floating]) -> Vectors:
    """The vectors at length 1, shape (n, dimension); one of length 0 stays.

    Raises:
        InvalidInput: a number is not finite; says in which row.
    """
    is_finite = np.isfinite(vectors).all(axis=1)
    if not is_finite.all():
        raise InvalidInput(f"vector {int(np.flatnonzero(~is_finite)[0])} holds a number that is not finite")
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)


def _sample(rows: Rows, n_rows: int, n_wanted: int) -> Vectors:
    """Rows at equal distances, `n_wanted` or more."""
    step = max(1, n_rows // n_wanted)
    blocks = range(0, n_rows, BLOCK_ROWS)
    parts = [rows(start, min(start + BLOCK_ROWS, n_rows))[(-start) % step :: step] for start in blocks]
    return np.ascontiguousarray(np.concatenate(parts))


def _faiss(n_rows: int) -> Any:
    try:
        import faiss
    except ImportError as error:
        raise MissingExtra("faiss-cpu", extra="large", purpose=f"search {n_rows:,} vectors") from error
    return faiss
