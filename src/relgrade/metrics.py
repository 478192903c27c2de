"""Measures of a grader, each one a pure function of arrays; they know nothing of models, files or thresholds.

Contract of every function here:
    Inputs: one-dimensional arrays or sequences of one length, row i of each about pair i. `labels` and `is_kept` hold
        0/1 or booleans, `scores` any finite numbers (larger is more relevant), `probabilities` numbers in [0, 1].
    Returns: a finite float. NaN never comes out.
    Raises: InvalidInput when the inputs break the rules above; UndefinedMeasure, a kind of InvalidInput, when they are
        fine and the measure has no value on them (precision when nothing is kept, recall when nothing is relevant).
Order of the pairs never matters, and neither does repeating the whole data, except for `ndcg_at`, which looks at a
fixed number of ranks.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade.errors import InvalidInput, UndefinedMeasure

Floats = NDArray[np.floating[Any]] | Sequence[float]
Bools = NDArray[Any] | Sequence[bool] | Sequence[int] | Sequence[float]
Ids = NDArray[Any] | Sequence[str] | Sequence[int]

# Certainty that turns out wrong costs this much at most: log(1e-15) is where scikit-learn stopped too, until 1.3.
LOG_LOSS_FLOOR = 1e-15


def precision(is_kept: Bools, labels: Bools) -> float:
    """Share of the kept pairs that are relevant: TP / (TP + FP). Undefined when nothing is kept."""
    kept, relevant = _flags(is_kept=is_kept, labels=labels)
    return _share(int((kept & relevant).sum()), int(kept.sum()), "precision", "nothing is kept")


def recall(is_kept: Bools, labels: Bools) -> float:
    """Share of the relevant pairs that are kept: TP / (TP + FN). Undefined when nothing is relevant."""
    kept, relevant = _flags(is_kept=is_kept, labels=labels)
    return _share(int((kept & relevant).sum()), int(relevant.sum()), "recall", "nothing is relevant")


def f1(is_kept: Bools, labels: Bools) -> float:
    """2 TP / (2 TP + FP + FN). 0 when one of precision and recall is 0; undefined when nothing is kept or relevant."""
    kept, relevant = _flags(is_kept=is_kept, labels=labels)
    n_marked = int(kept.sum()) + int(relevant.sum())
    return _share(2 * int((kept & relevant).sum()), n_marked, "F1", "nothing is kept and nothing is relevant")


def accuracy(is_kept: Bools, labels: Bools) -> float:
    """Share of the verdicts that are right. Saying no to everything reaches the share of irrelevant pairs."""
    kept, relevant = _flags(is_kept=is_kept, labels=labels)
    return float((kept == relevant).mean())


def mcc(is_kept: Bools, labels: Bools) -> float:
    """Matthews correlation in [-1, 1] (Matthews 1975). Undefined when verdicts or labels are all the same."""
    kept, relevant = _flags(is_kept=is_kept, labels=labels)
    deviation_kept, deviation_relevant = kept - kept.mean(), relevant - relevant.mean()
    if kept.all() or not kept.any() or relevant.all() or not relevant.any():
        raise UndefinedMeasure("MCC is undefined: the verdicts or the labels are all the same")
    spread = np.sqrt((deviation_kept**2).sum() * (deviation_relevant**2).sum())
    return float(np.clip((deviation_kept * deviation_relevant).sum() / spread, -1.0, 1.0))


def cohen_kappa(first: Bools, second: Bools) -> float:
    """Agreement of two judges beyond chance, in [-1, 1]: (p_o - p_e) / (1 - p_e), Cohen 1960.

    Undefined when both judges say the same one thing throughout: chance alone would agree always (p_e = 1).
    """
    one, two = _flags(first=first, second=second)
    share_one, share_two = float(one.mean()), float(two.mean())
    by_chance = share_one * share_two + (1.0 - share_one) * (1.0 - share_two)
    if (one.all() and two.all()) or not (one.any() or two.any()):
        raise UndefinedMeasure("Cohen's kappa is undefined: both judges gave one and the same label throughout")
    return (float((one == two).mean()) - by_chance) / (1.0 - by_chance)


def average_precision(scores: Floats, labels: Bools) -> float:
    """Area under the precision-recall steps: sum over thresholds of (R_n - R_{n-1}) P_n, no interpolation.

    Pairs with equal scores pass the threshold together, as in `sklearn.metrics.average_precision_score`, so the order
    of ties cannot help. A constant score gives the share of relevant pairs. Undefined when nothing is relevant.
    """
    n_kept, n_relevant = _curve(scores, labels)
    if n_relevant[-1] == 0:
        raise UndefinedMeasure("average precision is undefined: nothing is relevant")
    gained = np.diff(n_relevant, prepend=0) / n_relevant[-1]
    return float((gained * n_relevant / n_kept).sum())


def auroc(scores: Floats, labels: Bools) -> float:
    """Chance that a relevant pair outscores an irrelevant one, ties counting half (Mann-Whitney U / (n_1 n_0)).

    Undefined when the labels are all the same.
    """
    n_kept, n_relevant = _curve(scores, labels)
    n_irrelevant = n_kept - n_relevant
    if n_relevant[-1] == 0 or n_irrelevant[-1] == 0:
        raise UndefinedMeasure("AUROC is undefined: the labels are all the same")
    passed_before = n_relevant - np.diff(n_relevant, prepend=0) / 2.0
    won = (np.diff(n_irrelevant, prepend=0) * passed_before).sum()
    return float(won / (n_relevant[-1] * n_irrelevant[-1]))


def best_f1(scores: Floats, labels: Bools) -> float:
    """The highest F1 that any threshold reaches on these very pairs: an upper bound, never a promise.

    Undefined when nothing is relevant.
    """
    n_kept, n_relevant = _curve(scores, labels)
    if n_relevant[-1] == 0:
        raise UndefinedMeasure("best F1 is undefined: nothing is relevant")
    return float((2.0 * n_relevant / (n_kept + n_relevant[-1])).max())


def brier(probabilities: Floats, labels: Floats) -> float:
    """Mean squared distance of probability and label, in [0, 1] (Brier 1950). Labels may be soft, in [0, 1]."""
    predicted, target = _unit(probabilities=probabilities, labels=labels)
    return float(((predicted - target) ** 2).mean())


def log_loss(probabilities: Floats, labels: Floats) -> float:
    """Mean of -(y log p + (1 - y) log(1 - p)), in nats; p is kept `LOG_LOSS_FLOOR` away from 0 and 1.

    Labels may be soft, in [0, 1].
    """
    predicted, target = _unit(probabilities=probabilities, labels=labels)
    predicted = np.clip(predicted, LOG_LOSS_FLOOR, 1.0 - LOG_LOSS_FLOOR)
    return float(-(target * np.log(predicted) + (1.0 - target) * np.log1p(-predicted)).mean())


def expected_calibration_error(probabilities: Floats, labels: Floats, *, n_bins: int = 15) -> float:
    """Mean over pairs of |mean probability - mean label| of the pair's bin, in [0, 1]; bins hold equal shares of pairs.

    Equal mass, not equal width (Nixon et al. 2019, arXiv:1904.01685, "adaptive" bins): most graders put most pairs near
    0, where bins of equal width would all but vanish. Pairs of one probability share a bin, by their mid-rank, so bins
    are equal only as far as ties allow. The measure is biased upwards when bins are small: about sqrt(p(1-p)/n) a bin.

    Args:
        probabilities: calibrated P(relevant), shape (n_pairs,).
        labels: 0/1 or soft, in [0, 1], shape (n_pairs,).
        n_bins: number of bins, at least 1.
    """
    predicted, target = _unit(probabilities=probabilities, labels=labels)
    if n_bins < 1:
        raise InvalidInput(f"n_bins must be >= 1, got {n_bins}")
    bins = equal_mass_bins(predicted, n_bins=n_bins)
    return float(np.abs(np.bincount(bins, weights=predicted - target, minlength=n_bins)).sum() / predicted.size)


def equal_mass_bins(probabilities: NDArray[np.float64], *, n_bins: int) -> NDArray[np.int64]:
    """The bin, 0 to n_bins - 1, of each probability when bins hold equal shares and ties stay together."""
    _, position, counts = np.unique(probabilities, return_inverse=True, return_counts=True)
    mid_rank = np.cumsum(counts) - counts / 2.0  # (n_distinct,)
    return np.floor(n_bins * mid_rank / probabilities.size).astype(np.int64)[position]


def ndcg_at(scores: Floats, grades: Floats, *, k: int) -> float:
    """Normalised discounted cumulative gain of one query's documents at rank k, in [0, 1].

    Gain is the grade itself and the discount log2(rank + 1) (Jarvelin and Kekalainen 2002), as in
    `sklearn.metrics.ndcg_score`; documents of equal score share the mean of their gains (McSherry and Najork 2008), so
    the order of ties cannot help.

    Args:
        scores: shape (n_documents,).
        grades: human grades >= 0, larger is more relevant, shape (n_documents,).
        k: ranks that count, at least 1.

    Raises:
        UndefinedMeasure: every grade is 0.
    """
    score, grade = _aligned(scores=scores, grades=grades)
    if k < 1 or (grade < 0).any():
        raise InvalidInput(f"ndcg_at needs k >= 1 and grades >= 0, got k={k} and a lowest grade of {grade.min()}")
    if not grade.any():
        raise UndefinedMeasure("nDCG is undefined: no document has a grade above 0")
    discount = 1.0 / np.log2(np.arange(2, score.size + 2))
    discount[k:] = 0.0
    _, position = np.unique(-score, return_inverse=True)  # tie groups, best first
    sums, counts = np.bincount(position, weights=grade), np.bincount(position)
    gain = np.repeat(sums / counts, counts)  # (n_documents,) by rank
    return float((gain * discount).sum() / (np.sort(grade)[::-1] * discount).sum())


def share_of_queries_losing_all(is_kept: Bools, labels: Bools, *, query_ids: Ids) -> float:
    """Of the queries with a relevant document, the share that keeps none of them: the generator is left with nothing.

    Undefined when no query has a relevant document.
    """
    kept, relevant = _flags(is_kept=is_kept, labels=labels)
    query = _queries(query_ids, kept.size)
    n_relevant, n_found = np.bincount(query, weights=relevant), np.bincount(query, weights=relevant & kept)
    n_lost = int(((n_relevant > 0) & (n_found == 0)).sum())
    return _share(n_lost, int((n_relevant > 0).sum()), "share of queries losing all", "nothing is relevant")


def false_keep_rate(is_kept: Bools, is_answerable: Bools, *, query_ids: Ids) -> float:
    """Of the unanswerable queries, the share for which anything at all is kept.

    Args:
        is_kept: shape (n_pairs,).
        is_answerable: of the pair's query, shape (n_pairs,); one query has one value.
        query_ids: shape (n_pairs,).

    Raises:
        InvalidInput: a query is both answerable and not.
        UndefinedMeasure: every query is answerable.
    """
    kept, answerable = _flags(is_kept=is_kept, is_answerable=is_answerable)
    query = _queries(query_ids, kept.size)
    n_pairs, n_answerable = np.bincount(query), np.bincount(query, weights=answerable)
    if ((n_answerable > 0) & (n_answerable < n_pairs)).any():
        raise InvalidInput("a query is marked answerable in one pair and unanswerable in another")
    is_open = n_answerable == 0
    n_kept = np.bincount(query, weights=kept)
    n_false = int((is_open & (n_kept > 0)).sum())
    return _share(n_false, int(is_open.sum()), "false-keep rate", "every query is answerable")


def _share(part: int, whole: int, name: str, reason: str) -> float:
    if whole == 0:
        raise UndefinedMeasure(f"{name} is undefined: {reason}")
    return part / whole


def _curve(scores: Floats, labels: Bools) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs, and relevant pairs, at or above each distinct score, from the highest down: two arrays (n_distinct,)."""
    (score,) = _aligned(scores=scores)
    (relevant,) = _flags(labels=labels)
    if score.size != relevant.size:
        raise InvalidInput(f"need arrays of one length, got scores {score.size}, labels {relevant.size}")
    _, position = np.unique(-score, return_inverse=True)
    n_relevant = np.cumsum(np.bincount(position[relevant], minlength=int(position.max()) + 1))
    return np.cumsum(np.bincount(position)), n_relevant


