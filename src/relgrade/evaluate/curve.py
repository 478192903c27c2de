"""What each threshold would do on these pairs: to look at, never to choose by: the pairs are those reported on."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from relgrade.evaluate.rows import Floats, Rows, check_probabilities

N_THRESHOLDS = 101


@dataclass(frozen=True, slots=True)
class ThresholdCurve:
    """Measures at each threshold of a grid; None where one has no value. A pair is kept at or above the threshold."""

    thresholds: tuple[float, ...]  # probabilities, rising, from 0 to 1
    precision: tuple[float | None, ...]
    recall: tuple[float | None, ...]
    losing_all: tuple[float | None, ...]
    false_keep: tuple[float | None, ...]
    kept: tuple[float, ...]  # share of all pairs


def threshold_curve(probabilities: Any, labels: Any, query_ids: Any, *, is_answerable: Any = None) -> ThresholdCurve:
    """The curve over `N_THRESHOLDS` evenly spaced thresholds.

    Args:
        probabilities: in [0, 1], shape (n_pairs,).
        labels: 0 or 1, shape (n_pairs,).
        query_ids: shape (n_pairs,).
        is_answerable: as in `evaluate_scores`.

    Raises:
        InvalidInput: as `evaluate_scores`.
    """
    rows = Rows.check(labels, query_ids, is_answerable=is_answerable)
    return rows_curve(rows, check_probabilities(probabilities, rows))


def rows_curve(rows: Rows, p: Floats) -> ThresholdCurve:
    """The same for rows that are checked already."""
    grid = np.linspace(0.0, 1.0, N_THRESHOLDS)
    n_kept = _at_or_above(p, grid)
    n_found = _at_or_above(p[rows.relevant], grid)
    best_relevant, best_any = np.full(rows.n_queries, -1.0), np.full(rows.n_queries, -1.0)
    np.maximum.at(best_relevant, rows.query[rows.relevant], p[rows.relevant])
    np.maximum.at(best_any, rows.query, p)
    holders, open_lists = best_relevant[rows.n_relevant > 0], best_any[~rows.is_answerable]
    if not rows.is_by_query:
        holders = open_lists = np.empty(0)
    return ThresholdCurve(
        thresholds=tuple(grid.tolist()),
        precision=_shares(n_found, n_kept),
        recall=_shares(n_found, np.full(grid.size, rows.relevant.sum())),
        losing_all=_shares(holders.size - _at_or_above(holders, grid), np.full(grid.size, holders.size)),
        false_keep=_shares(_at_or_above(open_lists, grid), np.full(grid.size, open_lists.size)),
        kept=tuple((n_kept / p.size).tolist()),
    )


def _at_or_above(values: Floats, grid: Floats) -> Any:
    return values.size - np.searchsorted(np.sort(values), grid, side="left")


def _shares(part: Any, whole: Any) -> tuple[float | None, ...]:
    return tuple(float(n) / float(m) if m else None for n, m in zip(part, whole, strict=True))
