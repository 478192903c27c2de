"""What is done today to choose a threshold: take the calibration documents at their word, or as independent."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, bdtrc

from benchmarks.simulation import LEVELS, Drawn
from relgrade.calibrate.shares import turning_points
from relgrade.records import Promise

POINT, DOCUMENTS = "point estimate", "documents as units"


def by_point(drawn: Drawn, promise: Promise) -> float | None:
    """The threshold that gives up least among those whose share on the calibration queries is good enough."""
    part, whole = _counts(drawn, promise)
    if promise.kind in ("precision", "recall"):
        return _best(part >= promise.target * whole, whole > 0, promise)
    return _best(part <= promise.target * whole, whole > 0, promise)


def by_documents(drawn: Drawn, promise: Promise) -> float | None:
    """The same with a Clopper-Pearson bound that takes every document for independent; for precision and recall."""
    part, whole = _counts(drawn, promise)
    # P(as many as these or more) if the share were the target.
    return _best(bdtrc(part - 1, whole, promise.target) <= promise.delta, whole > 0, promise)


def by_queries(drawn: Drawn, promise: Promise) -> float | None:
    """Clopper-Pearson over the queries concerned at every level: an oracle for the search of shares."""
    part, whole = _counts(drawn, promise)
    return _best(bdtr(part, whole, promise.target) <= promise.delta, whole > 0, promise)


def _counts(drawn: Drawn, promise: Promise) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Events and cases of the promised share at every level, each of shape (LEVELS,)."""
    kept, found = drawn.sums
    if promise.kind == "precision":
        return found, kept
    if promise.kind == "recall":
        return found, np.full(LEVELS, found[0])
    points = np.rint(turning_points(drawn, promise) * LEVELS)
    events = (
        points[:, None] < np.arange(LEVELS) if promise.kind == "lost-queries" else points[:, None] >= np.arange(LEVELS)
    )
    return events.sum(axis=0), np.full(LEVELS, points.size)


def _best(passes: NDArray[np.bool_], has_cases: NDArray[np.bool_], promise: Promise) -> float | None:
    levels = np.flatnonzero(passes & has_cases)
    if not levels.size:
        return None
    return float(levels[0] if promise.kind in ("precision", "false-keeps") else levels[-1]) / LEVELS
