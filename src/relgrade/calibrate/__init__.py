"""From logits to probabilities and from probabilities to thresholds; takes arrays, never a model."""

from relgrade.calibrate.any_relevant import fit_any_relevant
from relgrade.calibrate.arrays import source_weights
from relgrade.calibrate.certify import certify
from relgrade.calibrate.collections import find_collection_points, fit_collections
from relgrade.calibrate.points import FoundPoints, find_points
from relgrade.calibrate.probability import MIN_PAIRS, MIN_QUERIES, apply, fit_calibration
from relgrade.calibrate.scaling import fit_platt
from relgrade.calibrate.shared import require_apart, shared_queries
from relgrade.calibrate.threshold import pick_best_f1

__all__ = [
    "MIN_PAIRS",
    "MIN_QUERIES",
    "FoundPoints",
    "apply",
    "certify",
    "find_collection_points",
    "find_points",
    "fit_any_relevant",
    "fit_calibration",
    "fit_collections",
    "fit_platt",
    "pick_best_f1",
    "require_apart",
    "shared_queries",
    "source_weights",
]
