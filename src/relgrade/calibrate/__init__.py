"""From logits to probabilities and from probabilities to a threshold; takes arrays, never a model."""

from relgrade.calibrate.probability import apply, fit_platt, source_weights
from relgrade.calibrate.threshold import pick_best_f1

__all__ = ["apply", "fit_platt", "pick_best_f1", "source_weights"]
