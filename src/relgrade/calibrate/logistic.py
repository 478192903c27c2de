"""Logistic regression with soft targets, weights, an offset and a ridge: the one optimiser of this package.

scikit-learn's takes neither soft targets nor an offset; it is the oracle of the tests.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from relgrade.probability import sigmoid

MAX_STEPS = 100
_TINY = 1e-12


def fit_logistic(
    design: NDArray[np.float64],
    target: NDArray[np.float64],
    *,
    weights: NDArray[np.float64],
    ridge: Sequence[float],
    offset: NDArray[np.float64] | float = 0.0,
) -> NDArray[np.float64]:
    """Coefficients of the least weighted cross-entropy plus ridge / 2 * coefficient^2.

    Newton steps, each halved until it helps; the objective is convex.

    Args:
        design: shape (n_rows, n_columns); a column of ones is an intercept.
        target: in [0, 1], shape (n_rows,).
        weights: >= 0, shape (n_rows,).
        ridge: pull of each coefficient towards 0, >= 0, n_columns of them.
        offset: log-odds that are known already, shape (n_rows,).
    """
    pull = np.asarray(ridge, dtype=np.float64)
    point = np.zeros(design.shape[1])

    def objective(at: NDArray[np.float64]) -> float:
        z = design @ at + offset
        return float(weights @ (np.logaddexp(0.0, z) - target * z) + 0.5 * (pull * at) @ at)

    value = objective(point)
    for _ in range(MAX_STEPS):
        p = sigmoid(design @ point + offset)
        gradient = design.T @ (weights * (p - target)) + pull * point
        curvature = design.T @ (design * (weights * p * (1.0 - p))[:, None]) + np.diag(pull + _TINY)
        step = np.linalg.solve(curvature, gradient)
        share = 1.0
        while share > 1e-10 and objective(point - share * step) > value:
            share /= 2.0
        point = point - share * step
        improved, value = value - objective(point), objective(point)
        if improved <= 1e-12 * max(1.0, abs(value)):
            break
    return point
