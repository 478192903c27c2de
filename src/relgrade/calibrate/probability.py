"""Fit the two numbers that turn a model's logits into probabilities.

Platt scaling keeps the order of the documents, so it can mend confidence and nothing else. Fit it on logits of the
graph that ships, over queries that neither trained the model nor report on it.
Source: Platt 1999, "Probabilistic outputs for support vector machines", section 2.2 (smoothed targets); the Newton
method is that of Lin, Lin and Weng 2007, "A note on Platt's probabilistic outputs". Their A and B are -slope and
-intercept here.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade.errors import InvalidInput
from relgrade.probability import calibrated_probability, sigmoid
from relgrade.records import Calibration

# Pull of the slope towards 0, in pairs, when logits are scaled to unit variance. Smoothed targets alone keep the
# optimum finite; this only keeps the Newton step well-conditioned.
RIDGE = 1e-3
MAX_STEPS = 100
_TINY = 1e-12


def fit_platt(
    logits: NDArray[np.floating[Any]] | Sequence[float],
    labels: NDArray[Any] | Sequence[float],
    *,
    weights: NDArray[np.floating[Any]] | Sequence[float] | None = None,
    prior_shift: float = 0.0,
    query_ids: Sequence[str] | NDArray[Any] | None = None,
) -> Calibration:
    """Fit probability = sigmoid(slope * logit + intercept) by regularised maximum likelihood.

    The order of pairs does not matter. Where the fit cannot be trusted (one class only, equal logits, or a slope that
    would turn the ranking round) the result is the identity, and its evidence says why under "fallback".

    Args:
        logits: finite, shape (n_pairs,).
        labels: 0/1, or a teacher's P(relevant) in [0, 1], shape (n_pairs,).
        weights: >= 0, shape (n_pairs,), scaled here to a mean of 1; None counts pairs equally. `source_weights` gives
            those under which each collection counts the same.
        prior_shift: added to the intercept: log-odds of "relevant" where the grader will work, minus the log-odds among
            these pairs. 0 when these pairs are as the grader will meet them.
        query_ids: only counted, for the evidence, shape (n_pairs,).

    Returns:
        Slope > 0 always. The evidence holds counts and the weighted log loss before and after, in nats; "after" leaves
        the prior shift out, which these pairs cannot judge.

    Raises:
        InvalidInput: shapes differ, a number is not finite, a label is outside [0, 1], or no weight is above 0.
    """
    x, y, w = _checked(logits, labels, weights)
    if not np.isfinite(prior_shift):
        raise InvalidInput(f"prior_shift must be finite, got {prior_shift}")
    evidence: dict[str, Any] = {"n_pairs": int(x.size), "n_relevant": float(y.sum()), "prior_shift": float(prior_shift)}
    if query_ids is not None:
        evidence["n_queries"] = len(set(np.asarray(query_ids).tolist()))
    evidence["log_loss_before"] = _loss(x, y, w)
    n_relevant, n_irrelevant = float(w @ y), float(w @ (1.0 - y))
    if min(n_relevant, n_irrelevant) <= 0.0:
        return _identity(prior_shift, evidence, "the labels are all the same")
    centre = float(np.average(x, weights=w))
    scale = float(np.sqrt(np.average((x - centre) ** 2, weights=w)))
    if not scale > _TINY * max(1.0, abs(centre)):
        return _identity(prior_shift, evidence, "the logits are all the same")
    # Platt's targets: never 0 or 1, as if one more pair of each class had been seen.
    target = y * (n_relevant + 1.0) / (n_relevant + 2.0) + (1.0 - y) / (n_irrelevant + 2.0)
    slope, intercept = _newton((x - centre) / scale, target, w)
    slope, intercept = slope / scale, intercept - slope * centre / scale
    if not slope > 0.0:
        return _identity(prior_shift, evidence, f"larger logits went with irrelevant pairs (fitted slope {slope:.3g})")
    evidence["log_loss_after"] = _loss(slope * x + intercept, y, w)
    return Calibration(method="platt", slope=slope, intercept=intercept + float(prior_shift), evidence=evidence)


def apply(calibration: Calibration, logits: NDArray[np.floating[Any]] | Sequence[float]) -> NDArray[np.float64]:
    """Calibrated P(relevant) in float64, see `relgrade.probability.calibrated_probability`."""
    return calibrated_probability(calibration, logits)


def source_weights(sources: Sequence[str] | NDArray[Any]) -> NDArray[np.float64]:
    """Weights, shape (n_pairs,) with mean 1, under which every source counts the same however many pairs it has."""
    names = np.asarray(sources)
    if names.ndim != 1 or names.size == 0:
        raise InvalidInput(f"sources must have shape (n_pairs,) with n_pairs >= 1, got {names.shape}")
    _, position, counts = np.unique(names, return_inverse=True, return_counts=True)
    return names.size / (counts.size * counts[position].astype(np.float64))


def _newton(x: NDArray[np.float64], target: NDArray[np.float64], w: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and intercept of the least weighted cross-entropy plus ridge: Newton steps, halved until they help."""
    base = float(np.average(target, weights=w))
    point = np.array([0.0, np.log(base / (1.0 - base))])

    def objective(at: NDArray[np.float64]) -> float:
        z = at[0] * x + at[1]
        return float(w @ (np.logaddexp(0.0, z) - target * z)) + 0.5 * RIDGE * float(at[0]) ** 2

    value = objective(point)
    for _ in range(MAX_STEPS):
        p = sigmoid(point[0] * x + point[1])
        residual, curvature = w * (p - target), w * p * (1.0 - p)
        gradient = np.array([residual @ x + RIDGE * point[0], residual.sum()])
        cross = float(curvature @ x)
        hessian = np.array(
            [[float(curvature @ (x * x)) + RIDGE, cross], [cross, float(curvature.sum()) + _TINY]]
        )  # (2, 2)
        step = np.linalg.solve(hessian, gradient)
        share = 1.0
        while share > 1e-10 and objective(point - share * step) > value:
            share /= 2.0
        point = point - share * step
        improved, value = value - objective(point), objective(point)
        if improved <= 1e-12 * max(1.0, abs(value)):
            break
    return float(point[0]), float(point[1])


def _loss(x: NDArray[np.float64], y: NDArray[np.float64], w: NDArray[np.float64]) -> float:
    return float(w @ (np.logaddexp(0.0, x) - y * x) / w.sum())


def _identity(prior_shift: float, evidence: dict[str, Any], reason: str) -> Calibration:
    evidence["log_loss_after"] = evidence["log_loss_before"]
    evidence["fallback"] = f"identity: {reason}"
    return Calibration(method="identity", intercept=float(prior_shift), evidence=evidence)


def _checked(logits: Any, labels: Any, weights: Any) -> tuple[NDArray[np.float64], ...]:
    x, y = np.asarray(logits, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    w = np.ones(x.shape) if weights is None else np.asarray(weights, dtype=np.float64)
    if x.ndim != 1 or x.size == 0 or not x.shape == y.shape == w.shape:
        raise InvalidInput(f"need logits, labels and weights of shape (n_pairs,), got {x.shape}, {y.shape}, {w.shape}")
    if not (np.isfinite(x).all() and np.isfinite(w).all()):
        raise InvalidInput("logits and weights must be finite")
    if not ((y >= 0.0) & (y <= 1.0)).all():  # NaN fails both comparisons
        raise InvalidInput("labels must lie in [0, 1]")
    if (w < 0.0).any() or not w.any():
        raise InvalidInput("weights must be >= 0, and one above 0")
    return x, y, w / w.mean()
