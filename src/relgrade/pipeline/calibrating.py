"""Step `calibrate`: scores of the calibration queries become a probability and an operating point."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from relgrade.calibrate import apply, fit_platt, pick_best_f1, source_weights
from relgrade.errors import InvalidInput
from relgrade.pipeline.ledger import read_json, write_json
from relgrade.records import Calibration, OperatingPoint, Promise, Score

POINT_NAME = "balanced"
_CLOSEST = 1e-9  # to 0 and to 1 that a threshold is taken for; farther out its logit has no use


def calibrate_scores(scores: Sequence[Score]) -> tuple[Calibration, OperatingPoint]:
    """Fit the probability, choose the threshold of the best F1; each source counts the same in both.

    Args:
        scores: of calibration queries; those without a label take no part.

    Raises:
        InvalidInput: no labels.
        UndefinedMeasure: nothing is relevant.
    """
    labelled = [score for score in scores if score.label is not None]
    if not labelled:
        raise InvalidInput(f"calibration needs labelled scores, got none among {len(scores)}")
    logits = [score.logit for score in labelled]
    labels = [score.label or 0.0 for score in labelled]
    sources = [score.source or "" for score in labelled]
    query_ids = [f"{score.source}\t{score.query_id}" for score in labelled]
    calibration = fit_platt(logits, labels, weights=source_weights(sources), query_ids=query_ids)
    point = pick_best_f1(
        apply(calibration, logits),
        [float(label >= 0.5) for label in labels],
        sources=sources,
        query_ids=query_ids,
        name=POINT_NAME,
    )
    return calibration, point


def threshold_logit(calibration: Calibration, point: OperatingPoint) -> float:
    """The logit, before calibration, at which the probability is the threshold."""
    threshold = min(max(point.threshold, _CLOSEST), 1.0 - _CLOSEST)
    return (math.log(threshold / (1.0 - threshold)) - calibration.intercept) / calibration.slope


def write_calibration(path: Path, calibration: Calibration, points: Sequence[OperatingPoint]) -> None:
    """Write both as JSON."""
    write_json(path, {"calibration": asdict(calibration), "operating_points": [asdict(point) for point in points]})


def read_calibration(path: Path) -> tuple[Calibration, tuple[OperatingPoint, ...]]:
    """Inverse of `write_calibration`.

    Raises:
        InvalidInput: not such a file, or without an operating point.
    """
    content: Mapping[str, Any] = read_json(path)
    try:
        points = tuple(
            OperatingPoint(**{**entry, "promise": Promise(**entry["promise"]) if entry.get("promise") else None})
            for entry in content["operating_points"]
        )
        calibration = Calibration(**content["calibration"])
    except (KeyError, TypeError) as error:
        raise InvalidInput(f"{path}: a calibration with operating points was expected: {error!r}") from error
    if not points:
        raise InvalidInput(f"{path}: no operating point in it")
    return calibration, points


def describe_calibration(calibration: Calibration, point: OperatingPoint) -> list[str]:
    """What was found, as lines of text."""
    evidence = point.evidence
    lines = [
        f"probability = sigmoid({calibration.slope:.4g} logit {calibration.intercept:+.4g}), log loss "
        f"{calibration.evidence.get('log_loss_before', math.nan):.4f} -> "
        f"{calibration.evidence.get('log_loss_after', math.nan):.4f}",
        f"{point.name}: threshold {point.threshold:.4f}, macro F1 {evidence.get('macro_f1', math.nan):.4f} on "
        f"{evidence.get('n_queries')} queries (same pairs that chose it: optimistic)",
    ]
    fallback = calibration.evidence.get("fallback")
    return [*lines, *([f"! calibration fell back to {fallback}"] if fallback else [])]
