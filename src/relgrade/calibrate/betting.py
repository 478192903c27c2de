"""Tests and lower bounds for a ratio of two sums over queries, by betting.

A share such as precision is E[part] / E[whole], over the draw of a query: part = relevant documents kept, whole =
documents kept. It reaches the target p exactly when E[gain] >= 0 for gain = (part / p - whole) / limit, and no gain
is below -1 when no query's whole exceeds `limit`. A gambler who stakes the fraction c < 1 of the capital on each query
ends with the product of the (1 + c gain). When the share is at most p its expectation is at most 1, and so is that of
the average over several c, whatever the distribution: by Markov's inequality the capital then reaches 1 / delta with
probability delta at most. Queries that keep nothing change no capital.
Source: Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting", section 4 and the
mixture of appendix B. Two choices differ from theirs and cost little. The fractions are fixed, not plugged in: at any
data the capital then falls as the target rises, so a stricter target never gets a lower threshold. The final capital
counts, not the largest on the way: the order of the queries then has no say, and a bound never exceeds the observed
share, since log(1 + x) <= x.
"""

import numpy as np
from numpy.typing import NDArray

# Fractions of the capital staked, and what share of the capital starts on each. Queries are few and `limit` is many
# documents, so the best stake is nearly always a large one; the small ones matter when queries number in the thousands.
STAKES = (0.99, 0.6, 0.36, 0.2, 0.1, 0.05, 0.02)
SHARES = (0.55, 0.15, 0.1, 0.08, 0.06, 0.04, 0.02)
_HALVINGS = 30  # targets down to 1e-9: sixteen gains over that are still far from overflow
_BLOCK = 16

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
    """Log of the final capital, shape (n_thresholds,).

    Args:
        part: weighed counts, shape (n_queries, n_thresholds).
        whole: weighed counts, part <= whole <= limit, same shape.
        target: share in (0, 1], one or shape (n_thresholds,).
        limit: documents.
    """
    total = np.full(part.shape[1], -np.inf)
    for logs, share in zip(_log_products(part, whole, target, limit), SHARES, strict=True):
        total = np.logaddexp(total, logs + np.log(share))
    return total


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
    best: NDArray[np.float64] = _log_products(part, whole, target, limit).max(axis=0) / part.shape[0]
    return best


def _log_products(part: Counts, whole: Counts, target: float | NDArray[np.float64], limit: int) -> NDArray[np.float64]:
    """Log of the product of (1 + stake * gain) over the queries, shape (n_stakes, n_thresholds)."""
    is_betting = whole.any(axis=1)  # the others' gain is 0 everywhere
    n_betting, n_thresholds = int(is_betting.sum()), part.shape[1]
    gains = np.zeros((n_betting + -n_betting % _BLOCK, n_thresholds))  # filled up with gains of 0; all >= -1
    gains[:n_betting] = (part[is_betting] / target - whole[is_betting]) / limit
    blocks = gains.reshape(_BLOCK, -1, n_thresholds)
    # Multiplied in blocks first: a logarithm costs more, and sixteen factors >= 0.01 stay far from underflow.
    return np.stack([np.log((1.0 + stake * blocks).prod(axis=0)).sum(axis=0) for stake in STAKES])
