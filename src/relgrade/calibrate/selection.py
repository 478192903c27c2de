"""Which calibration is chosen, by grouped cross-validation, and how far its probabilities can be trusted.

The pairs of a query share a fold and count as one draw in every standard error.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from relgrade.calibrate.arrays import Labelled, clustered_error, log_losses
from relgrade.calibrate.isotonic import isotonic
from relgrade.calibrate.scaling import platt, temperature
from relgrade.errors import MissingExtra
from relgrade.metrics import expected_calibration_error
from relgrade.probability import calibrated_log_odds, logit_at, sigmoid
from relgrade.records import Calibration

Method = Literal["temperature", "platt", "isotonic"]
METHODS: tuple[Method, ...] = ("temperature", "platt", "isotonic")  # the simplest first
N_FOLDS = 10
N_DRAWS = 200  # of the noise floor and of the standard errors
_ASKED = (0.1, 0.5, 0.9)  # probabilities whose standard error is recorded


@dataclass(frozen=True, slots=True)
class Choice:
    """The outcome of a cross-validation."""

    name: str  # of the simplest within one standard error of the best
    losses: Mapping[str, dict[str, float]]  # by name: log loss, its standard error, excess over the best and its error
    reason: str


def fit_method(data: Labelled, method: str, *, prior_shift: float) -> Calibration:
    """One calibration by name."""
    if method == "temperature":
        return temperature(data, prior_shift=prior_shift)
    return platt(data) if method == "platt" else isotonic(data)


def folds_of(data: Labelled, *, seed: int) -> list[NDArray[np.int64]]:
    """Rows of each held-out fold: whole queries, folds of about equal size, the same whatever the order of the pairs.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    try:
        from sklearn.model_selection import GroupKFold
    except ImportError as error:
        raise MissingExtra("scikit-learn", extra="evaluate", purpose="cross-validate a calibration") from error

    # GroupKFold deals groups out by size, and those of one size by their number: drawn here, so the seed decides.
    drawn = np.random.default_rng(seed).permutation(data.n_queries)[data.query]
    n_folds = min(N_FOLDS, len(np.unique(data.query)))
    return [test for _, test in GroupKFold(n_folds).split(data.logits, groups=drawn)]


def held_out_log_odds(
    data: Labelled, folds: Sequence[NDArray[np.int64]], *, fit: Callable[[Labelled], Calibration]
) -> NDArray[np.float64]:
    """Calibrated log-odds of each pair by a fit that never saw its query, shape (n_pairs,)."""
    found = np.empty(data.logits.size)
    for test in folds:
        is_train = np.ones(data.logits.size, dtype=np.bool_)
        is_train[test] = False
        found[test] = calibrated_log_odds(fit(data.take(np.flatnonzero(is_train))), data.logits[test])
    return found


def choose(held_out: Mapping[str, NDArray[np.float64]], data: Labelled) -> Choice:
    """The first, so the simplest, whose log loss is within one standard error of the best.

    The standard error is that of the difference to the best on the same pairs, clustered by query. That of a loss alone
    would be several times larger, since hard queries are hard for every method, and would let bad methods pass.

    Args:
        held_out: log-odds by name, the simplest first, each of shape (n_pairs,).
        data: the same pairs.
    """
    losses = {name: log_losses(z, data.labels) for name, z in held_out.items()}
    means = {name: float(np.average(loss, weights=data.weights)) for name, loss in losses.items()}
    best = min(means, key=lambda name: means[name])
    table = {
        name: {
            "log_loss": means[name],
            "standard_error": clustered_error(loss, data),
            "excess": means[name] - means[best],
            "excess_standard_error": clustered_error(loss - losses[best], data),
        }
        for name, loss in losses.items()
    }
    name = next(name for name, row in table.items() if row["excess"] <= row["excess_standard_error"])
    if name == best:
        return Choice(name, table, "the lowest log loss, and nothing simpler is within one standard error of it")
    return Choice(name, table, f"simpler than {best}, the best, and within one standard error of it")


def reliability(held_out: NDArray[np.float64], data: Labelled, *, seed: int) -> dict[str, float]:
    """Calibration error of held-out probabilities, and what a perfect calibration would show on as many pairs.

    Args:
        held_out: log-odds, shape (n_pairs,).
        data: the same pairs; weights play no part.
        seed: draws the labels of the noise floor from the probabilities, pairs taken as independent. Where pairs of a
            query err together the true floor is higher.

    Returns:
        "expected_calibration_error", the mean "noise_floor" and its 95 % quantile.
    """
    p = sigmoid(held_out)
    generator = np.random.default_rng(seed)
    floor = [expected_calibration_error(p, (generator.random(p.size) < p).astype(np.float64)) for _ in range(N_DRAWS)]
    return {
        "expected_calibration_error": expected_calibration_error(p, data.labels),
        "noise_floor": float(np.mean(floor)),
        "noise_floor_95": float(np.quantile(floor, 0.95)),
    }


def probability_errors(
    calibration: Calibration, data: Labelled, *, fit: Callable[[Labelled], Calibration], seed: int
) -> dict[str, float]:
    """Standard error of the probability where it says 0.1, 0.5 and 0.9: fits on queries drawn with replacement.

    Args:
        calibration: says where that is.
        data: the pairs it was fitted on.
        fit: of each draw; what it takes as given adds nothing to the errors.
        seed: of the draws.
    """
    at = np.array([logit_at(calibration, p) for p in _ASKED])
    generator = np.random.default_rng(seed)
    rows_of = data.rows_of_queries()
    found: list[NDArray[np.float64]] = []
    for _ in range(N_DRAWS // 2):
        drawn = generator.integers(0, len(rows_of), size=len(rows_of))
        sample = data.take(np.concatenate([rows_of[i] for i in drawn]))
        if sample.has_both_classes:
            found.append(sigmoid(calibrated_log_odds(fit(sample), at)))
    errors = np.std(found, axis=0) if found else np.full(len(_ASKED), 0.5)
    return {f"{p:g}": float(error) for p, error in zip(_ASKED, errors, strict=True)}


def trust_in_words(evidence: Mapping[str, Any]) -> str:
    """One sentence on how far the probabilities can be trusted, from the evidence of `fit_calibration`."""
    error, floor = evidence["held_out"]["expected_calibration_error"], evidence["held_out"]["noise_floor_95"]
    spread = max(evidence["probability_standard_error"].values())
    size = "good" if spread <= 0.03 else "fair" if spread <= 0.07 else "rough"
    beyond = "no more than chance explains" if error <= floor else f"where chance alone explains {floor:.3f}"
    return (
        f"{size}: {evidence['n_queries']} queries leave a probability uncertain by {spread:.2f} (one standard error); "
        f"held-out calibration error {error:.3f}, {beyond}"
    )
