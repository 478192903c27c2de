"""A ratio of sums over questions with its interval by drawing questions, for experiments beside the card."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Ratio:
    """A measure with its interval; None where no question counts."""

    value: float | None
    low: float | None
    high: float | None
    n_questions: int  # that count

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"value": self.value, "low": self.low, "high": self.high, "n_questions": self.n_questions}


def ratio(top: NDArray[Any], bottom: NDArray[Any], draws: NDArray[np.int64]) -> Ratio:
    """Sum of `top` over sum of `bottom`, each of shape (n_questions,), and its percentile interval.

    Args:
        top: what counts.
        bottom: out of what.
        draws: rows of each bootstrap draw, shape (n_draws, n_questions).
    """
    top, bottom = np.asarray(top, np.float64), np.asarray(bottom, np.float64)
    n_counted = int((bottom > 0).sum())
    if not n_counted:
        return Ratio(None, None, None, 0)
    tops, bottoms = top[draws].sum(axis=1), bottom[draws].sum(axis=1)
    drawn = tops[bottoms > 0] / bottoms[bottoms > 0]
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if drawn.size else (np.nan, np.nan)
    return Ratio(float(top.sum() / bottom.sum()), float(low), float(high), n_counted)
