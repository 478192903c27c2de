"""What a grader is worth: measures with intervals, and the baselines it has to beat; takes arrays, never a model."""

from relgrade.evaluate.intervals import Estimate
from relgrade.evaluate.report import Evaluation, compare_scores, evaluate_scores

__all__ = ["Estimate", "Evaluation", "compare_scores", "evaluate_scores"]
