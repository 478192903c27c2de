"""Find the threshold that keeps a promise, or say that no threshold is known to.

The guarantee: over the draw of the calibration queries, the chance that a threshold is returned at which the promise is
broken on the population of queries is at most delta. Draws for which nothing is returned count as kept. It holds for
queries drawn as the calibration queries were, against the labels given, whatever the probabilities are worth.

`precision` and `recall` are tested by betting (`betting.py`). `lost-queries` and `false-keeps` are shares of queries:
Clopper-Pearson, over the queries concerned. The last three only rise or only fall with the threshold, so the first
threshold that fails ends the search and no price is paid for trying many. Precision does neither: a part of the queries
chooses where to start, the others test the thresholds downwards from there, in a fixed sequence, until one fails.
Source: Angelopoulos et al. 2021, "Learn then Test", arXiv:2110.01052, section 4 (fixed sequence testing).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade.calibrate import shares, totals
from relgrade.calibrate.queries import LabelledQueries, gather
from relgrade.calibrate.shortfall import no_safe_threshold
from relgrade.errors import InvalidInput
from relgrade.records import OperatingPoint, Promise


def certify(
    probabilities: NDArray[np.floating[Any]] | Sequence[float],
    labels: NDArray[Any] | Sequence[float] | Sequence[int],
    query_ids: Sequence[Any] | NDArray[Any],
    *,
    promise: Promise,
    name: str,
    seed: int = 0,
    label_source: str = "labels of the calibration pairs",
    max_per_query: int | None = None,
) -> OperatingPoint:
    """The operating point that keeps a promise and gives up least: keep when probability >= threshold.

    For `precision` and `false-keeps` that is the lowest threshold that passes, for `recall` and `lost-queries` the
    highest. The order of rows and the names of the queries change nothing. A stricter target never lowers the threshold
    of the first two and never raises that of the last two, with the same seed.

    Args:
        probabilities: P(relevant) in [0, 1], shape (n_pairs,). Only their order matters, so the calibration may have
            been fitted on the same queries; the model must not have been trained on them.
        labels: 0 or 1, shape (n_pairs,).
        query_ids: the query of each pair, shape (n_pairs,). Queries are what is drawn independently, not pairs.
        promise: what is to hold, and the accepted chance that it does not.
        name: of the operating point.
        seed: of the order of the queries and, for precision, of the part that chooses the start. Fix it beforehand:
            the guarantee is lost when seeds are tried until one passes.
        label_source: who labelled; the promise holds against these labels.
        max_per_query: the most that one query counts, in documents, >= 1; for precision and recall. A query that keeps
            more (recall: that has more relevant ones) weighs as if it were this many, with its own share unchanged; 1
            makes every query that has any count the same. None: every document counts the same, and no query may have
            more documents than the longest calibration query. Smaller values need far fewer queries.

    Returns:
        The point; its evidence holds the confidence bound at the threshold, reached on the queries that tested it, and
        the plain shares there over all calibration queries, which are a little optimistic.

    Raises:
        InvalidInput: shapes differ, a probability is NaN or outside [0, 1], a label is neither 0 nor 1, one class only,
            fewer than 20 queries, or max_per_query is no whole number above 0.
        NoSafeThreshold: no threshold is known to keep the promise; the message says what would help.
    """
    is_limit = isinstance(max_per_query, int | np.integer) and not isinstance(max_per_query, bool)
    if max_per_query is not None and not (is_limit and max_per_query >= 1):
        raise InvalidInput(f"max_per_query must be a whole number >= 1 or None, got {max_per_query!r}")
    queries = gather(probabilities, labels, query_ids, seed=seed)
    if promise.kind in shares.KINDS:
        if max_per_query is not None:
            raise InvalidInput(f"max_per_query has no meaning for {promise.kind}: every query counts once")
        outcome = shares.search(queries, promise)
    else:
        limit = queries.longest if max_per_query is None else int(max_per_query)
        outcome = totals.search(queries, promise, limit=limit)
    if outcome.threshold is None:
        raise no_safe_threshold(outcome, promise, queries, max_per_query=max_per_query)
    evidence = {
        "method": outcome.method,
        "statement": outcome.statement,
        "bound": outcome.bound,
        "estimate": outcome.estimate,
        "target": promise.target,
        "delta": promise.delta,
        **reached_at(queries, outcome.threshold),
        **outcome.counts,
        "label_source": label_source,
        "seed": seed,
    }
    return OperatingPoint(name, outcome.threshold, evidence, promise)


def reached_at(queries: LabelledQueries, threshold: float) -> dict[str, Any]:
    """Counts and shares of what a threshold keeps of all the queries, each document counting the same."""
    is_kept = queries.probability >= threshold
    n_kept, n_relevant = int(is_kept.sum()), int(queries.is_relevant.sum())
    n_found = int((is_kept & queries.is_relevant).sum())
    return {
        "n_queries": queries.n_queries,
        "n_pairs": queries.n_pairs,
        "n_kept": n_kept,
        "n_relevant": n_relevant,
        "precision": n_found / n_kept if n_kept else None,
        "recall": n_found / n_relevant,
    }
