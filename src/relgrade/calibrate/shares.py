"""Search for `lost-queries` and `false-keeps`: shares of queries, binomial, so the bounds are exact.

Each query concerned has one probability at which the event starts or ends, so the search needs no grid of thresholds.
"""

import numpy as np
from numpy.typing import NDArray

from relgrade.calibrate.binomial import n_needed, tail, upper_bound
from relgrade.calibrate.outcome import Outcome
from relgrade.calibrate.queries import Queries
from relgrade.records import Promise

KINDS = frozenset({"lost-queries", "false-keeps"})
METHOD = "Clopper-Pearson bound on a share of queries; the share only rises or only falls with the threshold"


def passing(queries: Queries, promise: Promise) -> float | None:
    """The highest threshold for `lost-queries`, the lowest for `false-keeps`, whose bound is at most the target."""
    best = turning_points(queries, promise)
    n_allowed = _most_allowed(best.size, promise)
    if n_allowed is None:
        return None
    if promise.kind == "lost-queries":
        return float(best[n_allowed])
    return queries.above(float(best[best.size - 1 - n_allowed]))


def turning_points(queries: Queries, promise: Promise) -> NDArray[np.float64]:
    """Of each query concerned, the probability that decides, rising.

    A query is lost when its best relevant document lies below the threshold; one without relevant documents keeps
    something when its best document does not.
    """
    has_relevant = queries.n_relevant_of > 0
    is_loss = promise.kind == "lost-queries"
    return np.sort(queries.best_of(relevant_only=is_loss)[has_relevant == is_loss])


def search(queries: Queries, promise: Promise) -> Outcome:
    """`passing` with its evidence, or the threshold without any event among these queries when none passes."""
    best, is_loss = turning_points(queries, promise), promise.kind == "lost-queries"
    threshold = passing(queries, promise)
    closest, n = threshold, best.size
    if threshold is None and n:
        closest = float(best[0]) if is_loss else queries.above(float(best[-1]))
        closest = 1.0 if closest is None else closest
    n_events = 0
    if closest is not None:
        n_events = int((best < closest).sum() if is_loss else (best >= closest).sum())
    needed = None
    if threshold is None:
        needed = n_needed(n_events / n if n else 0.0, target=promise.target, delta=promise.delta)
    return Outcome(
        threshold=threshold,
        closest=closest,
        bound=upper_bound(n_events, n, delta=promise.delta),
        estimate=n_events / n if n else None,
        method=METHOD,
        statement=_statement(promise),
        n_queries_needed=None if needed is None else int(np.ceil(needed * queries.n_queries / max(n, 1))),
        counts={
            "n_queries_choosing": 0,
            "n_queries_testing": n,
            "n_queries_concerned": n,
            "n_events": n_events,
        },
    )


def _most_allowed(n: int, promise: Promise) -> int | None:
    """The most events among n queries whose upper bound is at most the target; None when not even 0 will do."""
    low, high = -1, n  # low passes (or stands before 0), high does not: all n events have the bound 1
    while high - low > 1:
        middle = (low + high) // 2
        passes = tail(middle, n, promise.target) <= promise.delta
        low, high = (middle, high) if passes else (low, middle)
    return None if low < 0 else low


def _statement(promise: Promise) -> str:
    if promise.kind == "lost-queries":
        return (
            f"of the queries with a relevant document, at most a share of {promise.target:g} loses every relevant one"
        )
    return f"of the queries without a relevant document, at most a share of {promise.target:g} keeps any document"
