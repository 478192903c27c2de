"""Every measure of a grader on one collection, with intervals. Takes a finished threshold and never chooses one."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade import metrics
from relgrade.errors import InvalidInput, UndefinedMeasure
from relgrade.evaluate.intervals import Estimate, draw_queries, estimate, ranking_draws, ratio_draws

N_BINS = 15

Values = NDArray[Any] | Sequence[float]
Ids = NDArray[Any] | Sequence[str]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a grader reached on one collection; a pair is kept when its probability (else score) >= threshold."""

    threshold: float
    n_queries: int
    n_pairs: int
    n_relevant: int
    n_unanswerable: int  # queries
    n_draws: int
    seed: int
    average_precision: Estimate
    auroc: Estimate
    precision: Estimate
    recall: Estimate
    f1: Estimate
    best_f1: Estimate  # threshold chosen on these very pairs: information, not a result
    losing_all: Estimate  # of queries with a relevant document, the share that keeps none
    false_keep: Estimate  # of unanswerable queries, the share that keeps anything
    brier: Estimate | None  # None without probabilities, as the next two
    calibration_error: Estimate | None  # equal-mass bins
    log_loss: Estimate | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; an estimate is a mapping of value, low, high, n_queries and n_pairs."""
        return asdict(self)


def evaluate_scores(
    scores: Values,
    labels: Values,
    query_ids: Ids,
    *,
    threshold: float,
    probabilities: Values | None = None,
    is_answerable: NDArray[Any] | Sequence[bool] | None = None,
    n_draws: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Measure verdicts, ranking and confidence, with 95 % intervals from drawing queries.

    Args:
        scores: finite, larger is more relevant, shape (n_pairs,).
        labels: 0 or 1, shape (n_pairs,).
        query_ids: shape (n_pairs,).
        threshold: chosen on other queries; a pair is kept at or above it.
        probabilities: calibrated P(relevant), shape (n_pairs,); the threshold then cuts these, else the scores.
        is_answerable: of the pair's query, shape (n_pairs,); None: a query without a relevant pair is unanswerable.
        n_draws: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        InvalidInput: shapes differ, a number is not finite, a label is neither 0 nor 1, a probability is outside
            [0, 1], or a query is answerable in one pair and not in another, or unanswerable with a relevant pair.
    """
    score = np.asarray(scores, dtype=np.float64)
    probability = None if probabilities is None else np.asarray(probabilities, dtype=np.float64)
    data = _Data.check(score, labels, query_ids, is_answerable)
    if probability is not None and probability.shape != score.shape:
        raise InvalidInput(f"probabilities must have shape {score.shape}, got {probability.shape}")
    if not np.isfinite(threshold):
        raise InvalidInput(f"threshold must be finite, got {threshold}")
    counts = draw_queries(data.n_queries, n_draws=n_draws, seed=seed)
    ranking = ranking_draws(counts, score, data.relevant, data.query)
    verdicts = _verdicts(data, (score if probability is None else probability) >= threshold, counts)
    confidence = {} if probability is None else _confidence(data, probability, counts)
    return Evaluation(
        threshold=float(threshold),
        n_queries=data.n_queries,
        n_pairs=data.query.size,
        n_relevant=int(data.relevant.sum()),
        n_unanswerable=int((~data.is_answerable).sum()),
        n_draws=n_draws,
        seed=seed,
        average_precision=data.estimate(_defined(metrics.average_precision, score, data), ranking.average_precision),
        auroc=data.estimate(_defined(metrics.auroc, score, data), ranking.auroc),
        precision=verdicts["precision"],
        recall=verdicts["recall"],
        f1=verdicts["f1"],
        best_f1=data.estimate(_defined(metrics.best_f1, score, data), ranking.best_f1),
        losing_all=verdicts["losing_all"],
        false_keep=verdicts["false_keep"],
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
    first, second = np.asarray(scores, dtype=np.float64), np.asarray(other_scores, dtype=np.float64)
    data = _Data.check(first, labels, query_ids, None)
    _Data.check(second, labels, query_ids, None)
    counts = draw_queries(data.n_queries, n_draws=n_draws, seed=seed)
    draws = [ranking_draws(counts, each, data.relevant, data.query).average_precision for each in (first, second)]
    values = [_defined(metrics.average_precision, each, data) for each in (first, second)]
    difference = None if values[0] is None or values[1] is None else values[0] - values[1]
    return data.estimate(difference, draws[0] - draws[1])


def average_precision_draws(
    scores: Values, labels: Values, query_ids: Ids, *, n_draws: int = 1000, seed: int = 0
) -> Floats:
    """Average precision of each draw of the queries, shape (n_draws,), for means over collections.

    The same queries and seed give the same draws whatever the scores. NaN, as nowhere else, marks a draw without a
    relevant pair.
    """
    score = np.asarray(scores, dtype=np.float64)
    data = _Data.check(score, labels, query_ids, None)
    counts = draw_queries(data.n_queries, n_draws=n_draws, seed=seed)
    return ranking_draws(counts, score, data.relevant, data.query).average_precision


@dataclass(frozen=True, slots=True)
class _Data:
    """The checked labels of a collection."""

    relevant: NDArray[np.bool_]  # (n_pairs,)
    query: NDArray[np.int64]  # (n_pairs,) index of the query
    is_answerable: NDArray[np.bool_]  # (n_queries,)
    n_relevant: Floats  # (n_queries,) pairs

    @property
    def n_queries(self) -> int:
        return self.is_answerable.size

    def sums(self, values: NDArray[Any]) -> Floats:
        """Sum of the values over each query's pairs, shape (n_queries,)."""
        return np.bincount(self.query, weights=values, minlength=self.n_queries).astype(np.float64)

    def estimate(self, value: float | None, draws: Floats) -> Estimate:
        """An estimate that rests on every query."""
        return estimate(value, draws, n_queries=self.n_queries, n_pairs=self.query.size)

    def ratio(self, counts: Floats, part: Floats, whole: Floats, *, of: NDArray[np.bool_] | None = None) -> Estimate:
        """sum(part) / sum(whole), each given per query; `of` marks the queries it rests on, None all."""
        total = float(whole.sum())
        rests_on = np.ones(self.n_queries, dtype=bool) if of is None else of
        return estimate(
            float(part.sum()) / total if total > 0 else None,
            ratio_draws(counts, part, whole),
            n_queries=int(rests_on.sum()),
            n_pairs=int(rests_on[self.query].sum()),
        )

    @classmethod
    def check(cls, scores: Floats, labels: Values, query_ids: Ids, is_answerable: Any) -> "_Data":
        label, ids = np.asarray(labels, dtype=np.float64), np.asarray(query_ids)
        if scores.ndim != 1 or scores.size == 0 or not scores.shape == label.shape == ids.shape:
            raise InvalidInput(
                f"need scores, labels and query_ids of shape (n_pairs,), got {scores.shape}, {label.shape}, {ids.shape}"
            )
        if not np.isfinite(scores).all():
            raise InvalidInput("a score is NaN or infinite; a pair without a verdict must be left out and reported")
        if not ((label == 0.0) | (label == 1.0)).all():
            raise InvalidInput("labels must be 0 or 1")
        query = np.unique(ids, return_inverse=True)[1]
        n_relevant = np.bincount(query, weights=label).astype(np.float64)
        if is_answerable is None:
            return cls(label.astype(bool), query, n_relevant > 0, n_relevant)
        flags = np.asarray(is_answerable, dtype=np.float64)
        if flags.shape != scores.shape:
            raise InvalidInput(f"is_answerable must have shape {scores.shape}, got {flags.shape}")
        share = np.bincount(query, weights=flags) / np.bincount(query)
        if ((share != 0.0) & (share != 1.0)).any():
            raise InvalidInput("a query is marked answerable in one pair and unanswerable in another")
        if ((share == 0.0) & (n_relevant > 0)).any():
            raise InvalidInput("a query is marked unanswerable and has a relevant pair")
        return cls(label.astype(bool), query, share == 1.0, n_relevant)


def _verdicts(data: _Data, is_kept: NDArray[np.bool_], counts: Floats) -> dict[str, Estimate]:
    n_kept, n_found = data.sums(is_kept), data.sums(is_kept & data.relevant)
    has_relevant, is_open = data.n_relevant > 0, ~data.is_answerable
    is_lost, is_false_keep = has_relevant & (n_found == 0), is_open & (n_kept > 0)
    return {
        "precision": data.ratio(counts, n_found, n_kept),
        "recall": data.ratio(counts, n_found, data.n_relevant, of=has_relevant),
        "f1": data.ratio(counts, 2.0 * n_found, n_kept + data.n_relevant),
        "losing_all": data.ratio(counts, is_lost.astype(float), has_relevant.astype(float), of=has_relevant),
        "false_keep": data.ratio(counts, is_false_keep.astype(float), is_open.astype(float), of=is_open),
    }


def _confidence(data: _Data, probability: Floats, counts: Floats) -> dict[str, Estimate]:
    label = data.relevant.astype(np.float64)
    error = metrics.expected_calibration_error(probability, label, n_bins=N_BINS)
    # The bins stay those of all pairs: re-cutting them for each draw costs a sort and changes next to nothing.
    cell = data.query * N_BINS + metrics.equal_mass_bins(probability, n_bins=N_BINS)
    gaps = np.bincount(cell, weights=probability - label, minlength=data.n_queries * N_BINS)
    n_pairs = data.sums(np.ones(label.size))
    error_draws = np.abs(counts @ gaps.reshape(data.n_queries, N_BINS)).sum(axis=1) / (counts @ n_pairs)
    clipped = np.clip(probability, metrics.LOG_LOSS_FLOOR, 1.0 - metrics.LOG_LOSS_FLOOR)
    losses = -np.where(data.relevant, np.log(clipped), np.log1p(-clipped))
    return {
        "brier": data.ratio(counts, data.sums((probability - label) ** 2), n_pairs),
        "calibration_error": data.estimate(error, error_draws),
        "log_loss": data.ratio(counts, data.sums(losses), n_pairs),
    }


def _defined(measure: Callable[[Any, Any], float], scores: Floats, data: _Data) -> float | None:
    try:
        return measure(scores, data.relevant)
    except UndefinedMeasure:
        return None
