"""The labels most likely wrong: where a student that has not seen a label would bet against it.

The student's word is out of fold: a logistic regression over words, and over a student's logits where there are some,
fitted on the teacher's labels of other queries. Two experts then speak about each pair, the teacher and the student,
taken as independent given the truth: log-odds(relevant) = log-odds(teacher) + log-odds(student) - log-odds(base rate).
The base rate plays the part of confident learning's class thresholds (Northcutt, Jiang and Chuang 2021, "Confident
learning", JAIR 70), whose count of likely errors is reported beside. What it cannot see: errors that the student
shares, which a student fitted on the teacher's labels learns to share when they are systematic.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relgrade.audit.cases import disagreement_of, query_index
from relgrade.audit.lexical import lexical_features
from relgrade.errors import InvalidInput
from relgrade.probability import sigmoid
from relgrade.records import Pair

N_FOLDS = 5
RIDGE = 1.0  # on standardised features, the intercept left free
TRUST = 0.9  # of a teacher that says 0 or 1: nobody is always right, and infinite log-odds would hear no objection
_MAX_STEPS = 50


@dataclass(frozen=True, slots=True)
class Suspicion:
    """How likely each label is wrong, as far as the student can tell."""

    wrong: NDArray[np.float64]  # P(the teacher's verdict is wrong) in [0, 1], shape (n_pairs,)
    student: NDArray[np.float64]  # out-of-fold P(the teacher says relevant), shape (n_pairs,)
    n_likely_wrong: int  # pairs off the diagonal of the confident joint
    evidence: str  # what the student read, in words

    @property
    def order(self) -> NDArray[np.int64]:
        """Indices of the pairs, the most suspicious first."""
        return np.argsort(-self.wrong, kind="stable")


def suspect_labels(pairs: Sequence[Pair], *, logits: NDArray[np.float64] | None = None, seed: int = 0) -> Suspicion:
    """Hold each label against a student that has not seen its query.

    Args:
        pairs: labelled, of at least two queries.
        logits: of a student, from `relgrade score`, shape (n_pairs,); None: words alone.
        seed: of the folds.

    Raises:
        InvalidInput: a pair without a label, one query, labels that are all on one side, or logits not finite.
    """
    if any(pair.label is None for pair in pairs) or not pairs:
        raise InvalidInput("suspects are looked for among labelled pairs; leave the others out")
    query = query_index(pairs)
    teacher = np.asarray([pair.label for pair in pairs], dtype=np.float64)
    verdict = teacher >= 0.5
    if query.max() < 1 or verdict.all() or not verdict.any():
        raise InvalidInput("suspects need two queries at least, and both relevant and irrelevant labels")
    features = lexical_features(pairs, query)
    evidence = f"a logistic regression over {features.shape[1]} features of words"
    if logits is not None:
        if logits.shape != teacher.shape or not np.isfinite(logits).all():
            raise InvalidInput(f"one finite logit a pair was expected, got shape {logits.shape} for {len(pairs)} pairs")
        features = np.column_stack([features, logits])
        evidence += " and the student's logit"
    student = out_of_fold(features, teacher, query, seed=seed)
    wrong = _chance_of_error(pairs, teacher, student)
    evidence += f", out of fold by query ({N_FOLDS} folds)"
    return Suspicion(wrong, student, confident_errors(student, verdict), evidence)


def out_of_fold(
    features: NDArray[np.float64], labels: NDArray[np.float64], query: NDArray[np.int64], *, seed: int
) -> NDArray[np.float64]:
    """P(label = 1) of each pair by a logistic regression fitted on the other folds' queries.

    Args:
        features: finite, shape (n_pairs, n_features).
        labels: in [0, 1], shape (n_pairs,).
        query: index of the pair's query, shape (n_pairs,).
        seed: of the folds.

    Returns:
        Inside (0, 1), shape (n_pairs,).
    """
    n_queries = int(query.max()) + 1
    fold = (np.random.default_rng(seed).permutation(n_queries) % min(N_FOLDS, n_queries))[query]
    predicted = np.empty(labels.size)
    for each in range(int(fold.max()) + 1):
        is_out = fold == each
        mean, spread = features[~is_out].mean(axis=0), features[~is_out].std(axis=0)
        scaled = (features - mean) / np.where(spread > 1e-9, spread, 1.0)
        design = np.column_stack([np.ones(labels.size), np.clip(scaled, -8.0, 8.0)])
        predicted[is_out] = sigmoid(design[is_out] @ _fit_logistic(design[~is_out], labels[~is_out]))
    return np.clip(predicted, 1e-6, 1.0 - 1e-6)


def confident_errors(student: NDArray[np.float64], verdict: NDArray[np.bool_]) -> int:
    """Labels off the diagonal of the confident joint (Northcutt et al. 2021, equation 1).

    A pair counts for the class whose mean self-confidence it reaches; where it reaches both, for the likelier one.

    Args:
        student: out-of-fold P(relevant), shape (n_pairs,).
        verdict: the teacher's, both classes among them, shape (n_pairs,).
    """
    is_one = student >= student[verdict].mean()
    is_zero = (1.0 - student) >= (1.0 - student[~verdict]).mean()
    both = is_one & is_zero
    is_one, is_zero = is_one & (~both | (student >= 0.5)), is_zero & (~both | (student < 0.5))
    return int((is_one & ~verdict).sum() + (is_zero & verdict).sum())


def _chance_of_error(
    pairs: Sequence[Pair], teacher: NDArray[np.float64], student: NDArray[np.float64]
) -> NDArray[np.float64]:
    disagreement = np.asarray([disagreement_of(pair) or 0.0 for pair in pairs])
    # Half the teachers against the other half is a coin, however sure each was.
    most = np.minimum(TRUST, 1.0 - disagreement / 2.0)
    trusted = np.clip(teacher, 1.0 - most, most)
    # Which side the verdict is on stays known where the probability itself is all but even.
    base = np.clip(teacher.mean(), 1e-3, 1.0 - 1e-3)
    relevant = sigmoid(_log_odds(trusted) + _log_odds(student) - float(_log_odds(np.asarray(base))))
    return np.where(teacher >= 0.5, 1.0 - relevant, relevant)


def _log_odds(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log(values) - np.log1p(-values)


def _fit_logistic(design: NDArray[np.float64], labels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Newton's method on the log loss of soft labels plus `RIDGE` / 2 |weights|^2; column 0 is the intercept."""
    penalty = np.full(design.shape[1], RIDGE)
    penalty[0] = 1e-6
    weights = np.zeros(design.shape[1])
    for _ in range(_MAX_STEPS):
        probability = sigmoid(design @ weights)
        gradient = design.T @ (probability - labels) + penalty * weights
        curvature = (design * (probability * (1.0 - probability))[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        size = float(np.abs(step).max())
        weights = weights - step * min(1.0, 2.0 / max(size, 1e-12))  # far from the optimum Newton overshoots
        if size < 1e-8:
            break
    return weights
