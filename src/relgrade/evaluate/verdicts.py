"""Measures of keep / drop verdicts, with intervals from drawing queries."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade import metrics
from relgrade.errors import UndefinedMeasure
from relgrade.evaluate.intervals import Estimate, ratio_draws, share_estimate
from relgrade.evaluate.rows import NO_QUERIES, Floats, Rows

VERDICT_MEASURES = ("precision", "recall", "f1", "accuracy", "mcc", "kappa", "losing_all", "false_keep")


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts of the four outcomes: of each query or of each draw, shape (n,)."""

    found: Floats  # kept and relevant
    false_kept: Floats
    lost: Floats  # dropped and relevant
    passed: Floats  # dropped and irrelevant

    @classmethod
    def of(cls, rows: Rows, is_kept: NDArray[np.bool_]) -> "Confusion":
        """Of each query."""
        relevant = rows.relevant
        masks = (is_kept & relevant, is_kept & ~relevant, ~is_kept & relevant, ~is_kept & ~relevant)
        return cls(*(rows.sums(mask) for mask in masks))

    def drawn(self, counts: Floats) -> "Confusion":
        """Of each draw."""
        return Confusion(*(counts @ part for part in (self.found, self.false_kept, self.lost, self.passed)))

    def mcc(self) -> Floats:
        """Matthews correlation, NaN where a margin is empty."""
        kept, dropped = self.found + self.false_kept, self.lost + self.passed
        relevant, irrelevant = self.found + self.lost, self.false_kept + self.passed
        return _divide(
            self.found * self.passed - self.false_kept * self.lost, np.sqrt(kept * relevant * dropped * irrelevant)
        )

    def kappa(self) -> Floats:
        """Cohen's kappa of verdict and label, NaN where chance alone would agree always."""
        kept, dropped = self.found + self.false_kept, self.lost + self.passed
        relevant, irrelevant = self.found + self.lost, self.false_kept + self.passed
        return _divide(
            2.0 * (self.found * self.passed - self.false_kept * self.lost), kept * irrelevant + relevant * dropped
        )


def verdict_estimates(rows: Rows, is_kept: NDArray[np.bool_], counts: Floats) -> dict[str, Estimate]:
    """The measures of `VERDICT_MEASURES`.

    Args:
        rows: the labels.
        is_kept: shape (n_pairs,).
        counts: of `draw_queries`, shape (n_draws, n_queries).
    """
    each = Confusion.of(rows, is_kept)
    drawn = each.drawn(counts)
    n_kept, n_pairs = each.found + each.false_kept, rows.sums(np.ones(rows.n_pairs))
    has_relevant = rows.n_relevant > 0

    def defined(measure: Callable[[Any, Any], float], draws: Floats) -> Estimate:
        try:
            return rows.estimate(measure(is_kept, rows.relevant), draws)
        except UndefinedMeasure as error:
            return rows.estimate(None, reason=str(error))

    return {
        "precision": rows.ratio(counts, each.found, n_kept, reason="nothing is kept"),
        "recall": rows.ratio(counts, each.found, rows.n_relevant, of=has_relevant, reason="nothing is relevant"),
        "f1": rows.ratio(
            counts, 2.0 * each.found, n_kept + rows.n_relevant, reason="nothing is kept and nothing is relevant"
        ),
        "accuracy": rows.ratio(counts, each.found + each.passed, n_pairs),
        "mcc": defined(metrics.mcc, drawn.mcc()),
        "kappa": defined(metrics.cohen_kappa, drawn.kappa()),
        **_query_estimates(rows, each, counts),
    }


def no_verdicts(rows: Rows, reason: str) -> dict[str, Estimate]:
    """The same measures where there are no verdicts, and why."""
    return dict.fromkeys(VERDICT_MEASURES, rows.estimate(None, reason=reason))


def _query_estimates(rows: Rows, each: Confusion, counts: Floats) -> dict[str, Estimate]:
    if not rows.is_by_query:
        return dict.fromkeys(("losing_all", "false_keep"), rows.estimate(None, reason=NO_QUERIES))
    has_relevant, is_open = rows.n_relevant > 0, ~rows.is_answerable
    is_lost = has_relevant & (each.found == 0)
    is_false_keep = is_open & (each.found + each.false_kept > 0)
    return {
        "losing_all": _share(rows, is_lost, has_relevant, counts, "no query has a relevant document"),
        "false_keep": _share(rows, is_false_keep, is_open, counts, "every query has a relevant document"),
    }


def _share(rows: Rows, part: NDArray[np.bool_], of: NDArray[np.bool_], counts: Floats, reason: str) -> Estimate:
    """The share of the queries `of` that are in `part`."""
    draws = ratio_draws(counts, part.astype(float), of.astype(float))
    return share_estimate(part[of], draws, n_pairs=int(of[rows.query].sum()), reason=reason)


def _divide(part: Floats, whole: Floats) -> Floats:
    quotient: Floats = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return quotient
