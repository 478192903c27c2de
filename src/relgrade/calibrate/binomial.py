"""Clopper-Pearson bounds for shares of queries, exact, in numpy.

Source: Clopper and Pearson 1934, "The use of confidence or fiducial limits illustrated in the case of the binomial".
"""

from math import lgamma

import numpy as np
from numpy.typing import NDArray

_HALVINGS = 60


def upper_bound(n_events: int, n: int, *, delta: float) -> float:
    """Largest share not ruled out: P(at most n_events of n) = delta at this share. 1 when n is 0 or all are events."""
    if n_events >= n:
        return 1.0
    low, high = 0.0, 1.0
    log_choose = _log_choose(n_events, n)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if _tail(log_choose, n, middle) > delta else (low, middle)
    return high


def tail(n_events: int, n: int, share: float) -> float:
    """P(at most n_events of n) when each is an event with probability `share` in (0, 1)."""
    if n_events >= n:
        return 1.0
    return _tail(_log_choose(n_events, n), n, share)


def n_needed(event_share: float, *, target: float, delta: float, most: int = 1_000_000) -> int | None:
    """Roughly how many queries bring the upper bound to `target` if events stay as frequent; None when never.

    Args:
        event_share: observed share of events in [0, 1].
        target: share in (0, 1) that the bound has to reach.
        delta: of the bound.
        most: give up beyond this many.
    """
    n_without = int(np.ceil(np.log(delta) / np.log1p(-target)))  # (1 - target)^n <= delta
    if event_share <= 0.0:
        return n_without
    if event_share >= target:
        return None
    low, high = 0, max(n_without, 1)
    while not _is_enough(event_share, high, target, delta):
        low, high = high, high * 2
        if high > most:
            return None
    while high - low > max(1, high // 100):  # rounding makes the bound saw-toothed, so nearer is pointless
        middle = (low + high) // 2
        low, high = (low, middle) if _is_enough(event_share, middle, target, delta) else (middle, high)
    return high


def _is_enough(event_share: float, n: int, target: float, delta: float) -> bool:
    return tail(round(event_share * n), n, target) <= delta


def _log_choose(n_events: int, n: int) -> NDArray[np.float64]:
    """Log of n over k for k = 0 .. n_events."""
    return np.array([lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) for k in range(n_events + 1)])


def _tail(log_choose: NDArray[np.float64], n: int, share: float) -> float:
    k = np.arange(log_choose.size)
    logs = log_choose + k * np.log(share) + (n - k) * np.log1p(-share)
    top = float(logs.max())
    return min(1.0, float(np.exp(top) * np.exp(logs - top).sum()))
