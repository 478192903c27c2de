"""Two graders on the same pairs: which verdicts turn, whether for the better, and how the measures differ, paired."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade import metrics
from relgrade.errors import UndefinedMeasure
from relgrade.evaluate.intervals import Estimate, draw_queries, ranking_draws, ratio_draws
from relgrade.evaluate.rows import Floats, Rows, check_scores, check_verdicts
from relgrade.evaluate.verdicts import Confusion


@dataclass(frozen=True, slots=True, kw_only=True)
class Flips:
    """From the other grader to this one."""

    n_pairs: int
    n_flipped: int
    share: Estimate  # of the pairs whose verdict differs
    n_newly_kept_relevant: int  # mended
    n_newly_dropped_irrelevant: int  # mended
    n_newly_kept_irrelevant: int  # broken
    n_newly_dropped_relevant: int  # broken
    differences: dict[str, Estimate]  # measure -> this grader minus the other, on the same draws

    @property
    def n_mended(self) -> int:
        """Verdicts that were wrong and are right."""
        return self.n_newly_kept_relevant + self.n_newly_dropped_irrelevant

    @property
    def n_broken(self) -> int:
        """Verdicts that were right and are wrong."""
        return self.n_newly_kept_irrelevant + self.n_newly_dropped_relevant


def compare_verdicts(
    is_kept: Any,
    other_is_kept: Any,
    labels: Any,
    query_ids: Any,
    *,
    scores: Any = None,
    other_scores: Any = None,
    n_draws: int = 1000,
    seed: int = 0,
) -> Flips:
    """Compare the verdicts of two graders, with a paired bootstrap: each draw of queries measures both.

    Args:
        is_kept: of this grader, shape (n_pairs,).
        other_is_kept: of the other, shape (n_pairs,).
        labels: 0 or 1, shape (n_pairs,).
        query_ids: shape (n_pairs,).
        scores: of this grader, for the difference of average precision; None: left out.
        other_scores: of the other.
        n_draws: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        InvalidInput: shapes differ, or a value is out of range.
    """
    rows = Rows.check(labels, query_ids)
    kept, other = check_verdicts(is_kept, rows), check_verdicts(other_is_kept, rows)
    counts = draw_queries(rows.n_queries, n_draws=n_draws, seed=seed)
    is_flipped = kept != other
    relevant = rows.relevant
    differences = _verdict_differences(rows, kept, other, counts)
    if scores is not None and other_scores is not None:
        both = (check_scores(scores, rows), check_scores(other_scores, rows, name="other_scores"))
        differences["average_precision"] = _ap_difference(rows, both, counts)
    return Flips(
        n_pairs=rows.n_pairs,
        n_flipped=int(is_flipped.sum()),
        share=rows.ratio(counts, rows.sums(is_flipped), rows.sums(np.ones(rows.n_pairs))),
        n_newly_kept_relevant=int((is_flipped & kept & relevant).sum()),
        n_newly_dropped_irrelevant=int((is_flipped & other & ~relevant).sum()),
        n_newly_kept_irrelevant=int((is_flipped & kept & ~relevant).sum()),
        n_newly_dropped_relevant=int((is_flipped & other & relevant).sum()),
        differences=differences,
    )


def _verdict_differences(
    rows: Rows, kept: NDArray[np.bool_], other: NDArray[np.bool_], counts: Floats
) -> dict[str, Estimate]:
    each = (Confusion.of(rows, kept), Confusion.of(rows, other))
    has_relevant = (rows.n_relevant > 0).astype(float)
    is_open = (~rows.is_answerable).astype(float)
    ratios = {
        "precision": [(one.found, one.found + one.false_kept) for one in each],
        "recall": [(one.found, rows.n_relevant) for one in each],
        "f1": [(2.0 * one.found, one.found + one.false_kept + rows.n_relevant) for one in each],
        "accuracy": [(one.found + one.passed, rows.sums(np.ones(rows.n_pairs))) for one in each],
        "losing_all": [(has_relevant * (one.found == 0), has_relevant) for one in each],
        "false_keep": [(is_open * (one.found + one.false_kept > 0), is_open) for one in each],
    }
    return {name: _ratio_difference(rows, pair, counts) for name, pair in ratios.items()}


def _ratio_difference(rows: Rows, pair: list[tuple[Floats, Floats]], counts: Floats) -> Estimate:
    totals = [(float(part.sum()), float(whole.sum())) for part, whole in pair]
    if min(whole for _, whole in totals) <= 0:
        return rows.estimate(None, reason="one of the two has no value")
    draws = [ratio_draws(counts, part, whole) for part, whole in pair]
    values = [part / whole for part, whole in totals]
    return rows.estimate(values[0] - values[1], draws[0] - draws[1])


def _ap_difference(rows: Rows, both: tuple[Floats, Floats], counts: Floats) -> Estimate:
    try:
        values = [metrics.average_precision(each, rows.relevant) for each in both]
    except UndefinedMeasure as error:
        return rows.estimate(None, reason=str(error))
    draws = [ranking_draws(counts, each, rows.relevant, rows.query).average_precision for each in both]
    return rows.estimate(values[0] - values[1], draws[0] - draws[1])
