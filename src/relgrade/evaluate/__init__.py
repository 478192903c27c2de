"""What a grader is worth: measures with intervals, baselines, and the report; takes arrays, never a model.

Measuring needs numpy alone. The extra `evaluate` brings bm25s for the BM25 baseline, and jinja2 and matplotlib for the
page, each asked for when it is used.
"""

from relgrade.evaluate.evaluation import Evaluation, compare_scores, evaluate_scores
from relgrade.evaluate.intervals import Estimate
from relgrade.evaluate.judgements import Contender, Judgements
from relgrade.evaluate.page import render_page
from relgrade.evaluate.predictions import read_predictions
from relgrade.evaluate.report import Report, ReportSettings, build_report

__all__ = [
    "Contender",
    "Estimate",
    "Evaluation",
    "Judgements",
    "Report",
    "ReportSettings",
    "build_report",
    "compare_scores",
    "evaluate_scores",
    "read_predictions",
    "render_page",
]
