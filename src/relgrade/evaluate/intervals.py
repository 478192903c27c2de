"""Intervals by the query bootstrap: whole queries are drawn with replacement, because a query's pairs err together.

A draw is a row of counts, how often each query came up, so that a measure of a thousand draws is a matrix product or a
cumulative sum and no data is copied. Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13
(percentile interval); Field and Welsh 2007 (resampling whole clusters).
What the interval does not cover: other collections, another rubric, or errors in the labels.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relgrade.errors import InvalidInput

LEVEL = 0.95
# Below this share of draws with a value, the interval would describe only the lucky draws and none is given.
MIN_DEFINED = 0.95
# Cells of one block of the draws-by-pairs matrix: 16 MB of float64, which stays in a desktop's cache and memory alike.
BLOCK_CELLS = 2_000_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measure with its 95 % interval. None stands for a number that does not exist, never NaN."""

    value: float | None  # on all the pairs; None when the measure is undefined on them
    low: float | None  # None when fewer than 95 % of the draws had a value, or fewer than two queries stand behind it
    high: float | None
    n_queries: int  # queries the measure rests on; blocks where rows carry no query ids
    n_pairs: int  # pairs of those queries
    reason: str | None = None  # why the value, or else the interval, is missing; None when both are there

    @property
    def half_width(self) -> float | None:
        """Half of high - low."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2.0


@dataclass(frozen=True, slots=True)
class PercentileInterval:
    """The middle 95 % of the draws."""

    low: float
    high: float


def draw_queries(n_queries: int, *, n_draws: int, seed: int) -> NDArray[np.float64]:
    """How often each query came up in each draw of `n_queries` queries with replacement, shape (n_draws, n_queries).

    Raises:
        InvalidInput: n_queries or n_draws is below 1.
    """
    if n_queries < 1 or n_draws < 1:
        raise InvalidInput(f"need n_queries >= 1 and n_draws >= 1, got {n_queries} and {n_draws}")
    generator = np.random.default_rng(seed)
    return generator.multinomial(n_queries, np.full(n_queries, 1.0 / n_queries), size=n_draws).astype(np.float64)


def percentile_interval(draws: NDArray[np.float64], *, level: float = LEVEL) -> PercentileInterval | None:
    """The middle `level` of the draws.

    Args:
        draws: the measure of each draw, shape (n_draws,); NaN marks a draw in which it was undefined.
        level: in (0, 1).

    Returns:
        None when fewer than `MIN_DEFINED` of the draws have a value.
    """
    defined = draws[~np.isnan(draws)]
    if defined.size < MIN_DEFINED * draws.size or defined.size == 0:
        return None
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(defined, [tail, 1.0 - tail])
    return PercentileInterval(float(low), float(high))


def estimate(
    value: float | None, draws: NDArray[np.float64], *, n_queries: int, n_pairs: int, reason: str | None = None
) -> Estimate:
    """Join a value with the interval of its draws; `reason` says why there is no value, where there is none."""
    if value is None:
        return Estimate(None, None, None, n_queries, n_pairs, reason or "it has no value on these pairs")
    if n_queries < 2:
        return Estimate(value, None, None, n_queries, n_pairs, "no interval: one query is nothing to draw from")
    interval = percentile_interval(draws)
    if interval is None:
        return Estimate(value, None, None, n_queries, n_pairs, "no interval: it has no value in too many of the draws")
    return Estimate(value, interval.low, interval.high, n_queries, n_pairs)


def share_estimate(
    share: NDArray[np.bool_], draws: NDArray[np.float64], *, n_pairs: int, reason: str | None = None
) -> Estimate:
    """A share of independent queries: as `estimate`, but exact where the bootstrap is blind.

    When all queries agree every draw does, and the percentile interval would be a point; the interval is then that of
    Clopper and Pearson 1934, which for none of n is 0 to 1 - 0.025 ** (1 / n).

    Args:
        share: for each query it rests on, shape (n_queries,).
        draws: the share in each draw, shape (n_draws,).
        n_pairs: of those queries.
        reason: why there is no value when there are no queries.
    """
    n = share.size
    value = float(share.mean()) if n else None
    found = estimate(value, draws, n_queries=n, n_pairs=n_pairs, reason=reason)
    if value not in (0.0, 1.0):
        return found
    reach = 1.0 - ((1.0 - LEVEL) / 2.0) ** (1.0 / n)
    low, high = (0.0, reach) if value == 0.0 else (1.0 - reach, 1.0)
    return Estimate(value, low, high, n, n_pairs)


def ratio_draws(
    counts: NDArray[np.float64], part: NDArray[np.float64], whole: NDArray[np.float64]
) -> NDArray[np.float64]:
    """sum(part) / sum(whole) over the queries of each draw, NaN where the sum of `whole` is 0.

    Args:
        counts: from `draw_queries`, shape (n_draws, n_queries).
        part: the query's share of the numerator, shape (n_queries,).
        whole: the query's share of the denominator, >= 0, shape (n_queries,).

    Returns:
        Shape (n_draws,).
    """
    return _divide(counts @ part, counts @ whole)


@dataclass(frozen=True, slots=True)
class RankingDraws:
    """Measures of the ranking in each draw, each of shape (n_draws,), NaN where undefined."""

    average_precision: NDArray[np.float64]
    auroc: NDArray[np.float64]
    best_f1: NDArray[np.float64]


def ranking_draws(
    counts: NDArray[np.float64], scores: NDArray[np.float64], labels: NDArray[np.bool_], query: NDArray[np.int64]
) -> RankingDraws:
    """AP, AUROC and best F1 of each draw, as `relgrade.metrics` defines them on the pairs drawn.

    Args:
        counts: from `draw_queries`, shape (n_draws, n_queries).
        scores: shape (n_pairs,).
        labels: shape (n_pairs,).
        query: index of the pair's query, shape (n_pairs,).
    """
    order = np.argsort(-scores, kind="stable")
    ordered, relevant, query = scores[order], labels[order].astype(np.float64), query[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))  # last pair of each run of equal scores
    blocks = [_block(drawn[:, query], relevant, ends) for drawn in _blocks(counts, query.size)]
    return RankingDraws(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)))


def _blocks(counts: NDArray[np.float64], n_pairs: int) -> Iterator[NDArray[np.float64]]:
    n_rows = max(1, BLOCK_CELLS // n_pairs)
    for start in range(0, len(counts), n_rows):
        yield counts[start : start + n_rows]


def _block(
    weights: NDArray[np.float64], relevant: NDArray[np.float64], ends: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """AP, AUROC and best F1 from the weight of each pair, best first, shape (n_rows, n_pairs)."""
    n_kept = np.cumsum(weights, axis=1)[:, ends]  # (n_rows, n_distinct)
    n_found = np.cumsum(weights * relevant, axis=1)[:, ends]
    n_relevant, n_irrelevant = n_found[:, -1], n_kept[:, -1] - n_found[:, -1]
    gained = np.diff(n_found, axis=1, prepend=0.0)
    # Nothing is gained where nothing is kept yet, so the floor of 1 only avoids 0 / 0.
    precision_sum = (gained * n_found / np.maximum(n_kept, 1.0)).sum(axis=1)
    passed = np.diff(n_kept, axis=1, prepend=0.0) - gained
    won = (passed * (n_found - gained / 2.0)).sum(axis=1)
    f1: NDArray[np.float64] = (2.0 * n_found / np.maximum(n_kept + n_relevant[:, None], 1.0)).max(axis=1)
    f1[n_relevant == 0] = np.nan
    return _divide(precision_sum, n_relevant), _divide(won, n_relevant * n_irrelevant), f1


def _divide(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    quotient: NDArray[np.float64] = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return quotient
