"""Words for a promise that no threshold is known to keep: what came nearest, and what would help."""

from math import ceil, floor, log10

from relgrade.calibrate.outcome import Outcome
from relgrade.calibrate.queries import LabelledQueries
from relgrade.errors import NoSafeThreshold
from relgrade.records import Promise


def no_safe_threshold(
    outcome: Outcome, promise: Promise, queries: LabelledQueries, *, max_per_query: int | None
) -> NoSafeThreshold:
    """The error for an outcome without a threshold."""
    is_share = promise.kind in ("lost-queries", "false-keeps")
    n_concerned = outcome.counts["n_queries_concerned"]
    needed = None if outcome.n_queries_needed is None else _rounded_up(outcome.n_queries_needed)
    found = f"no threshold is known to keep {promise.kind} {'<=' if is_share else '>='} {promise.target:g} "
    found += f"at delta {promise.delta:g} on {queries.n_queries} labelled queries"
    if outcome.closest is None:
        what = "with" if promise.kind == "lost-queries" else "without"
        found += f": none of them is {what} a relevant document, which is what the promise is about"
    else:
        estimate = "nothing" if outcome.estimate is None else f"{outcome.estimate:.3f}"
        found += f" ({n_concerned} concerned); closest: threshold {outcome.closest:.4f}, where they show {estimate} "
        found += f"and can defend {_defended(outcome, is_share)}"
    return NoSafeThreshold(
        f"{found}; {_advice(outcome, promise, queries, needed, is_share=is_share, max_per_query=max_per_query)}",
        closest_threshold=outcome.closest,
        bound=outcome.bound,
        n_queries_needed=needed,
    )


def _advice(
    outcome: Outcome,
    promise: Promise,
    queries: LabelledQueries,
    needed: int | None,
    *,
    is_share: bool,
    max_per_query: int | None,
) -> str:
    ways = []
    if needed is not None:
        more = _rounded_up(max(needed - queries.n_queries, 1))
        ways.append(f"label about {more:,} more queries like these")
    if outcome.closest is not None and outcome.bound is not None and 0.01 <= outcome.bound <= 0.99:
        looser = ceil(100 * outcome.bound) / 100 if is_share else floor(100 * outcome.bound) / 100
        # Precision can pass at the closest threshold and fail where its search has to start. A number above the target
        # would be no advice: that bound was picked among many, and the search for it starts elsewhere.
        is_looser = looser > promise.target if is_share else looser < promise.target
        ways.append(f"ask for {looser:.2f}" if is_looser else "ask for a little less")
    if not is_share and max_per_query is None and queries.longest > 5:
        ways.append(f"let no query count for more than a few documents (max_per_query, now {queries.longest})")
    if not ways or needed is None:
        ways.append("train a better grader: more queries alone would not do")
    return ", or ".join(ways)


def _defended(outcome: Outcome, is_share: bool) -> str:
    if outcome.bound is None:
        return "nothing"
    return f"{'at most' if is_share else 'at least'} {outcome.bound:.3f}"


def _rounded_up(n: int) -> int:
    """Two significant digits, since the estimate is worth no more."""
    step: int = 10 ** max(0, floor(log10(max(n, 1))) - 1)
    return ceil(n / step) * step
