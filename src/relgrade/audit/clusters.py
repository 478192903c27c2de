"""Intervals when the query is the unit: draws of whole queries, and Student's quantile for few of them.

It knows arrays and no measures.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from relgrade.errors import InvalidInput

LEVEL = 0.95
N_DRAWS = 2000
MIN_DEFINED = 0.95  # share of draws that must have a value, or the interval would describe the lucky ones alone


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95 % interval. None stands for a number that does not exist, never NaN."""

    value: float | None
    low: float | None
    high: float | None
    n_queries: int  # that the value rests on
    n_pairs: int

    @property
    def half_width(self) -> float | None:
        """Half of high - low."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2.0


def bootstrap(
    sums: NDArray[np.float64],
    measure: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    *,
    n_pairs: int,
    seed: int = 0,
    n_draws: int = N_DRAWS,
) -> Interval:
    """The interval of a measure that is a function of sums over queries.

    Whole queries are drawn with replacement, because a query's pairs err together (percentile interval, Efron and
    Tibshirani 1993, chapter 13; whole clusters, Field and Welsh 2007).

    Args:
        sums: what each query adds, shape (n_queries, ...).
        measure: from totals of shape (n, ...) to values of shape (n,), NaN where undefined.
        n_pairs: behind the sums; passed on.
        seed: of the draws.
        n_draws: number of draws.
    """
    n_queries = len(sums)
    if n_queries == 0:
        return Interval(None, None, None, 0, n_pairs)
    flat = sums.reshape(n_queries, -1)
    value = float(measure(sums.sum(axis=0, keepdims=True))[0])
    if np.isnan(value):
        return Interval(None, None, None, n_queries, n_pairs)
    if n_queries == 1:
        return Interval(value, None, None, n_queries, n_pairs)
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(n_queries, np.full(n_queries, 1.0 / n_queries), size=n_draws)  # (n_draws, n_queries)
    drawn = measure((counts @ flat).reshape(n_draws, *sums.shape[1:]))
    defined = drawn[~np.isnan(drawn)]
    if defined.size < MIN_DEFINED * n_draws:
        return Interval(value, None, None, n_queries, n_pairs)
    low, high = np.quantile(defined, [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])
    return Interval(value, float(low), float(high), n_queries, n_pairs)


def sums_by_query(values: NDArray[np.float64], query: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums of the rows of each query, shape (n_queries, ...), in the order of the queries' indices."""
    position = np.unique(query, return_inverse=True)[1]
    sums = np.zeros((int(position.max()) + 1 if position.size else 0, *values.shape[1:]))
    np.add.at(sums, position, values)
    return sums


def student_quantile(degrees: int, *, level: float = LEVEL) -> float:
    """The half-width, in standard errors, of a two-sided interval with so many degrees of freedom.

    Cornish-Fisher expansion around the normal (Abramowitz and Stegun 1964, 26.7.5), within 0.1 % from 5 degrees on.

    Raises:
        InvalidInput: below 1 degree.
    """
    if degrees < 1:
        raise InvalidInput("an interval needs two queries at least")
    z = NormalDist().inv_cdf((1.0 + level) / 2.0)
    g1 = (z**3 + z) / 4.0
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96.0
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384.0
    g4 = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160.0
    return z + g1 / degrees + g2 / degrees**2 + g3 / degrees**3 + g4 / degrees**4
