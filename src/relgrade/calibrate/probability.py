"""The calibration of a grader: which method, fitted on what, for which base rate, and how much to trust it.

Fit it on logits of the graph that ships, over queries that neither trained the model nor report on it. It works from
50 labelled pairs of 20 queries up, and the evidence says what so few are worth.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from relgrade.calibrate.arrays import Floats, Ids, Labelled, check_labelled
from relgrade.calibrate.isotonic import isotonic
from relgrade.calibrate.scaling import count_evidence, fit_evidence, platt
from relgrade.calibrate.selection import (
    METHODS,
    Method,
    choose,
    fit_method,
    folds_of,
    held_out_log_odds,
    probability_errors,
    reliability,
    trust_in_words,
)
from relgrade.errors import InvalidInput
from relgrade.probability import at_base_rate, calibrated_probability, require_base_rate
from relgrade.records import Calibration

MIN_PAIRS = 50
MIN_QUERIES = 20


def fit_calibration(
    logits: Floats,
    labels: NDArray[Any] | Sequence[float],
    *,
    query_ids: Ids,
    weights: Floats | None = None,
    methods: Sequence[Method] = METHODS,
    prior_shift: float = 0.0,
    base_rate: float | None = None,
    seed: int = 0,
) -> Calibration:
    """The simplest method whose held-out log loss is within one standard error of the best, fitted on all pairs.

    Neither the order of pairs nor the names of queries within a fold matter. Where a method cannot be fitted (equal
    logits, or larger logits of irrelevant pairs) it is the identity, and the evidence says so under "fallback".

    Args:
        logits: of the graph that ships, finite, shape (n_pairs,).
        labels: 0/1, or a teacher's P(relevant) in [0, 1], shape (n_pairs,).
        query_ids: shape (n_pairs,); the pairs of a query stay together and count as one draw.
        weights: >= 0, shape (n_pairs,); `source_weights` makes each collection count the same. None: pairs do.
        methods: to choose from; simpler ones go first whatever the order here.
        prior_shift: what training put on the log-odds of "relevant", known where it saw resampled or weighted pairs:
            their log-odds of "relevant" minus those before (`data.balance` records it). It is taken off the logits
            first; temperature, which has no intercept, needs that, and the others come out the same.
        base_rate: share of relevant documents where the grader will work, in (0, 1), when it is not that of these
            pairs, as it is after they were resampled or picked; see `relgrade.probability.at_base_rate`. None: it is.
        seed: of the folds and of what the evidence draws.

    Returns:
        A calibration whose evidence has counts, "cross_validation" (log loss of each method, its standard error, what
        was chosen and why), "held_out" (calibration error and its noise floor), "probability_standard_error" at 0.1,
        0.5 and 0.9, and "trust", a sentence. What a base rate other than that of the pairs changes, none of this can
        judge.

    Raises:
        InvalidInput: arrays that do not fit together, numbers out of range, fewer than 50 pairs or 20 queries, or one
            class only.
        MissingExtra: scikit-learn is not installed.
    """
    wanted: list[str] = [method for method in METHODS if method in methods]
    if not wanted or set(methods) - set(METHODS):
        raise InvalidInput(f"methods are some of {', '.join(get_args(Method))}, got {list(methods)!r}")
    if not np.isfinite(prior_shift):
        raise InvalidInput(f"prior_shift must be finite, got {prior_shift}")
    if base_rate is not None:
        require_base_rate(base_rate)
    data = check_labelled(logits, labels, weights=weights, query_ids=query_ids)
    _require_enough(data)
    folds = folds_of(data, seed=seed)
    fits = {method: partial(fit_method, method=method, prior_shift=float(prior_shift)) for method in wanted}
    held_out = {method: held_out_log_odds(data, folds, fit=fit) for method, fit in fits.items()}
    choice = choose(held_out, data)
    fitted = fits[choice.name](data)
    evidence: dict[str, Any] = {
        **count_evidence(data),
        "n_queries": data.n_queries,
        "prevalence": data.prevalence,
        "prior_shift": float(prior_shift),
        **({} if base_rate is None else {"base_rate": float(base_rate)}),
        **fit_evidence(fitted, data),
        "cross_validation": {"folds": len(folds), "chosen": choice.name, "because": choice.reason, **choice.losses},
        "held_out": reliability(held_out[choice.name], data, seed=seed),
        "probability_standard_error": probability_errors(
            fitted,
            data,
            # A temperature holds 0.5 still by assumption; the pairs alone leave its place open.
            fit=isotonic if choice.name == "isotonic" else platt,
            seed=seed,
        ),
    }
    evidence["trust"] = trust_in_words(evidence)
    finished = replace(fitted, evidence=evidence)
    return finished if base_rate is None else at_base_rate(finished, base_rate)


def apply(calibration: Calibration, logits: Floats) -> NDArray[np.float64]:
    """Calibrated P(relevant) in float64, see `relgrade.probability.calibrated_probability`."""
    return calibrated_probability(calibration, logits)


def _require_enough(data: Labelled) -> None:
    if data.logits.size < MIN_PAIRS or data.n_queries < MIN_QUERIES:
        raise InvalidInput(
            f"a calibration needs at least {MIN_PAIRS} labelled pairs of {MIN_QUERIES} queries, got {data.logits.size} "
            f"pairs of {data.n_queries}; label more"
        )
    if not data.has_both_classes:
        raise InvalidInput(
            f"all {data.logits.size} pairs have the label {data.labels[0]:g}; a calibration needs relevant and "
            "irrelevant documents, and near misses among the latter"
        )
