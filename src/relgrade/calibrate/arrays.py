"""Checks and counts that every fit shares: aligned arrays, queries as numbers, weights, clustered standard errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade.errors import InvalidInput

Floats = NDArray[np.floating[Any]] | Sequence[float]
Ids = Sequence[str] | NDArray[Any]


@dataclass(frozen=True, slots=True)
class Labelled:
    """Labelled logits, checked; row i of each array is pair i."""

    logits: NDArray[np.float64]  # (n_pairs,) finite
    labels: NDArray[np.float64]  # (n_pairs,) in [0, 1]
    weights: NDArray[np.float64]  # (n_pairs,) >= 0, mean 1
    query: NDArray[np.int64]  # (n_pairs,) number of the pair's query, from 0; the order of names decides, not of pairs

    @property
    def n_queries(self) -> int:
        """Queries, however many pairs each has."""
        return int(self.query.max()) + 1

    @property
    def prevalence(self) -> float:
        """Weighted share of relevant pairs, in [0, 1]."""
        return float(np.average(self.labels, weights=self.weights))

    @property
    def has_both_classes(self) -> bool:
        """False where there is nothing to tell apart."""
        return 0.0 < self.prevalence < 1.0

    def rows_of_queries(self) -> list[NDArray[np.int64]]:
        """Rows of each query, in the order of the queries' numbers."""
        return np.split(np.argsort(self.query, kind="stable"), np.cumsum(np.bincount(self.query))[:-1])

    def take(self, rows: NDArray[Any]) -> "Labelled":
        """Some of the pairs; queries keep their numbers."""
        weights = self.weights[rows]
        return Labelled(self.logits[rows], self.labels[rows], weights / (weights.mean() or 1.0), self.query[rows])


def check_labelled(
    logits: Floats, labels: NDArray[Any] | Sequence[float], *, weights: Floats | None, query_ids: Ids | None
) -> Labelled:
    """Labelled logits as float64.

    Args:
        logits: finite, shape (n_pairs,).
        labels: in [0, 1], shape (n_pairs,).
        weights: >= 0, shape (n_pairs,); None counts pairs equally.
        query_ids: shape (n_pairs,); None makes every pair a query of its own.

    Raises:
        InvalidInput: shapes differ, a number is not finite, a label is outside [0, 1], or no weight is above 0.
    """
    x, y = np.asarray(logits, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    w = np.ones(x.shape) if weights is None else np.asarray(weights, dtype=np.float64)
    if x.ndim != 1 or x.size == 0 or not x.shape == y.shape == w.shape:
        raise InvalidInput(f"need logits, labels and weights of shape (n_pairs,), got {x.shape}, {y.shape}, {w.shape}")
    if not (np.isfinite(x).all() and np.isfinite(w).all()):
        raise InvalidInput("logits and weights must be finite; a pair without a score has no place in a calibration")
    if not ((y >= 0.0) & (y <= 1.0)).all():  # NaN fails both comparisons
        raise InvalidInput("labels must lie in [0, 1]; cut graded labels first")
    if (w < 0.0).any() or not w.any():
        raise InvalidInput("weights must be >= 0, and one above 0")
    return Labelled(x, y, w / w.mean(), number_queries(query_ids, x.size))


def number_queries(query_ids: Ids | None, n_pairs: int) -> NDArray[np.int64]:
    """The number of each pair's query, shape (n_pairs,).

    Raises:
        InvalidInput: not one id per pair.
    """
    if query_ids is None:
        return np.arange(n_pairs)
    names = np.asarray(query_ids)
    if names.shape != (n_pairs,):
        raise InvalidInput(f"need one query id per pair, {n_pairs} in all, got shape {names.shape}")
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def source_weights(sources: Ids) -> NDArray[np.float64]:
    """Weights, shape (n_pairs,) with mean 1, under which every source counts the same however many pairs it has."""
    names = np.asarray(sources)
    if names.ndim != 1 or names.size == 0:
        raise InvalidInput(f"sources must have shape (n_pairs,) with n_pairs >= 1, got {names.shape}")
    _, position, counts = np.unique(names, return_inverse=True, return_counts=True)
    return names.size / (counts.size * counts[position].astype(np.float64))


def clustered_error(values: NDArray[np.float64], data: Labelled) -> float:
    """Standard error of the weighted mean of `values`, shape (n_pairs,), when the pairs of a query go together.

    Linearised ratio estimator over queries: sqrt(Q / (Q - 1) * sum_q r_q^2) / sum(w), with r_q the sum over the query's
    pairs of w * (value - mean) (Cochran 1977, "Sampling Techniques", section 6.4).
    """
    mean = np.average(values, weights=data.weights)
    by_query = np.bincount(data.query, weights=data.weights * (values - mean))
    n_queries = len(np.unique(data.query))
    if n_queries < 2:
        return float("inf")
    return float(np.sqrt(n_queries / (n_queries - 1) * (by_query**2).sum()) / data.weights.sum())


def log_losses(log_odds: NDArray[np.float64], labels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cross-entropy of each pair in nats, shape (n_pairs,); finite for finite log-odds, however large."""
    return np.asarray(np.logaddexp(0.0, log_odds) - labels * log_odds)
