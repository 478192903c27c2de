"""Every measure of a grader on one collection, with intervals. Takes a finished threshold and never chooses one."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade import metrics
from relgrade.errors import InvalidInput, UndefinedMeasure
from relgrade.evaluate.confidence import confidence_estimates
from relgrade.evaluate.intervals import Estimate, draw_queries, ranking_draws
from relgrade.evaluate.rows import NO_QUERIES, Floats, Rows, check_probabilities, check_scores, check_verdicts
from relgrade.evaluate.verdicts import no_verdicts, verdict_estimates

NDCG_RANKS = 10
NO_SCORES = "there are verdicts and no scores"

Values = NDArray[Any] | Sequence[float]
Ids = NDArray[Any] | Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a grader reached on one collection; a pair is kept when its probability (else score) >= threshold.

    An estimate without a value says why in its `reason`.
    """

    threshold: float | None  # None: verdicts came from elsewhere, or there are none
    n_queries: int  # or blocks, where rows carry no query ids
    n_pairs: int
    n_relevant: int
    n_unanswerable: int  # queries
    n_draws: int
    seed: int
    average_precision: Estimate
    auroc: Estimate
    ndcg_at_10: Estimate  # mean over queries with a relevant document
    precision: Estimate
    recall: Estimate
    f1: Estimate
    accuracy: Estimate
    mcc: Estimate
    kappa: Estimate
    best_f1: Estimate  # threshold chosen on these very pairs: information, not a result
    losing_all: Estimate  # of queries with a relevant document, the share that keeps none
    false_keep: Estimate  # of unanswerable queries, the share that keeps anything
    brier: Estimate | None  # None without probabilities, as the next two
    calibration_error: Estimate | None  # equal-mass bins
    log_loss: Estimate | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; an estimate is a mapping of value, low, high, n_queries, n_pairs and reason."""
        return asdict(self)


def evaluate_scores(
    scores: Values,
    labels: Values,
    query_ids: Ids,
    *,
    threshold: float | None,
    probabilities: Values | None = None,
    is_kept: Values | None = None,
    grades: Values | None = None,
    is_answerable: NDArray[Any] | Sequence[bool] | None = None,
    n_draws: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Measure verdicts, ranking and confidence, with 95 % intervals from drawing queries.

    Args:
        scores: finite, larger is more relevant, shape (n_pairs,).
        labels: 0 or 1, shape (n_pairs,).
        query_ids: shape (n_pairs,).
        threshold: chosen on other queries; a pair is kept at or above it. None: measures of verdicts have no value,
            unless `is_kept` has the verdicts.
        probabilities: calibrated P(relevant), shape (n_pairs,); the threshold then cuts these, else the scores.
        is_kept: verdicts of a grader with several thresholds, shape (n_pairs,); None: the threshold decides.
        grades: gains of nDCG >= 0, shape (n_pairs,); None takes the labels.
        is_answerable: of the pair's query, shape (n_pairs,); None: a query without a relevant pair is unanswerable.
        n_draws: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        InvalidInput: shapes differ, a number is not finite, a label is neither 0 nor 1, a probability is outside
            [0, 1], or a query is answerable in one pair and not in another, or unanswerable with a relevant pair.
    """
    rows = Rows.check(labels, query_ids, is_answerable=is_answerable)
    if threshold is not None and not math.isfinite(threshold):
        raise InvalidInput(f"threshold must be finite, got {threshold}")
    score = check_scores(scores, rows)
    probability = None if probabilities is None else check_probabilities(probabilities, rows)
    kept = None if is_kept is None else check_verdicts(is_kept, rows)
    if kept is None and threshold is not None:
        kept = (score if probability is None else probability) >= threshold
    return evaluate_rows(
        rows,
        scores=score,
        probabilities=probability,
        is_kept=kept,
        grades=None if grades is None else check_scores(grades, rows, name="grades"),
        threshold=threshold,
        n_draws=n_draws,
        seed=seed,
    )


