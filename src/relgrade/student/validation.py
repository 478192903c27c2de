"""How good a student is on the validation pairs, as one number, and when no gain is left to wait for.

It reads logits and labels, never a model.
"""

import math
from collections.abc import Callable, Sequence

from relgrade.errors import InvalidInput, InvalidSettings, TrainingError
from relgrade.metrics import auroc, average_precision
from relgrade.records import Pair

METRICS: dict[str, Callable[[Sequence[float], Sequence[bool]], float]] = {
    "average_precision": average_precision,
    "auroc": auroc,
}

RELEVANT = 0.5  # a soft label from here on counts as relevant


class Validation:
    """The validation pairs, by source.

    Args:
        pairs: labelled; a source without both relevant and irrelevant pairs has no value and is left out.
        metric: a name in `METRICS`.

    Attributes:
        pairs: those of the sources that count.
        metric: the name.

    Raises:
        InvalidSettings: no metric of this name.
        InvalidInput: a pair without label, or no source with both sides.
    """

    def __init__(self, pairs: Sequence[Pair], *, metric: str) -> None:
        if metric not in METRICS:
            raise InvalidSettings(f"training.metric must be one of {', '.join(sorted(METRICS))}, got {metric!r}")
        self.metric = metric
        by_source: dict[str, list[Pair]] = {}
        for pair in pairs:
            by_source.setdefault(pair.source or "", []).append(pair)
        self._sources = {
            source: [_is_relevant(pair) for pair in members]
            for source, members in sorted(by_source.items())
            if len({_is_relevant(pair) for pair in members}) == 2
        }
        if pairs and not self._sources:
            raise InvalidInput(
                f"{metric} needs relevant and irrelevant pairs of one source; no source of the {len(pairs)} validation "
                "pairs has both. Enlarge splits.validation, or train without validation pairs"
            )
        self.pairs = [pair for source in self._sources for pair in by_source[source]]

    def measure(self, logits: Sequence[float]) -> dict[str, float]:
        """The metric of each source, under its name. `macro` averages them.

        Args:
            logits: of `pairs`, in their order.

        Raises:
            TrainingError: a logit is not finite: the model is broken, not bad.
        """
        if not all(map(math.isfinite, logits)):
            n_bad = sum(not math.isfinite(logit) for logit in logits)
            raise TrainingError(f"{n_bad} of {len(logits)} validation logits are not finite")
        measured = {}
        start = 0
        for source, labels in self._sources.items():
            measured[source] = METRICS[self.metric](logits[start : start + len(labels)], labels)
            start += len(labels)
        return measured


def macro(measured: dict[str, float]) -> float:
    """Mean over the sources, each counting the same."""
    return math.fsum(measured.values()) / len(measured)


def best_index(values: Sequence[float]) -> int | None:
    """Position of the largest value, the first of equals; None without values."""
    return max(range(len(values)), key=lambda i: (values[i], -i)) if values else None


def is_exhausted(values: Sequence[float], *, patience: int) -> bool:
    """Whether the last `patience` validations brought no gain."""
    best = best_index(values)
    return best is not None and len(values) - 1 - best >= patience


def _is_relevant(pair: Pair) -> bool:
    if pair.label is None:
        raise InvalidInput(f"validation pair (query {pair.query_id!r}, document {pair.doc_id!r}) has no label")
    return pair.label >= RELEVANT
