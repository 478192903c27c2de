"""Logit to probability: the formulas that grading, calibration and evaluation share. Float64, safe from overflow."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade.errors import InvalidInput
from relgrade.records import Calibration, ListCalibration

Floats = NDArray[np.floating[Any]] | Sequence[float]
CLOSEST = 1e-9  # to 0 and to 1 that a probability is taken for when its logit is asked for
LIST_FEATURES = ("best", "second", "log_sum_exp", "log_n")  # of `ListCalibration`, in the order of `list_features`


def sigmoid(values: Floats | float) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)), any shape, in [0, 1]; infinities give 0 and 1, and no value overflows.

    exp is only ever taken of numbers <= 0 (Lin, Lin and Weng 2007, "A note on Platt's probabilistic outputs").
    """
    x = np.asarray(values, dtype=np.float64)
    small = np.exp(-np.abs(x))
    return np.where(x >= 0.0, 1.0, small) / (1.0 + small)


def log_odds(probability: float) -> float:
    """log(p / (1 - p)), with p kept `CLOSEST` away from 0 and 1."""
    p = min(max(float(probability), CLOSEST), 1.0 - CLOSEST)
    return math.log(p / (1.0 - p))


def calibrated_log_odds(calibration: Calibration, logits: Floats) -> NDArray[np.float64]:
    """g(logit) + intercept, see `Calibration`; any shape, and larger logits never get a smaller value."""
    raw = np.asarray(logits, dtype=np.float64)
    with np.errstate(over="ignore"):  # 1e308 times a slope is as good as infinite
        if not calibration.knots:
            return raw * calibration.slope + calibration.intercept
        knots = np.array(calibration.knots)  # (n_knots, 2)
        x, y = knots[:, 0], knots[:, 1]
        left = np.clip(np.searchsorted(x, raw, side="right") - 1, 0, x.size - 1)  # the knot at or below, or the first
        right = np.minimum(left + 1, x.size - 1)
        run = np.where(right > left, x[right] - x[left], 1.0)
        inner = y[left] + (raw - x[left]) * ((y[right] - y[left]) / run)
        inner = np.clip(inner, y[left], y[right])  # the last bit of a product must not turn the order round
        below, above = y[0] + calibration.slope * (raw - x[0]), y[-1] + calibration.slope * (raw - x[-1])
        found = np.where(raw < x[0], below, np.where(raw >= x[-1], above, inner))
    return np.asarray(found + calibration.intercept)


def calibrated_probability(calibration: Calibration, logits: Floats) -> NDArray[np.float64]:
    """P(relevant) = sigmoid(g(logit) + intercept), see `Calibration`.

    Args:
        calibration: of the bundle that made the logits.
        logits: finite log-odds before calibration, any shape.

    Returns:
        Probabilities in [0, 1], same shape; larger logits never get a smaller one.

    Raises:
        InvalidInput: a logit is NaN or infinite.
    """
    if not np.isfinite(np.asarray(logits, dtype=np.float64)).all():
        raise InvalidInput("a logit is NaN or infinite; the model gave no verdict there, so there is no probability")
    return sigmoid(calibrated_log_odds(calibration, logits))


def logit_at(calibration: Calibration, probability: float) -> float:
    """The logit, before calibration, that has this probability; the inverse of `calibrated_probability`."""
    wanted = log_odds(probability) - calibration.intercept
    if not calibration.knots:
        return wanted / calibration.slope
    x, y = zip(*calibration.knots, strict=True)
    if wanted <= y[0]:
        return float(x[0] + (wanted - y[0]) / calibration.slope)
    if wanted >= y[-1]:
        return float(x[-1] + (wanted - y[-1]) / calibration.slope)
    return float(np.interp(wanted, y, x))


def at_base_rate(calibration: Calibration, base_rate: float) -> Calibration:
    """The same calibration for a collection where another share of the retrieved documents is relevant.

    Where relevant documents look as they did, and irrelevant ones too, and only their shares differ, every log-odds
    moves by logit(base_rate) - logit(prevalence) (Saerens et al. 2002, "Adjusting the outputs of a classifier to new a
    priori probabilities", section 2.2). Where the documents themselves differ it is wrong: label some and calibrate.

    Args:
        calibration: knows its `prevalence`.
        base_rate: share of relevant documents, in (0, 1).

    Raises:
        InvalidInput: the base rate is out of range, or the calibration does not know the share it was fitted on.
    """
    require_base_rate(base_rate)
    if calibration.prevalence is None:
        raise InvalidInput(
            "base_rate needs a calibration that records its prevalence, and this one does not; calibrate the bundle "
            "anew with `relgrade calibrate`"
        )
    shift = log_odds(base_rate) - log_odds(calibration.prevalence)
    return replace(calibration, intercept=calibration.intercept + shift, prevalence=float(base_rate))


def require_base_rate(value: Any) -> None:
    """Raise InvalidInput unless the value is a share in (0, 1)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < 1.0:
        raise InvalidInput(f"base_rate is the share of relevant documents, between 0 and 1, got {value!r}")


def list_features(logits: Floats, *, floor: float) -> NDArray[np.float64]:
    """What the raw logits of one query's documents say together, shape (4,), see `ListCalibration`.

    Args:
        logits: at least one, finite, shape (n_documents,); their order does not matter.
        floor: no logit counts as lower.
    """
    raw = np.sort(np.maximum(np.asarray(logits, dtype=np.float64), floor))[::-1]
    second = raw[1] if raw.size > 1 else floor
    log_sum_exp = raw[0] + np.log(np.exp(raw - raw[0]).sum())
    return np.array([raw[0], second, log_sum_exp, np.log(raw.size)])


def list_probability(calibration: ListCalibration, logits: Floats) -> float:
    """P(some document is relevant), in [0, 1]; 0 for no documents. Arguments as for `list_features`."""
    if len(logits) == 0:
        return 0.0
    weights = np.array([getattr(calibration, name) for name in LIST_FEATURES])
    features = list_features(logits, floor=calibration.floor)
    with np.errstate(over="ignore"):
        return float(sigmoid(float(weights @ features) + calibration.intercept))
