"""Search for `precision` and `recall`: ratios of sums of documents, tested by betting on queries."""

import numpy as np
from numpy.typing import NDArray

from relgrade.calibrate.betting import STAKES, growth, log_capital, lower_bound, weigh
from relgrade.calibrate.outcome import Outcome
from relgrade.calibrate.queries import LabelledQueries
from relgrade.records import Promise

CHOOSING = 0.25  # share of the queries that chooses where the tests of precision start
MOST_THRESHOLDS = 96  # of the sequence of precision
_CHUNK = 8  # thresholds tested at once on the way down

Array = NDArray[np.float64]


def search(queries: LabelledQueries, promise: Promise, *, limit: int) -> Outcome:
    """The lowest threshold that passes for `precision`, the highest for `recall`.

    Args:
        queries: at least two.
        promise: of one of these kinds.
        limit: the most that one query counts, in documents.
    """
    return (_search_precision if promise.kind == "precision" else _search_recall)(queries, promise, limit)


def _search_precision(queries: LabelledQueries, promise: Promise, limit: int) -> Outcome:
    n_choosing = int(np.ceil(CHOOSING * queries.n_queries))
    choosing, testing = queries.part(0, n_choosing), queries.part(n_choosing, queries.n_queries)
    thresholds = sequence(choosing)
    at = start(choosing, thresholds, promise.target, limit=limit)
    passed = walk(testing, thresholds[: at + 1], promise, limit=limit)
    shown = thresholds if passed is None else thresholds[passed : passed + 1]
    found, kept = _kept(testing, shown, limit)
    bounds = lower_bound(found, kept, delta=promise.delta, limit=limit)
    best = int(bounds.argmax())
    needed = None
    if passed is None:
        needed = _n_needed(growth(found, kept, target=promise.target, limit=limit).max(), promise, testing, queries)
    closest = float(shown[best])
    return Outcome(
        threshold=None if passed is None else closest,
        closest=closest,
        bound=float(bounds[best]),
        estimate=_ratio(*_kept(queries, shown[best : best + 1], limit)),
        method="betting on queries, mixture of fixed stakes; thresholds in a fixed sequence from a start "
        "chosen on a part of the queries",
        statement=f"of the documents kept, a share of at least {promise.target:g} is relevant"
        f"{_weighing(limit, queries)}",
        n_queries_needed=needed,
        counts={
            "n_queries_choosing": n_choosing,
            "n_queries_testing": testing.n_queries,
            "n_queries_concerned": int((kept[:, best] > 0).sum()),
            "max_per_query": limit,
        },
    )


def sequence(choosing: LabelledQueries) -> Array:
    """The thresholds to test, rising: probabilities of the relevant documents of the choosing queries, evenly thinned.

    Between two of them a threshold only loses by being lower. They do not depend on the target.
    """
    distinct = np.unique(choosing.probability[choosing.is_relevant])
    if distinct.size == 0:  # nothing to go by; the whole range is tried
        distinct = np.unique(choosing.probability)
    if distinct.size > MOST_THRESHOLDS:
        distinct = distinct[np.linspace(0, distinct.size - 1, MOST_THRESHOLDS).astype(np.int64)]
    return distinct


def start(choosing: LabelledQueries, thresholds: Array, target: float, *, limit: int) -> int:
    """Where the choosing queries gain most over the target, the highest of equals: position in `thresholds`.

    The gain is sum(relevant - target * kept), which a gambler lives on. Its best threshold never falls when the target
    rises, since a higher threshold keeps less and so loses less by it: whatever p is, the start is monotone.
    """
    found, kept = _kept(choosing, thresholds, limit)
    gain = found.sum(axis=0) - target * kept.sum(axis=0)
    return int(gain.size - 1 - gain[::-1].argmax())


def walk(testing: LabelledQueries, thresholds: Array, promise: Promise, *, limit: int) -> int | None:
    """Test precision from the last threshold downwards; the position of the last that passed, None when none did."""
    level, passed = np.log(1.0 / promise.delta), None
    for end in range(thresholds.size, 0, -_CHUNK):
        first = max(0, end - _CHUNK)
        found, kept = _kept(testing, thresholds[first:end], limit)
        capital = log_capital(found, kept, target=promise.target, limit=limit)
        for position in range(end - 1, first - 1, -1):
            if capital[position - first] < level:
                return passed
            passed = position
    return passed


def _search_recall(queries: LabelledQueries, promise: Promise, limit: int) -> Outcome:
    relevant = queries.n_relevant_of[:, None]  # (n_queries, 1)
    candidates = np.unique(queries.probability[queries.is_relevant])  # rising; recall only changes at these

    def counts_at(threshold: float) -> tuple[Array, Array]:
        _, found = queries.kept_at(np.array([threshold]))
        weight = limit / np.maximum(relevant, limit)
        return found * weight, relevant * weight

    def has_passed(threshold: float) -> bool:
        found, whole = counts_at(threshold)
        return bool(log_capital(found, whole, target=promise.target, limit=limit)[0] >= np.log(1.0 / promise.delta))

    low, high = -1, candidates.size  # the capital falls as the threshold rises: low passes, high does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if has_passed(float(candidates[middle])) else (low, middle)
    closest = float(candidates[max(low, 0)])
    found, whole = counts_at(closest)
    needed = None
    if low < 0:
        needed = _n_needed(growth(found, whole, target=promise.target, limit=limit).max(), promise, queries, queries)
    return Outcome(
        threshold=None if low < 0 else closest,
        closest=closest,
        bound=float(lower_bound(found, whole, delta=promise.delta, limit=limit)[0]),
        estimate=_ratio(found, whole),
        method="betting on queries, mixture of fixed stakes; recall only falls as the threshold rises",
        statement=f"of the relevant documents, a share of at least {promise.target:g} is kept"
        f"{_weighing(limit, queries)}",
        n_queries_needed=needed,
        counts={
            "n_queries_choosing": 0,
            "n_queries_testing": queries.n_queries,
            "n_queries_concerned": int((relevant > 0).sum()),
            "max_per_query": limit,
        },
    )


def _kept(queries: LabelledQueries, thresholds: Array, limit: int) -> tuple[Array, Array]:
    """Relevant documents kept and documents kept, weighed, each of shape (n_queries, n_thresholds)."""
    kept, found = queries.kept_at(thresholds)
    return weigh(found, kept, limit=limit)


def _ratio(part: Array, whole: Array) -> float | None:
    total = float(whole.sum())
    return float(part.sum()) / total if total else None


def _n_needed(rate: float, promise: Promise, testing: LabelledQueries, queries: LabelledQueries) -> int | None:
    """Queries after which a capital growing at `rate` per tested query is 1 / delta, as far as one can tell now."""
    # A rate seen on few queries is the best of many and flatters; below this it is noise.
    if not rate * testing.n_queries > 0.05:
        return None
    mixture = np.log(len(STAKES))  # what it costs not to know the best stake
    needed = (np.log(1.0 / promise.delta) + mixture / 2.0) / rate * queries.n_queries / testing.n_queries
    return int(np.ceil(max(needed, queries.n_queries + 1)))


def _weighing(limit: int, queries: LabelledQueries) -> str:
    if limit >= queries.longest:
        return f"; every document counts the same, for queries of at most {limit} documents"
    return f"; a query counts for at most {limit} document{'s' if limit > 1 else ''}, in the same share"
