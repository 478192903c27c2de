"""The probability that a list holds something relevant at all: for "nothing here answers you".

It is calibrated on twins: the documents of a query, and the same without its relevant ones. That is the hard case: what
is left is what the retriever found near the subject.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade.calibrate.arrays import Floats, Ids, Labelled, check_labelled
from relgrade.calibrate.logistic import fit_logistic
from relgrade.calibrate.selection import choose, folds_of, reliability
from relgrade.errors import InvalidInput
from relgrade.metrics import auroc
from relgrade.probability import LIST_FEATURES, list_features
from relgrade.records import ListCalibration

MIN_LISTS = 20  # of each kind
RIDGE = 1.0  # pull of each coefficient towards 0, in lists, when features have unit variance
_FLOOR_SHARE = 0.01  # of the pairs lie below the floor: one absurdly low logit says no more than a low one
_COLUMNS = {"best": (0,), "all": (0, 1, 2, 3)}  # the simplest first


@dataclass(frozen=True, slots=True)
class _Lists:
    """Lists of documents, present and absent ones."""

    features: NDArray[np.float64]  # (n_lists, 4)
    data: Labelled  # logits: the best of each list; labels: 1 where something is relevant; query: whose list it is


def fit_any_relevant(
    logits: Floats,
    labels: NDArray[Any] | Sequence[float],
    *,
    query_ids: Ids,
    answerable: float = 0.5,
    seed: int = 0,
) -> ListCalibration:
    """A logistic regression on the best logit, or on four features of a list, whichever grouped cross-validation says.

    A query with relevant and other documents gives two lists: the irrelevant ones alone, and as many documents with the
    relevant among them. Both have one length, since otherwise the shorter list would give the answer away. A query
    without a relevant document gives its whole list. A query of relevant documents alone has no twin and takes no part.

    Args:
        logits: raw, finite, shape (n_pairs,).
        labels: 0 or 1, shape (n_pairs,).
        query_ids: shape (n_pairs,).
        answerable: share of queries with a relevant document where the grader works, in (0, 1); the lists are weighed
            to it, since calibration queries say nothing about it.
        seed: of the folds, and of which documents fill up a list.

    Raises:
        InvalidInput: bad arrays, a share out of range, or fewer than 20 lists with or without something relevant.
    """
    if not 0.0 < answerable < 1.0:
        raise InvalidInput(f"answerable is the share of queries with a relevant document, got {answerable!r}")
    pairs = check_labelled(logits, labels, weights=None, query_ids=query_ids)
    if not ((pairs.labels == 0.0) | (pairs.labels == 1.0)).all():
        raise InvalidInput("labels must be 0 or 1; cut graded labels first")
    floor = float(np.quantile(pairs.logits, _FLOOR_SHARE))
    lists = _make_lists(pairs, floor=floor, answerable=answerable, seed=seed)
    data, folds = lists.data, folds_of(lists.data, seed=seed)
    held_out = {name: np.empty(data.labels.size) for name in _COLUMNS}
    for test in folds:
        train = np.setdiff1d(np.arange(data.labels.size), test)
        for name, columns in _COLUMNS.items():
            weights = _fit(lists.features[train], data.take(train), columns)
            held_out[name][test] = lists.features[test] @ weights[:-1] + weights[-1]
    choice = choose(held_out, data)
    weights = _fit(lists.features, data, _COLUMNS[choice.name])
    evidence = {
        "n_queries": data.n_queries,
        "n_lists": int(data.labels.size),
        "n_with_relevant": int(data.labels.sum()),
        "answerable": float(answerable),
        "cross_validation": {"folds": len(folds), "chosen": choice.name, "because": choice.reason, **choice.losses},
        "held_out": {
            **reliability(held_out[choice.name], data, seed=seed),
            "auroc": auroc(held_out[choice.name], data.labels),
        },
    }
    named = dict(zip(LIST_FEATURES, map(float, weights[:-1]), strict=True))
    return ListCalibration(**named, intercept=float(weights[-1]), floor=floor, evidence=evidence)


def _make_lists(pairs: Labelled, *, floor: float, answerable: float, seed: int) -> _Lists:
    generator = np.random.default_rng(seed)
    found: list[tuple[NDArray[np.float64], float, int]] = []  # logits, label, query
    for query, rows in enumerate(pairs.rows_of_queries()):
        own = np.sort(pairs.logits[rows[pairs.labels[rows] == 1.0]])
        rest = np.sort(pairs.logits[rows[pairs.labels[rows] == 0.0]])
        if rest.size == 0:
            continue
        found.append((rest, 0.0, query))
        if own.size:
            kept = generator.permutation(own)[: rest.size]
            filling = generator.permutation(rest)[: rest.size - kept.size]
            found.append((np.concatenate([kept, filling]), 1.0, query))
    labels = np.array([label for _, label, _ in found])
    n_present = int(labels.sum())
    if min(n_present, labels.size - n_present) < MIN_LISTS:
        raise InvalidInput(
            f"the probability of anything relevant needs {MIN_LISTS} lists with a relevant document and as many "
            f"without, got {n_present} and {labels.size - n_present}; add queries with irrelevant documents"
        )
    weights = np.where(labels == 1.0, answerable / n_present, (1.0 - answerable) / (labels.size - n_present))
    features = np.array([list_features(logits, floor=floor) for logits, _, _ in found])  # (n_lists, 4)
    number = np.unique([query for _, _, query in found], return_inverse=True)[1].astype(np.int64)
    return _Lists(features, Labelled(features[:, 0], labels, weights / weights.mean(), number))


def _fit(features: NDArray[np.float64], data: Labelled, columns: tuple[int, ...]) -> NDArray[np.float64]:
    """Coefficients of the four features, 0 for those left out, and the intercept: shape (5,)."""
    used = features[:, columns]
    centre, scale = used.mean(axis=0), used.std(axis=0)
    scale[scale == 0.0] = 1.0  # lists of one length: the coefficient is 0
    design = np.column_stack([(used - centre) / scale, np.ones(len(used))])
    fitted = fit_logistic(design, data.labels, weights=data.weights, ridge=[RIDGE] * len(columns) + [1e-9])
    found = np.zeros(features.shape[1] + 1)
    found[list(columns)] = fitted[:-1] / scale
    found[-1] = fitted[-1] - float(found[list(columns)] @ centre)
    return found
