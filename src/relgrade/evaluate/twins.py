"""Does the grader notice that nothing answers? Each query twice: its list, and its list without what is relevant.

The two lists differ in nothing but the relevant documents, so neither topic nor length gives the answer away.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade import metrics
from relgrade.errors import InvalidInput
from relgrade.evaluate.intervals import Estimate, draw_queries, estimate, ranking_draws, ratio_draws, share_estimate
from relgrade.evaluate.rows import Floats, Rows, check_scores, check_verdicts

RECALL = 0.9
NO_TWINS = "no query has both a relevant and an irrelevant document"

ListScore = Callable[[NDArray[np.float64]], float]  # scores of a list -> larger when something in it is relevant


@dataclass(frozen=True, slots=True, kw_only=True)
class TwinLists:
    """How well lists with a relevant document are told from the same lists without it."""

    n_queries: int  # with a relevant and an irrelevant document; the others have no twins
    scored_by: str  # what makes one number of a list
    auroc: Estimate  # chance that a list with a relevant document scores above one without
    false_accepts: Estimate  # of lists without, the share let through where 90 % of the lists with one are
    keeps_something: Estimate  # of lists without a relevant document, the share that keeps anything at the threshold


def compare_twins(
    scores: Any,
    labels: Any,
    query_ids: Any,
    *,
    is_kept: Any = None,
    list_score: ListScore | None = None,
    scored_by: str = "top score",
    n_draws: int = 1000,
    seed: int = 0,
) -> TwinLists:
    """Compare present and absent lists.

    Args:
        scores: finite, larger is more relevant, shape (n_pairs,).
        labels: 0 or 1, shape (n_pairs,).
        query_ids: shape (n_pairs,).
        is_kept: verdicts, shape (n_pairs,); None: `keeps_something` has no value.
        list_score: one number of a list's scores, such as a calibrated P(any is relevant); None takes the highest.
        scored_by: what `list_score` is called in the report.
        n_draws: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        InvalidInput: as `evaluate_scores`; or `list_score` gave a number that is not finite.
    """
    rows = Rows.check(labels, query_ids)
    score = check_scores(scores, rows)
    n_irrelevant = rows.sums(~rows.relevant)
    has_twins = (rows.n_relevant > 0) & (n_irrelevant > 0)
    n_twins, n_pairs = int(has_twins.sum()), int(has_twins[rows.query].sum())
    if not n_twins:
        none = estimate(None, np.full(1, np.nan), n_queries=0, n_pairs=0, reason=NO_TWINS)
        return TwinLists(n_queries=0, scored_by=scored_by, auroc=none, false_accepts=none, keeps_something=none)
    present, absent = _list_scores(rows, score, has_twins, list_score or _highest)
    counts = draw_queries(n_twins, n_draws=n_draws, seed=seed)
    lists, is_present = np.concatenate([present, absent]), np.repeat([True, False], n_twins)
    query = np.tile(np.arange(n_twins), 2)

    def joined(value: float | None, draws: Floats, reason: str | None = None) -> Estimate:
        return estimate(value, draws, n_queries=n_twins, n_pairs=n_pairs, reason=reason)

    accepts = _false_accepts(present, absent, np.vstack([np.ones(n_twins), counts]))
    keeps = joined(None, np.full(1, np.nan), "there are no verdicts")
    if is_kept is not None:
        keeps_absent = rows.sums(check_verdicts(is_kept, rows) & ~rows.relevant)[has_twins] > 0
        draws = ratio_draws(counts, keeps_absent.astype(float), np.ones(n_twins))
        keeps = share_estimate(keeps_absent, draws, n_pairs=n_pairs)
    return TwinLists(
        n_queries=n_twins,
        scored_by=scored_by,
        auroc=joined(metrics.auroc(lists, is_present), ranking_draws(counts, lists, is_present, query).auroc),
        false_accepts=joined(float(accepts[0]), accepts[1:]),
        keeps_something=keeps,
    )


def _highest(scores: NDArray[np.float64]) -> float:
    return float(scores.max())


def _list_scores(
    rows: Rows, scores: Floats, has_twins: NDArray[np.bool_], list_score: ListScore
) -> tuple[Floats, Floats]:
    """Scores of the present and the absent list of each query that has both, each of shape (n_twins,)."""
    order = np.argsort(rows.query, kind="stable")
    ends = np.cumsum(np.bincount(rows.query, minlength=rows.n_queries))[:-1]
    present, absent = [], []
    for query, members in enumerate(np.split(order, ends)):
        if has_twins[query]:
            present.append(list_score(scores[members]))
            absent.append(list_score(scores[members[~rows.relevant[members]]]))
    if not np.isfinite([*present, *absent]).all():
        raise InvalidInput("the score of a list is NaN or infinite")
    return np.asarray(present, dtype=np.float64), np.asarray(absent, dtype=np.float64)


def _false_accepts(present: Floats, absent: Floats, counts: Floats) -> Floats:
    """Share of absent lists at or above the highest threshold that lets `RECALL` of the present ones through.

    Args:
        present: shape (n_twins,).
        absent: shape (n_twins,).
        counts: weights of the queries, a draw a row, shape (n_draws, n_twins).
    """
    order = np.argsort(-present, kind="stable")
    passed = np.cumsum(counts[:, order], axis=1)  # (n_draws, n_twins) present lists at or above each
    wanted = RECALL * passed[:, -1:] - 1e-9
    threshold = present[order][(passed >= wanted).argmax(axis=1)]  # (n_draws,)
    accepted = (counts * (absent[None, :] >= threshold[:, None])).sum(axis=1)
    share: Floats = accepted / counts.sum(axis=1)
    return share
