"""The mistakes a grader was surest of, for reading: they show wrong labels as often as a wrong grader."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade.evaluate.rows import Rows, check_scores, check_verdicts


@dataclass(frozen=True, slots=True)
class WorstMistakes:
    """Rows of the worst mistakes, worst first, at most one of each kind for a query."""

    false_keeps: tuple[int, ...]  # kept and irrelevant, highest score first
    false_drops: tuple[int, ...]  # dropped and relevant, lowest score first


def worst_mistakes(scores: Any, is_kept: Any, labels: Any, query_ids: Any, *, limit: int = 10) -> WorstMistakes:
    """Pick the mistakes.

    Args:
        scores: larger is more relevant, shape (n_pairs,).
        is_kept: verdicts, shape (n_pairs,).
        labels: 0 or 1, shape (n_pairs,).
        query_ids: shape (n_pairs,).
        limit: of each kind.

    Raises:
        InvalidInput: shapes differ, or a value is out of range.
    """
    rows = Rows.check(labels, query_ids)
    score, kept = check_scores(scores, rows), check_verdicts(is_kept, rows)
    return WorstMistakes(
        _first_of_each_query(np.flatnonzero(kept & ~rows.relevant), -score, rows, limit),
        _first_of_each_query(np.flatnonzero(~kept & rows.relevant), score, rows, limit),
    )


def _first_of_each_query(
    candidates: NDArray[np.int64], key: NDArray[np.float64], rows: Rows, limit: int
) -> tuple[int, ...]:
    order = candidates[np.lexsort((candidates, key[candidates]))]
    _, first = np.unique(rows.query[order], return_index=True)
    return tuple(order[np.sort(first)][:limit].tolist())
