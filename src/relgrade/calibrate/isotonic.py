"""Isotonic calibration that keeps its ranking: scikit-learn's blocks, joined by straight lines in log-odds."""

import numpy as np

from relgrade.calibrate.arrays import Labelled
from relgrade.calibrate.scaling import platt, smoothed
from relgrade.errors import MissingExtra
from relgrade.probability import log_odds
from relgrade.records import Calibration

SAME = 1e-12  # means of blocks closer than this differ by rounding alone


def isotonic(data: Labelled) -> Calibration:
    """Knots at the blocks of an isotonic regression: (weighted mean logit, log-odds of the block's mean target).

    A plain isotonic regression is flat within a block and makes ties of documents that the model tells apart. Here a
    block stands for its centre alone, and log-odds run straight from centre to centre, so they rise strictly. Below the
    first and above the last centre they go on with Platt's slope. Targets are smoothed as Platt's, so that no block is
    certain. Falls back to the identity where `fit_platt` does.
    Source: Zadrozny and Elkan 2002, "Transforming classifier scores into accurate multiclass probability estimates".

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    line = platt(data)
    if line.method == "identity":
        return line
    try:
        from sklearn.isotonic import IsotonicRegression
    except ImportError as error:
        raise MissingExtra("scikit-learn", extra="evaluate", purpose="fit an isotonic calibration") from error

    blocks = IsotonicRegression().fit(data.logits, smoothed(data), sample_weight=data.weights).predict(data.logits)
    values, position = np.unique(blocks, return_inverse=True)
    new = np.diff(values, prepend=-1.0) > SAME
    block, values = (np.cumsum(new) - 1)[position], values[new]  # (n_pairs,), (n_blocks,)
    weight = np.bincount(block, weights=data.weights)
    has_weight = weight > 0.0
    centres = np.bincount(block, weights=data.weights * data.logits)[has_weight] / weight[has_weight]
    knots: list[tuple[float, float]] = []
    for x, value in zip(centres, values[has_weight], strict=True):
        y = log_odds(value)
        if not knots or x > knots[-1][0]:  # the centres of two blocks can differ by less than a float tells apart
            knots.append((float(x), y))
    return Calibration("isotonic", line.slope, 0.0, knots=tuple(knots), prevalence=data.prevalence)
