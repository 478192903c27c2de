"""How far probabilities can be believed: Brier score, calibration error with its noise floor, reliability curve.

An estimated calibration error is above 0 even for a perfect grader, since the labels of a bin are a sample: the noise
floor says by how much. It draws labels independently; errors that cluster by query raise the true floor somewhat.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade import metrics
from relgrade.errors import InvalidInput
from relgrade.evaluate.intervals import Estimate, draw_queries, estimate, ratio_draws
from relgrade.evaluate.rows import Floats, Rows, check_probabilities

N_BINS = 15
N_SIMULATIONS = 500
BLOCK_CELLS = 2_000_000  # of the simulations-by-pairs matrix: 16 MB of float64


@dataclass(frozen=True, slots=True)
class NoiseFloor:
    """The calibration error of perfect probabilities, over simulated labels."""

    mean: float  # in [0, 1]
    high: float  # 95 % of the simulations lie at or below it
    n_simulations: int
    seed: int


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """One bin of the reliability curve."""

    mean_probability: float
    share_relevant: Estimate
    n_pairs: int


@dataclass(frozen=True, slots=True)
class Reliability:
    """Calibration error beside its noise floor, and the bins it is made of, by rising probability."""

    calibration_error: Estimate
    noise_floor: NoiseFloor
    bins: tuple[ReliabilityBin, ...]

    @property
    def is_within_noise(self) -> bool:
        """True when a perfectly calibrated grader would show as large an error in more than 5 % of samples."""
        return (self.calibration_error.value or 0.0) <= self.noise_floor.high


def confidence_estimates(rows: Rows, probability: Floats, counts: Floats) -> dict[str, Estimate]:
    """Brier score, calibration error over equal-mass bins, and log loss.

    Args:
        rows: the labels.
        probability: in [0, 1], shape (n_pairs,).
        counts: of `draw_queries`, shape (n_draws, n_queries).
    """
    label = rows.relevant.astype(np.float64)
    error = metrics.expected_calibration_error(probability, label, n_bins=N_BINS)
    # The bins stay those of all pairs: re-cutting them for each draw costs a sort and changes next to nothing.
    cell = rows.query * N_BINS + metrics.equal_mass_bins(probability, n_bins=N_BINS)
    gaps = np.bincount(cell, weights=probability - label, minlength=rows.n_queries * N_BINS)
    n_pairs = rows.sums(np.ones(label.size))
    error_draws = np.abs(counts @ gaps.reshape(rows.n_queries, N_BINS)).sum(axis=1) / (counts @ n_pairs)
    clipped = np.clip(probability, metrics.LOG_LOSS_FLOOR, 1.0 - metrics.LOG_LOSS_FLOOR)
    losses = -np.where(rows.relevant, np.log(clipped), np.log1p(-clipped))
    return {
        "brier": rows.ratio(counts, rows.sums((probability - label) ** 2), n_pairs),
        "calibration_error": rows.estimate(error, error_draws),
        "log_loss": rows.ratio(counts, rows.sums(losses), n_pairs),
    }


def calibration_noise_floor(
    probabilities: NDArray[Any], *, n_simulations: int = N_SIMULATIONS, seed: int = 0
) -> NoiseFloor:
    """The calibration error to expect when these probabilities are exactly right.

    Labels are drawn from the probabilities, the bins are those of `metrics.expected_calibration_error`.
    Source: the "consistency resampling" of Broecker and Smith 2007, "Increasing the reliability of reliability
    diagrams", section 3, with the probabilities held fixed.

    Args:
        probabilities: in [0, 1], shape (n_pairs,).
        n_simulations: draws of all labels.
        seed: of the draws.

    Raises:
        InvalidInput: n_simulations is below 1.
    """
    if n_simulations < 1:
        raise InvalidInput(f"n_simulations must be >= 1, got {n_simulations}")
    # Sorted, so that the order of the rows does not change which label each random number becomes.
    p = np.sort(np.asarray(probabilities, dtype=np.float64))
    bins = metrics.equal_mass_bins(p, n_bins=N_BINS)
    starts = np.flatnonzero(np.diff(bins, prepend=-1))  # bins are runs once the probabilities are sorted
    generator = np.random.default_rng(seed)
    n_rows = max(1, BLOCK_CELLS // p.size)
    errors = []
    for start in range(0, n_simulations, n_rows):
        labels = generator.random((min(n_rows, n_simulations - start), p.size)) < p
        errors.append(np.abs(np.add.reduceat(p - labels, starts, axis=1)).sum(axis=1) / p.size)
    drawn = np.concatenate(errors)
    return NoiseFloor(float(drawn.mean()), float(np.quantile(drawn, 0.95)), n_simulations, seed)


def reliability(probabilities: Any, labels: Any, query_ids: Any, *, n_draws: int = 1000, seed: int = 0) -> Reliability:
    """The reliability curve.

    Args:
        probabilities: calibrated P(relevant), shape (n_pairs,).
        labels: 0 or 1, shape (n_pairs,).
        query_ids: shape (n_pairs,).
        n_draws: of the bootstrap.
        seed: of the bootstrap and of the noise floor.

    Raises:
        InvalidInput: as `evaluate_scores`.
    """
    return rows_reliability(Rows.check(labels, query_ids), probabilities, n_draws=n_draws, seed=seed)


def rows_reliability(rows: Rows, probabilities: Any, *, n_draws: int, seed: int) -> Reliability:
    """The reliability curve of rows that are checked already."""
    p = check_probabilities(probabilities, rows)
    counts = draw_queries(rows.n_queries, n_draws=n_draws, seed=seed)
    bins = metrics.equal_mass_bins(p, n_bins=N_BINS)
    members = [(bins == number) for number in np.unique(bins)]
    return Reliability(
        confidence_estimates(rows, p, counts)["calibration_error"],
        calibration_noise_floor(p, seed=seed),
        tuple(_bin(rows, p, member, counts) for member in members),
    )


def _bin(rows: Rows, p: Floats, member: NDArray[np.bool_], counts: Floats) -> ReliabilityBin:
    n_pairs, n_relevant = rows.sums(member), rows.sums(member & rows.relevant)
    share = estimate(
        float(n_relevant.sum() / n_pairs.sum()),
        ratio_draws(counts, n_relevant, n_pairs),
        n_queries=int((n_pairs > 0).sum()),
        n_pairs=int(member.sum()),
    )
    return ReliabilityBin(float(p[member].mean()), share, int(member.sum()))
