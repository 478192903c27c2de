"""Class imbalance of the training split: drawing pairs again, leaving some out, or weights for the loss.

Only pairs of split "train" are touched. A label of 0.5 or more counts as positive, and a pair without a label as
neither. Resampling moves the share of positives that a model learns, and with it every probability: `prior_shift`
says by how much.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from relgrade.data.splits import TRAIN
from relgrade.errors import InvalidInput
from relgrade.records import Pair
from relgrade.settings import BalanceSettings

POSITIVE_FROM = 0.5  # label from which a pair counts as positive
COPY_FIELD = "copy"  # numbers the copies of a pair, so that a file of them can be told from one with mistakes


@dataclass(frozen=True, slots=True)
class ClassWeights:
    """Factors of a pair's loss. Over the pairs they were made from, their mean is 1."""

    positive: float = 1.0
    negative: float = 1.0

    @property
    def prior_shift(self) -> float:
        """Log-odds that the weights add to what an unweighted loss would learn."""
        return math.log(self.positive / self.negative)

    def of(self, label: float) -> float:
        """The factor of a label in [0, 1]; one between them takes its share of both."""
        return label * self.positive + (1.0 - label) * self.negative


@dataclass(frozen=True, slots=True)
class _Classes:
    positives: list[int]  # positions in the list of pairs
    negatives: list[int]


def balance(pairs: Sequence[Pair], settings: BalanceSettings, *, seed: int) -> list[Pair]:
    """Resample the training pairs towards `settings.negatives_per_positive`.

    `oversample` repeats positives, each as often as any other within one, every copy behind its original and numbered
    in field `copy`. `undersample` leaves out negatives, drawn from all training pairs alike; positives all stay. Both
    leave a split alone that already has the ratio or more positives. `none` and `class-weights` change nothing here.

    Args:
        pairs: of all splits.
        settings: method and target.
        seed: of the draw.

    Returns:
        Pairs in the order of the old.

    Raises:
        InvalidInput: resampling is asked for and the training split has no positive, or no negative, pair.
    """
    if settings.method in ("none", "class-weights"):
        return list(pairs)
    classes = _classes(pairs)
    n_positive, n_negative = len(classes.positives), len(classes.negatives)
    generator = np.random.default_rng(seed)
    times = np.ones(len(pairs), dtype=np.int64)  # (n_pairs,) how often each pair comes
    if settings.method == "undersample":
        n_kept = max(1, round(n_positive * settings.negatives_per_positive))
        if n_kept < n_negative:
            drawn = generator.permutation(n_negative)[n_kept:]  # positions in `negatives` that go
            times[np.asarray(classes.negatives)[drawn]] = 0
    else:
        n_wanted = round(n_negative / settings.negatives_per_positive)
        if n_wanted > n_positive:
            positives = np.asarray(classes.positives)
            times[positives] = n_wanted // n_positive
            times[positives[generator.permutation(n_positive)[: n_wanted % n_positive]]] += 1
    return _repeated(pairs, times.tolist())


def class_weights(pairs: Sequence[Pair], settings: BalanceSettings) -> ClassWeights:
    """Weights with which the negatives weigh `negatives_per_positive` times as much as the positives in all.

    With n pairs, p of them positive, and r the target ratio: positive = n / ((1 + r) p),
    negative = n r / ((1 + r) (n - p)).

    Args:
        pairs: of all splits; those of train are counted.
        settings: weights of 1 unless the method is `class-weights`.

    Raises:
        InvalidInput: weights are asked for and the training split has no positive, or no negative, pair.
    """
    if settings.method != "class-weights":
        return ClassWeights()
    classes = _classes(pairs)
    n_positive, n_negative = len(classes.positives), len(classes.negatives)
    ratio = settings.negatives_per_positive
    per_part = (n_positive + n_negative) / (1.0 + ratio)
    return ClassWeights(positive=per_part / n_positive, negative=per_part * ratio / n_negative)


def prior_shift(before: Sequence[Pair], after: Sequence[Pair]) -> float:
    """Log-odds of a positive in the training pairs `after` minus those in `before`.

    A model trained on `after` says this much more (in logits) than the labels of `before` support.

    Raises:
        InvalidInput: one of them has no positive, or no negative, training pair.
    """
    odds = []
    for pairs in (before, after):
        classes = _classes(pairs)
        odds.append(math.log(len(classes.positives) / len(classes.negatives)))
    return odds[1] - odds[0]


def _classes(pairs: Sequence[Pair]) -> _Classes:
    positives: list[int] = []
    negatives: list[int] = []
    for position, pair in enumerate(pairs):
        if pair.split == TRAIN and pair.label is not None:
            (positives if pair.label >= POSITIVE_FROM else negatives).append(position)
    if not positives or not negatives:
        splits = Counter(pair.split or "none" for pair in pairs)
        found = ", ".join(f"{n} of split {name}" for name, n in sorted(splits.items())) or "no pairs"
        raise InvalidInput(
            f"balance needs positive and negative pairs of split train, got {len(positives)} and {len(negatives)} "
            f"({found})"
        )
    return _Classes(positives, negatives)


def _repeated(pairs: Sequence[Pair], times: Sequence[int]) -> list[Pair]:
    """Each pair as often as said, copies numbered above those that an earlier balancing made."""
    last: dict[tuple[str | None, str, str], int] = {}  # the pair -> its highest number
    for pair in pairs:
        number = pair.fields.get(COPY_FIELD)
        if isinstance(number, int):
            last[_identity(pair)] = max(number, last.get(_identity(pair), 0))
    repeated = []
    for pair, n_times in zip(pairs, times, strict=True):
        repeated.extend([pair] if n_times else [])
        for _ in range(n_times - 1):
            last[_identity(pair)] = last.get(_identity(pair), 0) + 1
            repeated.append(replace(pair, fields={**pair.fields, COPY_FIELD: last[_identity(pair)]}))
    return repeated


def _identity(pair: Pair) -> tuple[str | None, str, str]:
    return pair.source, pair.query_id, pair.doc_id
