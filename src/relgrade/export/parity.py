"""Does an exported graph judge as the trained model does? Logit errors and flipped verdicts, over ways of batching.

Models are callables from pair indices to logits here, so every architecture is measured by the same code.

Some quantisations scale activations by the largest value of the whole batch: a document's logit then depends on which
documents stand beside it. The report shows by how much, and that the way relgrade runs, alone, is free of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relgrade.errors import InvalidInput, ParityError
from relgrade.settings import ExportSettings

SHIPPED = "alone"  # how the runtimes call a graph: one unpadded sequence at a time

BatchScorer = Callable[[Sequence[int]], NDArray[np.floating[Any]]]
"""Logits of the pairs with these indices, run as one batch, padded to its longest. Shape (n_indices,)."""


@dataclass(frozen=True, slots=True)
class LogitDifference:
    """How far candidate logits are from reference logits of the same pairs."""

    mean: float  # of |candidate - reference|
    p99: float  # 99th percentile
    max: float
    worst: int  # index of the pair with the largest difference; the first that is not finite, where there is one
    n_flips: int  # pairs on the other side of the threshold
    flips: float  # share of the pairs, in [0, 1]
    worst_flip: int | None  # index of the flipped pair with the largest difference


@dataclass(frozen=True, slots=True)
class CompositionParity:
    """One way of putting the pairs into batches."""

    name: str
    fp32: LogitDifference  # against torch: padding that leaks shows here
    int8: LogitDifference | None  # against fp32 run alone
    int8_moved: LogitDifference | None  # against int8 run alone: what the neighbours do


@dataclass(frozen=True, slots=True)
class ParityReport:
    """Torch, fp32 and int8 on the same pairs, for every way of batching."""

    n_pairs: int
    threshold: float  # logit from which a pair counts as relevant
    compositions: tuple[CompositionParity, ...]  # `SHIPPED` comes first

    @property
    def max_logit_error(self) -> float:
        """Largest |fp32 - torch| over all ways of batching."""
        return float(np.max([composition.fp32.max for composition in self.compositions]))

    @property
    def shipped(self) -> CompositionParity:
        """The way the graphs are run by relgrade."""
        return self.compositions[0]

    @property
    def verdict_flips(self) -> float | None:
        """Share of the pairs whose verdict int8, as it is run, changes; None without int8."""
        return None if self.shipped.int8 is None else self.shipped.int8.flips

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, for the card and for `relgrade parity`; an infinite difference becomes null."""
        summary = {"max_logit_error": self.max_logit_error, "verdict_flips": self.verdict_flips}
        plain: dict[str, Any] = _without_infinities({**summary, **asdict(self)})
        return plain


def compare_logits(reference: ArrayLike, candidate: ArrayLike, *, threshold: float) -> LogitDifference:
    """Measure the differences of two sets of logits; a pair is relevant from `threshold` on.

    Args:
        reference: finite logits, shape (n_pairs,), n_pairs >= 1.
        candidate: logits of the same pairs, same shape; NaN or an infinity counts as an infinite difference and a flip.
        threshold: finite logit.

    Raises:
        InvalidInput: shapes differ, there is no pair, or the reference or threshold is not finite.
    """
    expected = np.asarray(reference, dtype=np.float64)
    found = np.asarray(candidate, dtype=np.float64)
    if expected.ndim != 1 or expected.shape != found.shape or expected.size == 0:
        raise InvalidInput(f"two arrays of shape (n_pairs,) were expected, got {expected.shape} and {found.shape}")
    if not np.isfinite(expected).all() or not np.isfinite(threshold):
        raise InvalidInput("the logits of the trained model and the threshold must be finite")
    is_finite = np.isfinite(found)
    error = np.where(is_finite, np.abs(np.where(is_finite, found, 0.0) - expected), np.inf)  # (n_pairs,)
    is_flipped = ~is_finite | ((expected >= threshold) != (found >= threshold))  # (n_pairs,)
    flipped = np.flatnonzero(is_flipped)
    return LogitDifference(
        mean=float(error.mean()),
        p99=float(np.quantile(error, 0.99, method="higher")),
        max=float(error.max()),
        worst=int(error.argmax()),
        n_flips=len(flipped),
        flips=len(flipped) / len(error),
        worst_flip=int(flipped[error[flipped].argmax()]) if len(flipped) else None,
    )


def check_logits(
    reference: ArrayLike, candidate: ArrayLike, threshold: float, settings: ExportSettings
) -> LogitDifference:
    """Compare the verdicts of two sets of logits, such as those of fp32 and of int8.

    Args:
        reference: finite logits, shape (n_pairs,).
        candidate: logits of the same pairs.
        threshold: logit from which a pair is relevant.
        settings: `max_verdict_flips` is the share of flipped verdicts allowed.

    Raises:
        InvalidInput: as `compare_logits`.
        ParityError: more verdicts flip than that, or a logit is not finite; names the worst pair by its index.
    """
    difference = compare_logits(reference, candidate, threshold=threshold)
    _require_verdicts(difference, settings, len(np.asarray(reference)))
    return difference


