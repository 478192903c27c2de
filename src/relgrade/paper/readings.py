"""From the logits of a row to its numbers: one reading for each test set, way to get a probability and rule to decide.

Thresholds and calibrations come from calibration pairs; test pairs are only measured. It never sees a model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade.calibrate import fit_platt, pick_best_f1
from relgrade.errors import UndefinedMeasure
from relgrade.evaluate.evaluation import Evaluation, evaluate_scores
from relgrade.evaluate.intervals import Estimate
from relgrade.paper.samples import Samples, is_relevant, pair_key
from relgrade.paper.settings import PaperSettings
from relgrade.probability import at_base_rate, calibrated_probability, log_odds, sigmoid
from relgrade.records import Calibration, Pair

Floats = NDArray[np.float64]
Key = tuple[str, str]

ARGMAX = "argmax"  # probability >= 0.5 as the model gives it, which is the paper's rule
PRIOR = "argmax, prior corrected"  # what resampling or weights put on the log-odds taken off first
BEST_F1 = "best F1 on calibration"
PRECISION = "precision on calibration"  # the lowest threshold whose precision there reaches min_precision
BASE_RATE = "calibrated to the base rate"  # probability >= 0.5 at the share of relevant documents of the test set
PARSED = "replies that parse"  # a reply that does not is a third state and left out
AS_FAIL = "unparsed as FAIL"  # the paper's count

_MEASURES = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "f1",
    "average_precision": "average_precision",
    "kappa": "kappa",
    "brier": "brier",
    "calibration_error": "ece",
    "best_f1": "best_f1",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What a prompted model said of one pair."""

    verdict: bool | None  # PASS or FAIL; None: the reply does not parse
    text: str  # its first words
    logit: float | None = None  # log-odds of PASS against FAIL as the next token; None: not known


def trained_readings(
    samples: Samples, logits: Mapping[Key, float], settings: PaperSettings, *, prior_shift: float
) -> list[dict[str, Any]]:
    """Every reading of a model that gives a logit for each pair.

    Args:
        samples: the calibration and test pairs.
        logits: log-odds before any calibration, by `pair_key`.
        settings: `min_precision`, `n_draws`, `seed` and the base rates are read.
        prior_shift: log-odds that training put on "relevant"; 0 gives no corrected reading.

    Returns:
        Plain JSON: `test`, `rule`, `threshold` (a probability of that rule) and the measures, each with `value`,
        `low` and `high`.
    """
    calibration = _logits_of(samples.calibration, logits)
    labels, queries = is_relevant(samples.calibration), [pair.query_id for pair in samples.calibration]
    fitted = fit_platt(calibration, labels, query_ids=queries)
    if fitted.prevalence is None:  # nothing could be fitted, and the identity stands in
        fitted = replace(fitted, prevalence=float(labels.mean()))
    calibrated = calibrated_probability(fitted, calibration)
    rules: list[tuple[str, Calibration, float | None]] = [(ARGMAX, _plain(0.0), 0.5)]
    if prior_shift:
        rules.append((PRIOR, _plain(-prior_shift), 0.5))
    rules.append((BEST_F1, fitted, pick_best_f1(calibrated, labels).threshold))
    rules.append((PRECISION, fitted, lowest_threshold(calibrated, labels, min_precision=settings.min_precision)))
    readings = []
    for test in settings.tests:
        pairs = samples.tests[test.name]
        own = list(rules)
        if test.base_rate is not None:
            own.append((BASE_RATE, at_base_rate(fitted, test.base_rate), 0.5))
        for rule, each, threshold in own:
            scores = _logits_of(pairs, logits)
            found = _evaluate(pairs, calibrated_probability(each, scores), settings, threshold=threshold, scores=scores)
            readings.append(_reading(test.name, rule, found))
    return readings


