"""Logit to probability: the one formula that grading, calibration and evaluation share. Float64, safe from overflow."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade.errors import InvalidInput
from relgrade.records import Calibration


def sigmoid(values: NDArray[np.floating[Any]] | Sequence[float] | float) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)), any shape, in [0, 1]; infinities give 0 and 1, and no value overflows.

    exp is only ever taken of numbers <= 0 (Lin, Lin and Weng 2007, "A note on Platt's probabilistic outputs").
    """
    x = np.asarray(values, dtype=np.float64)
    small = np.exp(-np.abs(x))
    return np.where(x >= 0.0, 1.0, small) / (1.0 + small)


def calibrated_probability(
    calibration: Calibration, logits: NDArray[np.floating[Any]] | Sequence[float]
) -> NDArray[np.float64]:
    """P(relevant) = sigmoid(slope * logit + intercept).

    Args:
        calibration: of the bundle that made the logits.
        logits: finite log-odds before calibration, any shape.

    Returns:
        Probabilities in [0, 1], same shape; larger logits never get a smaller one.

    Raises:
        InvalidInput: a logit is NaN or infinite.
    """
    raw = np.asarray(logits, dtype=np.float64)
    if not np.isfinite(raw).all():
        raise InvalidInput("a logit is NaN or infinite; the model gave no verdict there, so there is no probability")
    with np.errstate(over="ignore"):  # 1e308 times a slope is as good as infinite
        return sigmoid(raw * calibration.slope + calibration.intercept)
