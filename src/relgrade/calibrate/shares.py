"""Search for `lost-queries` and `false-keeps`: shares of queries, binomial, so the bounds are exact.

Each query concerned has one probability at which the event starts or ends, so the search needs no grid of thresholds.
"""

import numpy as np

from relgrade.calibrate.binomial import n_needed, tail, upper_bound
from relgrade.calibrate.outcome import Outcome
from relgrade.calibrate.queries import LabelledQueries
from relgrade.records import Promise

KINDS = frozenset({"lost-queries", "false-keeps"})
METHOD = "Clopper-Pearson bound on a share of queries; thresholds in a fixed sequence"


def search(queries: LabelledQueries, promise: Promise) -> Outcome:
    """The highest threshold for `lost-queries`, the lowest for `false-keeps`, whose bound is at most the target."""
    is_loss = promise.kind == "lost-queries"
    has_relevant = queries.n_relevant_of > 0
    concerned = has_relevant if is_loss else ~has_relevant  # (n_queries,)
    n = int(concerned.sum())
    considered = concerned[queries.query] & (queries.is_relevant if is_loss else True)
    best = np.full(queries.n_queries, -np.inf)
    np.maximum.at(best, queries.query[considered], queries.probability[considered])
    # A query is lost when its best relevant document is below the threshold; it keeps something false when its best
    # document is not. `n_allowed` events pass, one more does not.
    best = np.sort(best[concerned])  # (n,)
    n_allowed = _most_allowed(n, promise)
    threshold = None
    if n_allowed is not None:
        threshold = float(best[n_allowed]) if is_loss else _just_above(float(best[n - 1 - n_allowed]), queries)
    closest, n_events = threshold, n_allowed or 0
    if threshold is not None:
        n_events = int((best < threshold).sum() if is_loss else (best >= threshold).sum())
    elif n:
        closest = float(best[0]) if is_loss else _just_above(float(best[-1]), queries)
        n_events = 0 if is_loss or closest is not None else int((best >= 1.0).sum())
        closest = 1.0 if closest is None else closest
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


def _just_above(probability: float, queries: LabelledQueries) -> float | None:
    """Midway to the next higher probability of any document, so that rounding turns no verdict; None above 1."""
    higher = queries.probability[queries.probability > probability]
    top = float(higher.min()) if higher.size else 1.0
    middle = probability + (top - probability) / 2.0
    return middle if middle > probability else top if top > probability else None


def _statement(promise: Promise) -> str:
    if promise.kind == "lost-queries":
        return (
            f"of the queries with a relevant document, at most a share of {promise.target:g} loses every relevant one"
        )
    return f"of the queries without a relevant document, at most a share of {promise.target:g} keeps any document"