def lowest_threshold(probabilities: Floats, labels: NDArray[np.bool_], *, min_precision: float) -> float | None:
    """The lowest probability at which precision on these very pairs is `min_precision` or more; None when none is."""
    order = np.argsort(-probabilities, kind="stable")
    p, found = probabilities[order], np.cumsum(labels[order])
    is_end = np.append(p[1:] != p[:-1], True)  # ties pass together
    good = np.flatnonzero(is_end & (found >= min_precision * np.arange(1, p.size + 1)) & (found > 0))
    return float(p[good[-1]]) if good.size else None


def replied_readings(
    samples: Samples, replies: Mapping[Key, Reply], settings: PaperSettings, *, has_probabilities: bool
) -> list[dict[str, Any]]:
    """Every reading of a prompted model: its words, counted in both ways, and the probability of its next token.

    Args:
        samples: the test pairs.
        replies: by `pair_key`.
        settings: `n_draws` and `seed` are read.
        has_probabilities: whether every reply carries a logit.
    """
    readings = []
    for name, pairs in samples.tests.items():
        said = [replies[pair_key(pair)] for pair in pairs]
        parsed = [(pair, reply.verdict) for pair, reply in zip(pairs, said, strict=True) if reply.verdict is not None]
        n_unparsed = len(pairs) - len(parsed)
        verdicts = {PARSED: parsed, AS_FAIL: [(p, bool(r.verdict)) for p, r in zip(pairs, said, strict=True)]}
        for rule, judged in verdicts.items():
            if judged:
                kept = np.array([verdict for _, verdict in judged], dtype=bool)
                found = _evaluate([pair for pair, _ in judged], None, settings, is_kept=kept)
                readings.append({**_reading(name, rule, found), "n_unparsed": n_unparsed})
        if has_probabilities:
            scores = np.array([0.0 if reply.logit is None else reply.logit for reply in said])
            found = _evaluate(pairs, sigmoid(scores), settings, threshold=0.5, scores=scores)
            readings.append(_reading(name, ARGMAX, found))
    return readings


def _evaluate(
    pairs: Sequence[Pair],
    probabilities: Floats | None,
    settings: PaperSettings,
    *,
    threshold: float | None = None,
    scores: Floats | None = None,
    is_kept: NDArray[np.bool_] | None = None,
) -> Evaluation:
    flat = np.zeros(len(pairs))
    try:
        return evaluate_scores(
            flat if scores is None else scores,
            is_relevant(pairs).astype(float),
            [pair.query_id for pair in pairs],
            threshold=threshold,
            probabilities=probabilities,
            is_kept=is_kept,
            n_draws=settings.n_draws,
            seed=settings.seed,
        )
    except UndefinedMeasure as error:
        raise UndefinedMeasure(f"{len(pairs)} test pairs: {error}") from error


def _reading(test: str, rule: str, found: Evaluation) -> dict[str, Any]:
    measures = {short: _interval(getattr(found, name)) for name, short in _MEASURES.items()}
    if rule in (PARSED, AS_FAIL):  # words rank nothing
        for short in ("average_precision", "best_f1"):
            measures[short] = None
    counts = {"n_queries": found.n_queries, "n_pairs": found.n_pairs, "n_relevant": found.n_relevant}
    return {"test": test, "rule": rule, "threshold": found.threshold, **counts, **measures}


def _interval(estimate: Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    kept = {name: value for name, value in asdict(estimate).items() if name in ("value", "low", "high", "reason")}
    return {name: round(value, 5) if isinstance(value, float) else value for name, value in kept.items()}


def _logits_of(pairs: Sequence[Pair], logits: Mapping[Key, float]) -> Floats:
    return np.array([logits[pair_key(pair)] for pair in pairs], dtype=np.float64)


def _plain(intercept: float) -> Calibration:
    return Calibration(intercept=intercept)


def shift_of_weight(positive_weight: float) -> float:
    """Log-odds that a weight on the relevant side of cross-entropy adds to what is learnt."""
    return log_odds(positive_weight / (1.0 + positive_weight))