def evaluate_rows(
    rows: Rows,
    *,
    scores: Floats | None,
    probabilities: Floats | None,
    is_kept: NDArray[np.bool_] | None,
    grades: Floats | None = None,
    threshold: float | None = None,
    n_draws: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """The same for rows and arrays that are checked already; what is None is not measured."""
    counts = draw_queries(rows.n_queries, n_draws=n_draws, seed=seed)
    confidence = {} if probabilities is None else confidence_estimates(rows, probabilities, counts)
    verdicts = (
        no_verdicts(rows, "no threshold was chosen for it")
        if is_kept is None
        else verdict_estimates(rows, is_kept, counts)
    )
    return Evaluation(
        threshold=None if threshold is None else float(threshold),
        n_queries=rows.n_queries,
        n_pairs=rows.n_pairs,
        n_relevant=int(rows.relevant.sum()),
        n_unanswerable=int((~rows.is_answerable).sum()) if rows.is_by_query else 0,
        n_draws=n_draws,
        seed=seed,
        **_ranking(rows, scores, grades, counts),
        **verdicts,
        brier=confidence.get("brier"),
        calibration_error=confidence.get("calibration_error"),
        log_loss=confidence.get("log_loss"),
    )


def compare_scores(
    scores: Values, other_scores: Values, labels: Values, query_ids: Ids, *, n_draws: int = 1000, seed: int = 0
) -> Estimate:
    """Average precision of `scores` minus that of `other_scores` on the same pairs, both measured on the same draws.

    Args:
        scores: shape (n_pairs,).
        other_scores: shape (n_pairs,).
        labels: 0 or 1, shape (n_pairs,).
        query_ids: shape (n_pairs,).
        n_draws: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        value None when nothing is relevant.
    """
    rows = Rows.check(labels, query_ids)
    first, second = check_scores(scores, rows), check_scores(other_scores, rows, name="other_scores")
    counts = draw_queries(rows.n_queries, n_draws=n_draws, seed=seed)
    draws = [ranking_draws(counts, each, rows.relevant, rows.query).average_precision for each in (first, second)]
    try:
        values = [metrics.average_precision(each, rows.relevant) for each in (first, second)]
    except UndefinedMeasure as error:
        return rows.estimate(None, reason=str(error))
    return rows.estimate(values[0] - values[1], draws[0] - draws[1])


def average_precision_draws(
    scores: Values, labels: Values, query_ids: Ids, *, n_draws: int = 1000, seed: int = 0
) -> Floats:
    """Average precision of each draw of the queries, shape (n_draws,), for means over collections.

    The same queries and seed give the same draws whatever the scores. NaN, as nowhere else, marks a draw without a
    relevant pair.
    """
    rows = Rows.check(labels, query_ids)
    counts = draw_queries(rows.n_queries, n_draws=n_draws, seed=seed)
    return ranking_draws(counts, check_scores(scores, rows), rows.relevant, rows.query).average_precision


def _ranking(rows: Rows, scores: Floats | None, grades: Floats | None, counts: Floats) -> dict[str, Estimate]:
    if scores is None:
        names = ("average_precision", "auroc", "ndcg_at_10", "best_f1")
        return dict.fromkeys(names, rows.estimate(None, reason=NO_SCORES))
    draws = ranking_draws(counts, scores, rows.relevant, rows.query)

    def defined(measure: Callable[[Any, Any], float], drawn: Floats) -> Estimate:
        try:
            return rows.estimate(measure(scores, rows.relevant), drawn)
        except UndefinedMeasure as error:
            return rows.estimate(None, reason=str(error))

    return {
        "average_precision": defined(metrics.average_precision, draws.average_precision),
        "auroc": defined(metrics.auroc, draws.auroc),
        "ndcg_at_10": _ndcg(rows, scores, rows.relevant.astype(float) if grades is None else grades, counts),
        "best_f1": defined(metrics.best_f1, draws.best_f1),
    }


def _ndcg(rows: Rows, scores: Floats, grades: Floats, counts: Floats) -> Estimate:
    """Mean over the queries that have a document with a grade above 0."""
    if not rows.is_by_query:
        return rows.estimate(None, reason=NO_QUERIES)
    order = np.argsort(rows.query, kind="stable")
    ends = np.cumsum(np.bincount(rows.query, minlength=rows.n_queries))[:-1]
    lists = zip(np.split(scores[order], ends), np.split(grades[order], ends), strict=True)
    values, is_graded = np.zeros(rows.n_queries), np.zeros(rows.n_queries, dtype=bool)
    for query, (score, grade) in enumerate(lists):
        if grade.any():
            values[query], is_graded[query] = metrics.ndcg_at(score, grade, k=NDCG_RANKS), True
    return rows.ratio(counts, values, is_graded.astype(float), of=is_graded, reason="no document has a grade above 0")
