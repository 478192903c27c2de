"""Calibrations that are a straight line in log-odds: temperature, one number, and Platt, two.

Both keep the order of the documents, so they can mend confidence and nothing else.
Source: Platt 1999, "Probabilistic outputs for support vector machines", section 2.2 (smoothed targets; its A and B are
-slope and -intercept); Guo et al. 2017, "On calibration of modern neural networks", section 4.2 (temperature T, which
is 1 / slope).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade.calibrate.arrays import Floats, Ids, Labelled, check_labelled, log_losses
from relgrade.calibrate.logistic import fit_logistic
from relgrade.probability import calibrated_log_odds
from relgrade.records import Calibration

# Pull of the slope towards 0, in pairs, when logits are scaled to unit variance. Smoothed targets alone keep the
# optimum finite; this only keeps the Newton step well-conditioned.
RIDGE = 1e-3
_TINY = 1e-12


def fit_platt(
    logits: Floats,
    labels: NDArray[Any] | Sequence[float],
    *,
    weights: Floats | None = None,
    query_ids: Ids | None = None,
) -> Calibration:
    """Fit probability = sigmoid(slope * logit + intercept) by regularised maximum likelihood.

    The order of pairs does not matter. Where the fit cannot be trusted (one class only, equal logits, or a slope that
    would turn the ranking round) the result is the identity, and its evidence says why under "fallback".

    Args:
        logits: finite, shape (n_pairs,).
        labels: 0/1, or a teacher's P(relevant) in [0, 1], shape (n_pairs,).
        weights: >= 0, shape (n_pairs,), scaled here to a mean of 1; None counts pairs equally. `source_weights` gives
            those under which each collection counts the same.
        query_ids: only counted, for the evidence, shape (n_pairs,).

    Returns:
        Slope > 0 always. The evidence holds counts and the weighted log loss before and after, in nats.

    Raises:
        InvalidInput: shapes differ, a number is not finite, a label is outside [0, 1], or no weight is above 0.
    """
    data = check_labelled(logits, labels, weights=weights, query_ids=query_ids)
    fitted = platt(data)
    counts = {"n_queries": data.n_queries} if query_ids is not None else {}
    return Calibration(
        fitted.method,
        fitted.slope,
        fitted.intercept,
        evidence={**count_evidence(data), **counts, **fit_evidence(fitted, data)},
        prevalence=fitted.prevalence,
    )


def platt(data: Labelled) -> Calibration:
    """`fit_platt` of checked data, without evidence but "fallback"."""
    if reason := _unfit(data.logits, data):
        return identity(data, reason)
    centre = float(np.average(data.logits, weights=data.weights))
    scale = float(np.sqrt(np.average((data.logits - centre) ** 2, weights=data.weights)))
    design = np.column_stack([(data.logits - centre) / scale, np.ones(data.logits.size)])
    slope, intercept = map(float, fit_logistic(design, smoothed(data), weights=data.weights, ridge=[RIDGE, 0.0]))
    if not slope > 0.0:
        return identity(data, f"larger logits went with irrelevant pairs (fitted slope {slope / scale:.3g})")
    return Calibration("platt", slope / scale, intercept - slope * centre / scale, prevalence=data.prevalence)


def temperature(data: Labelled, *, prior_shift: float) -> Calibration:
    """sigmoid(slope * (logit - prior_shift)): the only free number is the slope. Falls back as `fit_platt` does.

    Args:
        data: checked.
        prior_shift: that the model's training put on its log-odds, see `fit_calibration`.
    """
    x = data.logits - prior_shift
    if reason := _unfit(x, data):
        return identity(data, reason)
    scale = float(np.sqrt(np.average(x**2, weights=data.weights)))
    (slope,) = fit_logistic((x / scale)[:, None], smoothed(data), weights=data.weights, ridge=[RIDGE])
    if not slope > 0.0:
        return identity(data, f"larger logits went with irrelevant pairs (fitted slope {slope / scale:.3g})")
    slope = float(slope / scale)
    return Calibration("temperature", slope, -slope * prior_shift, prevalence=data.prevalence)


def identity(data: Labelled, reason: str) -> Calibration:
    """No change, and the reason for it."""
    known = data.prevalence if data.has_both_classes else None
    return Calibration("identity", evidence={"fallback": f"identity: {reason}"}, prevalence=known)


def smoothed(data: Labelled) -> NDArray[np.float64]:
    """Platt's targets, shape (n_pairs,): never 0 or 1, as if one more pair of each class had been seen."""
    y = data.labels
    n_relevant, n_irrelevant = float(data.weights @ y), float(data.weights @ (1.0 - y))
    return y * (n_relevant + 1.0) / (n_relevant + 2.0) + (1.0 - y) / (n_irrelevant + 2.0)


def count_evidence(data: Labelled) -> dict[str, Any]:
    """How much was there to fit."""
    return {"n_pairs": int(data.logits.size), "n_relevant": float(data.labels.sum())}


def fit_evidence(calibration: Calibration, data: Labelled) -> dict[str, Any]:
    """Weighted log loss in nats before and after, on the pairs that were fitted, and why nothing was, if so."""
    before, after = (
        float(np.average(log_losses(z, data.labels), weights=data.weights))
        for z in (data.logits, calibrated_log_odds(calibration, data.logits))
    )
    return {"log_loss_before": before, "log_loss_after": after, **calibration.evidence}


def _unfit(x: NDArray[np.float64], data: Labelled) -> str:
    """Why nothing can be fitted; empty when something can."""
    if not data.has_both_classes:
        return "the labels are all the same"
    centre = float(np.average(x, weights=data.weights))
    scale = float(np.sqrt(np.average((x - centre) ** 2, weights=data.weights)))
    return "" if scale > _TINY * max(1.0, abs(centre)) else "the logits are all the same"
