"""How the finished grader does on queries that neither trained nor calibrated it, by source; it reads scores alone."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from relgrade.errors import UndefinedMeasure
from relgrade.metrics import average_precision, precision, recall
from relgrade.probability import calibrated_probability
from relgrade.records import Calibration, OperatingPoint, Score


def measure_scores(
    scores: Sequence[Score], calibration: Calibration, point: OperatingPoint
) -> dict[str, dict[str, Any]]:
    """Average precision, and precision and recall at the threshold, of each source.

    Args:
        scores: those without a label take no part.
        calibration: of the bundle.
        point: of the bundle.

    Returns:
        Source -> counts and measures; a measure without a value on these pairs is None.
    """
    by_source: dict[str, list[Score]] = {}
    for score in scores:
        if score.label is not None:
            by_source.setdefault(score.source or "pairs", []).append(score)
    return {source: _measure(members, calibration, point) for source, members in sorted(by_source.items())}


def _measure(scores: Sequence[Score], calibration: Calibration, point: OperatingPoint) -> dict[str, Any]:
    logits = np.array([score.logit for score in scores])
    labels = np.array([(score.label or 0.0) >= 0.5 for score in scores])
    is_kept = calibrated_probability(calibration, logits) >= point.threshold
    measured: dict[str, Any] = {
        "n_queries": len({score.query_id for score in scores}),
        "n_pairs": len(scores),
        "n_relevant": int(labels.sum()),
    }
    measures: dict[str, Callable[[], float]] = {
        "average_precision": lambda: average_precision(logits, labels),
        "precision": lambda: precision(is_kept, labels),
        "recall": lambda: recall(is_kept, labels),
    }
    for name, measure in measures.items():
        try:
            measured[name] = measure()
        except UndefinedMeasure:
            measured[name] = None
    return measured
