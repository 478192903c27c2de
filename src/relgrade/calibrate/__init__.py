"""From logits to probabilities and from probabilities to thresholds; takes arrays, never a model."""

from relgrade.calibrate.arrays import source_weights
from relgrade.calibrate.certify import certify
from relgrade.calibrate.probability import apply, fit_calibration
from relgrade.calibrate.scaling import fit_platt
from relgrade.calibrate.threshold import pick_best_f1

__all__ = ["apply", "certify", "fit_calibration", "fit_platt", "pick_best_f1", "source_weights"]
