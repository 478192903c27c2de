"""Tests and lower bounds for a ratio of two sums over queries, by betting.

A share such as precision is E[part] / E[whole], over the draw of a query: part = relevant documents kept, whole =
documents kept. It reaches the target p exactly when E[gain] >= 0 for gain = (part / p - whole) / limit, and no gain
is below -1 when no query's whole exceeds `limit`. A gambler who stakes the fraction c < 1 of the capital on each query
owns the product of the (1 + c gain) after it; when the share is at most p, that is a supermartingale, and so is the
average over several c. By Ville's inequality the capital then ever reaches 1 / delta with probability delta at most.
Source: Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting", section 4 and the
mixture of appendix B. The fractions here are fixed, not plugged in: at any data the capital then falls as the target
rises, which is what keeps a stricter target from getting a lower threshold.
"""

import numpy as np
from numpy.typing import NDArray

# Fractions of the capital staked, and what share of the capital starts on each. Queries are few and `limit` is many
# documents, so the best stake is nearly always a large one; the small ones matter when queries number in the thousands.
STAKES = (0.99, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12, 0.06, 0.03)
SHARES = (0.3, 0.15, 0.12, 0.1, 0.09, 0.08, 0.07, 0.05, 0.04)
_HALVINGS = 30

Counts = NDArray[np.float64]


def weigh(part: Counts, whole: Counts, *, limit: int) -> tuple[Counts, Counts]:
    """Scale queries whose whole is above `limit` down to it, so that none weighs more than `limit` documents.

    Args:
        part: counts, shape (n_queries, n_thresholds).
        whole: counts >= part, same shape.
        limit: documents, >= 1.
    """
    weight = limit / np.maximum(whole, limit)
    weighed: tuple[Counts, Counts] = (part * weight, whole * weight)
    return weighed


def log_capital(part: Counts, whole: Counts, *, target: float | NDArray[np.float64], limit: int) -> NDArray[np.float64]:
    """Log of the largest capital held along the queries, >= 0, shape (n_thresholds,).

    Args:
        part: weighed counts, shape (n_queries, n_thresholds), queries in the order of the bets.
        whole: weighed counts, part <= whole <= limit, same shape.
        target: share in (0, 1], one or shape (n_thresholds,).
        limit: documents.
    """
    gains = (part / target - whole) / limit  # (n_queries, n_thresholds), >= -1
    total = np.full(gains.shape, -np.inf)
    for stake, share in zip(STAKES, SHARES, strict=True):
        total = np.logaddexp(total, np.cumsum(np.log1p(stake * gains), axis=0) + np.log(share))
    best: NDArray[np.float64] = np.maximum(total.max(axis=0, initial=0.0), 0.0)
    return best


def lower_bound(part: Counts, whole: Counts, *, delta: float, limit: int) -> NDArray[np.float64]:
    """The largest target that passes at level delta, shape (n_thresholds,); 0 where none does. Arguments as above."""
    low, high = np.zeros(part.shape[1]), np.ones(part.shape[1])
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        has_passed = log_capital(part, whole, target=middle, limit=limit) >= np.log(1.0 / delta)
        low, high = np.where(has_passed, middle, low), np.where(has_passed, high, middle)
    return low


def growth(part: Counts, whole: Counts, *, target: float, limit: int) -> NDArray[np.float64]:
    """Best mean growth of the log capital per query over the stakes, in nats, shape (n_thresholds,)."""
    gains = (part / target - whole) / limit
    rates = np.stack([np.log1p(stake * gains).mean(axis=0) for stake in STAKES])
    best: NDArray[np.float64] = rates.max(axis=0)
    return best