def batch_compositions(lengths: Sequence[int], *, seed: int = 0) -> dict[str, list[list[int]]]:
    """Ways of putting pairs into batches, each as lists of pair indices; every pair is in each way.

    Args:
        lengths: tokens of each pair, shape (n_pairs,).
        seed: of the shuffle.

    Returns:
        `alone`; `sorted-8` and `sorted-32` by length, as a server would; `long-neighbour`: batches of 8 in random
        order, the longest pair put into each of them.
    """
    n_pairs = len(lengths)
    by_length = sorted(range(n_pairs), key=lambda i: lengths[i])
    longest = by_length[-1] if by_length else 0
    shuffled = [int(i) for i in np.random.default_rng(seed).permutation(n_pairs)]
    with_neighbour = [[i for i in batch if i != longest] + [longest] for batch in _cut(shuffled, 7)]
    return {
        SHIPPED: [[i] for i in range(n_pairs)],
        "sorted-8": _cut(by_length, 8),
        "sorted-32": _cut(by_length, 32),
        "long-neighbour": with_neighbour,
    }


def measure_parity(
    reference: ArrayLike,
    fp32: BatchScorer,
    int8: BatchScorer | None,
    *,
    lengths: Sequence[int],
    threshold: float,
    seed: int = 0,
) -> ParityReport:
    """Score the same pairs in every way of batching, and compare.

    Args:
        reference: logits of the trained model, finite, shape (n_pairs,).
        fp32: the exported graph.
        int8: the quantised graph, None where there is none.
        lengths: tokens of each pair, shape (n_pairs,).
        threshold: logit from which a pair is relevant: the one that ships.
        seed: of the shuffled batches.

    Raises:
        InvalidInput: as `compare_logits`.
    """
    compositions = batch_compositions(lengths, seed=seed)
    expected = np.asarray(reference, dtype=np.float64)
    fp32_alone = _score(fp32, compositions[SHIPPED])
    int8_alone = None if int8 is None else _score(int8, compositions[SHIPPED])
    rows = []
    for name, batches in compositions.items():
        fp32_logits = fp32_alone if name == SHIPPED else _score(fp32, batches)
        differences: list[LogitDifference | None] = [None, None]
        if int8 is not None and int8_alone is not None and np.isfinite(fp32_alone).all():
            int8_logits = int8_alone if name == SHIPPED else _score(int8, batches)
            base = np.nan_to_num(int8_alone)  # what is not finite is an infinite error in the first of the two
            differences = [compare_logits(other, int8_logits, threshold=threshold) for other in (fp32_alone, base)]
        rows.append(CompositionParity(name, compare_logits(expected, fp32_logits, threshold=threshold), *differences))
    return ParityReport(len(expected), float(threshold), tuple(rows))


def check_parity(report: ParityReport, settings: ExportSettings) -> None:
    """Refuse graphs that do not judge as the trained model does.

    Args:
        report: see `measure_parity`.
        settings: `max_logit_error` for torch against fp32, however batched; `max_verdict_flips` for fp32 against int8,
            as it is run.

    Raises:
        ParityError: a limit is passed, or a logit is not finite; names the worst pair by its index.
    """
    for composition in report.compositions:
        difference = composition.fp32
        if not difference.max <= settings.max_logit_error:
            raise ParityError(
                f"fp32 differs from the trained model by {difference.max:.3g} at pair {difference.worst} "
                f"(batches: {composition.name}), at most {settings.max_logit_error:g} was expected; "
                "the export lost an input or froze a branch, report it with the model's config"
            )
    if report.shipped.int8 is not None:
        _require_verdicts(report.shipped.int8, settings, report.n_pairs)


def _require_verdicts(difference: LogitDifference, settings: ExportSettings, n_pairs: int) -> None:
    if not np.isfinite(difference.max):
        raise ParityError(
            f"the quantised graph gives no finite logit for pair {difference.worst}; ship fp32: export.quantise = false"
        )
    if difference.flips > settings.max_verdict_flips:
        raise ParityError(
            f"{difference.n_flips} of {n_pairs} verdicts flip ({difference.flips:.2%}), at most "
            f"{settings.max_verdict_flips:.2%} was expected; worst: pair {difference.worst_flip}; logit error mean "
            f"{difference.mean:.3g}, largest {difference.max:.3g}; ship fp32 (export.quantise = false), or choose a "
            "threshold where fewer pairs are close"
        )


def _score(scorer: BatchScorer, batches: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    logits = np.full(1 + max((i for batch in batches for i in batch), default=-1), np.nan)
    for batch in batches:
        logits[list(batch)] = np.asarray(scorer(batch), dtype=np.float64)
    return logits


def _cut(indices: Sequence[int], size: int) -> list[list[int]]:
    return [list(indices[start : start + size]) for start in range(0, len(indices), size)]


def _without_infinities(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_infinities(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_infinities(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
