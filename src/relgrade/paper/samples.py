"""Which pairs a row is trained on, which choose its threshold, and which test it: drawn once, with the seed.

Calibration queries are training queries that no row trains on. Test pairs are the same for every row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade.data import cap_by_query
from relgrade.data.queries import draw, query_key
from relgrade.errors import InvalidData, InvalidSettings
from relgrade.formats.read import read_pairs
from relgrade.paper.settings import PaperSettings, RowSettings
from relgrade.probability import log_odds
from relgrade.records import Pair

RELEVANT = 0.5  # label from which a pair counts as relevant
TRAIN = "train"


@dataclass(frozen=True, slots=True)
class Samples:
    """The pairs of a table."""

    pool: list[Pair]  # that rows draw their training pairs from
    calibration: list[Pair]
    tests: dict[str, list[Pair]]  # by name

    def judged(self) -> list[Pair]:
        """Every pair that needs a score, each once: of calibration and tests."""
        return _each_once([self.calibration, *self.tests.values()])

    def tested(self) -> list[Pair]:
        """Every test pair, each once."""
        return _each_once(list(self.tests.values()))


@dataclass(frozen=True, slots=True)
class TrainingDraw:
    """The training pairs of a row."""

    pairs: list[Pair]
    prior_shift: float  # log-odds of "relevant" among them minus those of the pool

    @property
    def n_relevant(self) -> int:
        """Pairs labelled 0.5 or more."""
        return int(is_relevant(self.pairs).sum())


def pair_key(pair: Pair) -> tuple[str, str]:
    """What names a pair within a table: the same texts under the same ids stand in several test sets."""
    return pair.query_id, pair.doc_id


def is_relevant(pairs: Sequence[Pair]) -> NDArray[np.bool_]:
    """Labels at 0.5, shape (n_pairs,)."""
    return np.array([(pair.label or 0.0) >= RELEVANT for pair in pairs], dtype=bool)


def read_samples(settings: PaperSettings) -> Samples:
    """Read the files and part the pairs.

    Raises:
        InvalidData: a file cannot be read, or a pair of it has no label.
        InvalidSettings: too few queries for training and calibration, or a test with queries of the training file.
    """
    labelled = _labelled(settings.train, settings.train_split)
    calibration = cap_by_query(labelled, settings.calibration_pairs, seed=settings.seed)
    held = {query_key(pair.query) for pair in calibration}
    pool = [replace(pair, split=TRAIN) for pair in labelled if query_key(pair.query) not in held]
    for name, pairs in (("training", pool), ("calibration", calibration)):
        n_relevant = int(is_relevant(pairs).sum())
        if not 0 < n_relevant < len(pairs):
            raise InvalidSettings(
                f"{settings.train}: {len(pairs)} {name} pairs, {n_relevant} of them relevant; pairs of both kinds are "
                "needed on both sides of calibration_pairs"
            )
    known = {query_key(pair.query) for pair in labelled}
    tests = {}
    for test in settings.tests:
        pairs = _labelled(test.path, test.split)
        shared = known & {query_key(pair.query) for pair in pairs}
        if shared:
            raise InvalidSettings(
                f"test {test.name} shares {len(shared)} queries with the training pairs ({settings.train}, split "
                f"{settings.train_split!r}), such as {min(shared)!r}; test on queries that nothing is trained on or "
                f"calibrated with: tests.split of {test.name} is {test.split!r}"
            )
        tests[test.name] = _some_queries(pairs, settings.test_queries, seed=settings.seed)
    return Samples(pool, calibration, tests)


def draw_training(samples: Samples, row: RowSettings, *, n_pairs: int | None, seed: int) -> TrainingDraw:
    """The training pairs of a row: `n_pairs` in all, at its ratio, the labels replaced where it names others.

    Pairs are drawn one by one. With one seed a smaller draw at the same ratio is part of a larger one. At a ratio of
    its own, a side that has too few pairs repeats them, as oversampling does; so rows of different ratios see the same
    number of pairs. At the ratio of the pool no pair comes twice.

    Args:
        samples: of the table.
        row: `negatives_per_positive` and `labels` are read.
        n_pairs: None, or more than there are at their own ratio: as many as there are.
        seed: of the draw.

    Raises:
        InvalidData: the file of other labels lacks one of the pairs.
    """
    relevant = is_relevant(samples.pool)
    generator = np.random.default_rng(seed)
    sides = [generator.permutation(np.flatnonzero(side)) for side in (relevant, ~relevant)]
    n = len(samples.pool) if n_pairs is None else n_pairs
    if row.negatives_per_positive is None:
        n, ratio = min(n, len(samples.pool)), sides[1].size / sides[0].size
    else:
        ratio = row.negatives_per_positive
    n_positive = min(max(1, round(n / (1.0 + ratio))), n - 1)
    chosen = np.concatenate([np.resize(sides[0], n_positive), np.resize(sides[1], n - n_positive)])
    pairs = [samples.pool[int(i)] for i in np.sort(chosen)]
    if row.labels is not None:
        pairs = _relabelled(pairs, row.labels)
    shift = 0.0
    if row.negatives_per_positive is not None:
        shift = log_odds(n_positive / n) - log_odds(float(relevant.mean()))
    return TrainingDraw(pairs, shift)


def _each_once(lists: Sequence[Sequence[Pair]]) -> list[Pair]:
    found: dict[tuple[str, str], Pair] = {}
    for pair in (pair for pairs in lists for pair in pairs):
        first = found.setdefault(pair_key(pair), pair)
        if (first.query, first.document) != (pair.query, pair.document):
            raise InvalidData(
                f"two pairs with the ids {pair_key(pair)} have different texts; give them ids of their own"
            )
    return list(found.values())


def _labelled(path: str, split: str | None) -> list[Pair]:
    pairs = list(read_pairs(path, split=split))
    for pair in pairs:
        if pair.label is None:
            raise InvalidData(f"pair ({pair.query_id}, {pair.doc_id}) has no label, which the table needs", path=path)
    return pairs


def _some_queries(pairs: list[Pair], n_queries: int | None, *, seed: int) -> list[Pair]:
    """Whole queries, in an order drawn by their text, so that two test sets with the same queries keep the same."""
    keys = sorted(
        {query_key(pair.query) for pair in pairs}, key=lambda key: (draw(key, seed=seed, purpose="test"), key)
    )
    kept = set(keys[:n_queries])
    return [pair for pair in pairs if query_key(pair.query) in kept]


def _relabelled(pairs: Sequence[Pair], path: str) -> list[Pair]:
    labels: dict[Any, float] = {pair_key(pair): pair.label for pair in read_pairs(path) if pair.label is not None}
    missing = [pair for pair in pairs if pair_key(pair) not in labels]
    if missing:
        raise InvalidData(
            f"{len(missing)} of {len(pairs)} training pairs have no label here, among them "
            f"({missing[0].query_id}, {missing[0].doc_id}); label the training file whole",
            path=path,
        )
    return [replace(pair, label=labels[pair_key(pair)]) for pair in pairs]
