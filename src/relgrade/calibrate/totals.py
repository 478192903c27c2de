"""Search for `precision` and `recall`: ratios of sums of documents, tested by betting on queries."""

import numpy as np
from numpy.typing import NDArray

from relgrade.calibrate.betting import growth, log_capital, lower_bound, weigh
from relgrade.calibrate.outcome import Outcome
from relgrade.calibrate.queries import Queries
from relgrade.records import Promise

CHOOSING, MOST_CHOOSING = 0.25, 150  # share and number of the queries that choose where the tests of precision start
MOST_THRESHOLDS = 96  # of the sequence of precision
METHOD = {
    "precision": "betting on queries, mixture of fixed stakes; thresholds in a fixed sequence downwards, from a start "
    "chosen on a part of the queries",
    "recall": "betting on queries, mixture of fixed stakes; recall only falls as the threshold rises",
}
_CHUNK = 8  # thresholds tested at once on the way down
_NOISE = 0.05  # nats gained on all queries together, below which the growth says nothing

Array = NDArray[np.float64]


def passing(queries: Queries, promise: Promise, *, limit: int) -> float | None:
    """The lowest threshold that passes for `precision`, the highest for `recall`; None when none does.

    Args:
        queries: in random order, at least two.
        promise: of one of these kinds.
        limit: the most that one query counts, in documents.
    """
    if promise.kind == "precision":
        choosing, testing = divide(queries)
        thresholds = sequence(choosing)
        at = start(choosing, thresholds, promise.target, limit=limit)
        return _lowest(testing, thresholds[: at + 1], promise, limit)
    return _highest(queries, promise, limit)


def search(queries: Queries, promise: Promise, *, limit: int) -> Outcome:
    """`passing` with its evidence, or what came nearest. Arguments as there."""
    is_precision = promise.kind == "precision"
    choosing, testing = divide(queries) if is_precision else (None, queries)
    threshold = passing(queries, promise, limit=limit)
    if threshold is not None:
        shown = np.array([threshold])
    elif choosing is not None:
        shown = sequence(choosing)
    else:
        shown = queries.relevant_probabilities[:1]  # what keeps every relevant document
    part, whole = counts_at(testing, shown, promise, limit=limit)
    bounds = lower_bound(part, whole, delta=promise.delta, limit=limit)
    best = int(bounds.argmax())
    needed = None
    if threshold is None:
        rate = float(growth(part, whole, target=promise.target, limit=limit).max())
        needed = _n_needed(rate, promise, n_testing=testing.n_queries, n_queries=queries.n_queries)
    all_part, all_whole = counts_at(queries, shown[best : best + 1], promise, limit=limit)
    return Outcome(
        threshold=threshold,
        closest=float(shown[best]),
        bound=float(bounds[best]),
        estimate=float(all_part.sum() / all_whole.sum()) if all_whole.any() else None,
        method=METHOD[promise.kind],
        statement=_statement(promise, queries, limit),
        n_queries_needed=needed,
        counts={
            "n_queries_choosing": queries.n_queries - testing.n_queries,
            "n_queries_testing": testing.n_queries,
            "n_queries_concerned": int((whole[:, best] > 0).sum()),
            "max_per_query": limit,
        },
    )


def divide(queries: Queries) -> tuple[Queries, Queries]:
    """The queries that choose where to start, and those that test."""
    n_choosing = min(int(np.ceil(CHOOSING * queries.n_queries)), MOST_CHOOSING)
    return queries.part(0, n_choosing), queries.part(n_choosing, queries.n_queries)


def sequence(choosing: Queries) -> Array:
    """The thresholds to test, rising: probabilities of the relevant documents of the choosing queries, evenly thinned.

    Between two of them a threshold only loses by being lower. They do not depend on the target.
    """
    distinct = choosing.relevant_probabilities
    if distinct.size == 0:  # nothing to go by, and nothing that could pass a start
        return np.array([1.0])
    if distinct.size > MOST_THRESHOLDS:
        distinct = distinct[np.linspace(0, distinct.size - 1, MOST_THRESHOLDS).astype(np.int64)]
    return distinct


def start(choosing: Queries, thresholds: Array, target: float, *, limit: int) -> int:
    """Where the choosing queries gain most over the target, the highest of equals: position in `thresholds`.

    The gain is sum(relevant - target * kept), which a gambler lives on. Its best threshold never falls when the target
    rises: a higher threshold keeps less, so a rise of the target costs it less.
    """
    kept, found = choosing.kept_at(thresholds)
    found, kept = weigh(found, kept, limit=limit)
    gain = found.sum(axis=0) - target * kept.sum(axis=0)
    return int(gain.size - 1 - gain[::-1].argmax())


def counts_at(queries: Queries, thresholds: Array, promise: Promise, *, limit: int) -> tuple[Array, Array]:
    """Part and whole of the promised share, weighed, each of shape (n_queries, n_thresholds); thresholds rising."""
    kept, found = queries.kept_at(thresholds)
    if promise.kind == "precision":
        return weigh(found, kept, limit=limit)
    return weigh(found, np.broadcast_to(queries.n_relevant_of[:, None], found.shape), limit=limit)


def _lowest(testing: Queries, thresholds: Array, promise: Promise, limit: int) -> float | None:
    """Test precision from the last threshold downwards; the last that passed before one failed."""
    passed = None
    for end in range(thresholds.size, 0, -_CHUNK):
        chunk = thresholds[max(0, end - _CHUNK) : end]
        for threshold, capital in zip(chunk[::-1], _capital(testing, chunk, promise, limit)[::-1], strict=True):
            if capital < np.log(1.0 / promise.delta):
                return passed
            passed = float(threshold)
    return passed


def _highest(queries: Queries, promise: Promise, limit: int) -> float | None:
    """Recall only changes at relevant documents, and its capital falls as the threshold rises: by halving."""
    candidates = queries.relevant_probabilities
    low, high = -1, candidates.size  # low passes, high does not
    while high - low > 1:
        middle = (low + high) // 2
        passes = _capital(queries, candidates[middle : middle + 1], promise, limit)[0] >= np.log(1.0 / promise.delta)
        low, high = (middle, high) if passes else (low, middle)
    return None if low < 0 else float(candidates[low])


def _capital(queries: Queries, thresholds: Array, promise: Promise, limit: int) -> Array:
    part, whole = counts_at(queries, thresholds, promise, limit=limit)
    return log_capital(part, whole, target=promise.target, limit=limit)


def _n_needed(rate: float, promise: Promise, *, n_testing: int, n_queries: int) -> int | None:
    """Queries after which a capital growing at `rate` per tested query is 1 / delta, as far as one can tell now."""
    if not rate * n_testing > _NOISE:
        return None
    lost = 1.0  # nats: about what it costs not to know the best stake
    needed = (np.log(1.0 / promise.delta) + lost) / rate * n_queries / n_testing
    return int(np.ceil(max(needed, n_queries + 1)))


def _statement(promise: Promise, queries: Queries, limit: int) -> str:
    words = {"precision": "of the documents kept, {} is relevant", "recall": "of the relevant documents, {} is kept"}
    text = words[promise.kind].format(f"a share of at least {promise.target:g}")
    if limit >= queries.longest:
        return f"{text}; every document counts the same, and no query has more than {limit} documents"
    return f"{text}; a query counts for at most {limit} document{'s' if limit > 1 else ''}, in its own share"
