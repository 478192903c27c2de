"""Clopper-Pearson bounds for shares of queries, exact, in numpy.

Source: Clopper and Pearson 1934, "The use of confidence or fiducial limits illustrated in the case of the binomial".
"""

from math import lgamma

import numpy as np

_HALVINGS = 60


def upper_bound(n_events: int, n: int, *, delta: float) -> float:
    """Largest share not ruled out: P(at most n_events of n) = delta at this share. 1 when n is 0 or all are events."""
    if n_events >= n:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if tail(n_events, n, middle) > delta else (low, middle)
    return high


def tail(n_events: int, n: int, share: float) -> float:
    """P(at most n_events of n) when each is an event with probability `share` in (0, 1)."""
    if n_events >= n:
        return 1.0
    k = np.arange(n_events + 1)
    log_choose = np.array([lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1) for i in range(n_events + 1)])
    logs = log_choose + k * np.log(share) + (n - k) * np.log1p(-share)
    top = float(logs.max())
    return min(1.0, float(np.exp(top) * np.exp(logs - top).sum()))


def n_needed(event_share: float, *, target: float, delta: float, most: int = 10_000_000) -> int | None:
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
    while upper_bound(round(event_share * high), high, delta=delta) > target:
        low, high = high, high * 2
        if high > most:
            return None
    while high - low > max(1, high // 100):  # rounding makes the bound saw-toothed, so nearer is pointless
        middle = (low + high) // 2
        is_enough = upper_bound(round(event_share * middle), middle, delta=delta) <= target
        low, high = (low, middle) if is_enough else (middle, high)
    return high