def _aligned(**arrays: Any) -> list[NDArray[np.float64]]:
    """The arguments as finite float64 arrays of one length, or InvalidInput that names the first that is not."""
    checked: dict[str, NDArray[np.float64]] = {}
    for name, values in arrays.items():
        try:
            checked[name] = np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"{name} must be numbers, one a pair: {error}") from error
        if checked[name].ndim != 1 or checked[name].size == 0:
            raise InvalidInput(f"{name} must have shape (n_pairs,) with n_pairs >= 1, got {checked[name].shape}")
        if not np.isfinite(checked[name]).all():
            raise InvalidInput(f"{name} holds NaN or infinity at row {int((~np.isfinite(checked[name])).argmax())}")
    if len({array.size for array in checked.values()}) > 1:
        sizes = ", ".join(f"{name} {array.size}" for name, array in checked.items())
        raise InvalidInput(f"need arrays of one length, got {sizes}")
    return list(checked.values())


def _unit(**arrays: Any) -> list[NDArray[np.float64]]:
    aligned = _aligned(**arrays)
    for name, values in zip(arrays, aligned, strict=True):
        if values.min() < 0.0 or values.max() > 1.0:
            raise InvalidInput(
                f"{name} must lie in [0, 1], got {values.min()} to {values.max()}; these look like logits"
            )
    return aligned


def _flags(**arrays: Any) -> list[NDArray[np.bool_]]:
    aligned = _aligned(**arrays)
    for name, values in zip(arrays, aligned, strict=True):
        is_odd = (values != 0.0) & (values != 1.0)
        if is_odd.any():
            raise InvalidInput(f"{name} must hold 0 or 1, got {values[int(is_odd.argmax())]}")
    return [values.astype(bool) for values in aligned]


def _queries(query_ids: Ids, n_pairs: int) -> NDArray[np.int64]:
    """Index of each pair's query, 0 to n_queries - 1."""
    ids = np.asarray(query_ids)
    if ids.shape != (n_pairs,):
        raise InvalidInput(f"query_ids must have shape ({n_pairs},), got {ids.shape}")
    return np.unique(ids, return_inverse=True)[1]
