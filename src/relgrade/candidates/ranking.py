"""Rankings of the rows of a corpus: the best of an array of scores, and reciprocal rank fusion. No texts."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Ranking:
    """Rows of the corpus for one query, the best first."""

    rows: NDArray[np.int64]  # (n_ranked,)
    scores: NDArray[np.float64]  # (n_ranked,) falling


def best_rows(scores: NDArray[np.floating], n_wanted: int) -> NDArray[np.int64]:
    """Positions of the largest scores, the largest first; of equal ones the lower position.

    Args:
        scores: shape (n_rows,), finite.
        n_wanted: at most so many.

    Returns:
        Shape (min(n_wanted, n_rows),).
    """
    n_rows = len(scores)
    if n_wanted < n_rows:
        # argpartition alone would take any of the rows that tie at the border.
        border = np.partition(scores, n_rows - n_wanted)[n_rows - n_wanted]
        above = np.flatnonzero(scores > border)
        level = np.flatnonzero(scores == border)[: n_wanted - len(above)]
        kept = np.concatenate([above, level])
    else:
        kept = np.arange(n_rows)
    return kept[np.lexsort((kept, -scores[kept]))].astype(np.int64)


def fuse(rankings: Mapping[str, Ranking], *, k: int, n_wanted: int) -> Ranking:
    """Reciprocal rank fusion: score = sum over rankings of 1 / (k + rank), rank from 1.

    Cormack, Clarke, Büttcher: "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods",
    SIGIR 2009, equation 1.

    Args:
        rankings: of one query, by method; only ranks matter.
        k: damps the first ranks, 60 in the paper.
        n_wanted: at most so many.
    """
    fused: dict[int, float] = {}
    for name in sorted(rankings):  # one order of adding, whatever the order of the mapping
        for rank, row in enumerate(rankings[name].rows.tolist(), start=1):
            fused[row] = fused.get(row, 0.0) + 1.0 / (k + rank)
    ordered = sorted(fused, key=lambda row: (-fused[row], row))[:n_wanted]
    return Ranking(np.asarray(ordered, np.int64), np.asarray([fused[row] for row in ordered], np.float64))
