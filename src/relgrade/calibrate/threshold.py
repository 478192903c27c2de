"""Choose the threshold with the best F1 on calibration queries: a plain choice, with no guarantee.

What it reached on those queries is recorded beside it and is optimistic: the same pairs chose it. Report on others.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade.errors import InvalidInput, UndefinedMeasure
from relgrade.records import OperatingPoint

ONE_SOURCE = "all"  # the name of the only source when none are given


def pick_best_f1(
    probabilities: NDArray[np.floating[Any]] | Sequence[float],
    labels: NDArray[Any] | Sequence[float] | Sequence[int],
    *,
    sources: Sequence[str] | NDArray[Any] | None = None,
    query_ids: Sequence[str] | NDArray[Any] | None = None,
    name: str = "balanced",
) -> OperatingPoint:
    """The threshold whose F1, averaged over the sources with equal weight, is best; keep when probability >= threshold.

    Every distinct probability is tried. The threshold returned lies midway between the lowest probability kept and the
    highest dropped, so that rounding does not turn verdicts; when nothing is dropped, it is the lowest probability.
    Of thresholds with equally good F1 the lowest wins: a dropped passage cannot help, one too many may not hurt.
    The order of pairs, and duplicating all of them, change nothing.

    Args:
        probabilities: calibrated P(relevant) in [0, 1], shape (n_pairs,).
        labels: 0 or 1, shape (n_pairs,).
        sources: collection of each pair, shape (n_pairs,); None: one collection. Those without a relevant pair have no
            F1 and take no part; the evidence names them.
        query_ids: only counted, for the evidence, shape (n_pairs,).
        name: of the operating point.

    Raises:
        InvalidInput: shapes differ, a probability is NaN or outside [0, 1], a label is neither 0 nor 1.
        UndefinedMeasure: nothing is relevant.
    """
    p, relevant, source = _checked(probabilities, labels, sources)
    candidates = np.unique(p)  # rising
    names = [each for each in np.unique(source) if relevant[source == each].any()]
    if not names:
        raise UndefinedMeasure(
            "no threshold has an F1: nothing is relevant; calibrate on queries with relevant documents"
        )
    curves = [_f1_curve(p[source == each], relevant[source == each], candidates) for each in names]
    macro = np.mean(curves, axis=0)  # (n_candidates,)
    best = int(macro.argmax())  # the first of equals: the lowest
    threshold = _midway(candidates, best)
    is_kept = p >= threshold
    evidence: dict[str, Any] = {
        "chosen_by": "best F1, macro-averaged over sources" if sources is not None else "best F1",
        "guarantee": "none: chosen and measured on the same calibration pairs",
        "macro_f1": float(macro[best]),
        "n_queries": None if query_ids is None else len(set(np.asarray(query_ids).tolist())),
        **_reached(is_kept, relevant),
        "by_source": {str(each): _reached(is_kept[source == each], relevant[source == each]) for each in names},
    }
    left_out = sorted(set(source.tolist()) - set(names))
    if left_out:
        evidence["sources_without_relevant_pairs"] = left_out
    return OperatingPoint(name, threshold, evidence)


def _f1_curve(p: NDArray[np.float64], relevant: NDArray[np.bool_], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """F1 of one source when pairs with p >= each of the thresholds `at` are kept, shape (n_thresholds,)."""
    n_kept = p.size - np.searchsorted(np.sort(p), at, side="left")
    n_found = int(relevant.sum()) - np.searchsorted(np.sort(p[relevant]), at, side="left")
    return np.asarray(2.0 * n_found / (n_kept + int(relevant.sum())), dtype=np.float64)


def _midway(candidates: NDArray[np.float64], best: int) -> float:
    kept = float(candidates[best])
    if best == 0:
        return kept
    dropped = float(candidates[best - 1])
    middle = dropped + (kept - dropped) / 2.0
    return middle if middle > dropped else kept  # neighbours in float64 have nothing between them


def _reached(is_kept: NDArray[np.bool_], relevant: NDArray[np.bool_]) -> dict[str, Any]:
    n_kept, n_relevant, n_found = int(is_kept.sum()), int(relevant.sum()), int((is_kept & relevant).sum())
    return {
        "n_pairs": int(is_kept.size),
        "n_relevant": n_relevant,
        "n_kept": n_kept,
        "precision": n_found / n_kept if n_kept else None,
        "recall": n_found / n_relevant,
        "f1": 2.0 * n_found / (n_kept + n_relevant),
    }


def _checked(
    probabilities: Any, labels: Any, sources: Any
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[Any]]:
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    source = np.full(p.shape, ONE_SOURCE) if sources is None else np.asarray(sources)
    if p.ndim != 1 or p.size == 0 or not p.shape == y.shape == source.shape:
        raise InvalidInput(
            f"need probabilities, labels and sources of shape (n_pairs,), got {p.shape}, {y.shape}, {source.shape}"
        )
    if not ((p >= 0.0) & (p <= 1.0)).all():  # NaN fails both comparisons
        raise InvalidInput("probabilities must lie in [0, 1]; these look like logits")
    if not ((y == 0.0) | (y == 1.0)).all():
        raise InvalidInput(
            "labels must be 0 or 1; a teacher's probability has to be cut before it can choose a threshold"
        )
    return p, y.astype(bool), source
