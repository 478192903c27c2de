"""Pairs of several domains with what one frozen encoder says of each, computed once and kept on disk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relgrade.calibrate import fit_platt, pick_best_f1
from relgrade.data import cap_by_query
from relgrade.evaluate.evaluation import Evaluation, evaluate_scores
from relgrade.formats.read import read_pairs
from relgrade.paper.frozen import FeatureStore, Matrix, read_features, store_folder
from relgrade.paper.frozen_head import FrozenHead, fit_head
from relgrade.paper.scoring import reading_device, reading_precision
from relgrade.paper.settings import PaperSettings
from relgrade.probability import calibrated_probability
from relgrade.records import Calibration, Pair
from relgrade.settings import TrainingSettings
from relgrade.student.cross_encoder import CrossEncoderStudent
from relgrade.student.losses import build_loss


@dataclass(frozen=True, slots=True)
class Frozen:
    """Labelled pairs and the features that a head reads."""

    pairs: list[Pair]
    features: Matrix  # (n_pairs, n_hidden)
    labels: NDArray[np.float64]  # (n_pairs,), 0 or 1

    def part(self, rows: NDArray[np.int64], *, labels: NDArray[np.float64] | None = None) -> "Frozen":
        """Some of them, in this order; with other labels where these are given."""
        own = (self.labels if labels is None else labels)[rows]
        return Frozen([self.pairs[int(i)] for i in rows], self.features[rows], own)


class Backbone:
    """Reads features, from disk where they are there."""

    def __init__(self, settings: PaperSettings, cache: Path, *, seed: int) -> None:
        self._settings, self._seed = settings, seed
        self._store = FeatureStore(store_folder(cache, settings.student, settings))
        self._student: CrossEncoderStudent | None = None

    def read(self, path: Path, *, split: str, n_pairs: int) -> Frozen:
        """At most `n_pairs` pairs of whole queries."""
        pairs = cap_by_query(
            [pair for pair in read_pairs(path, split=split) if pair.label is not None], n_pairs, seed=self._seed
        )
        features = self._store.read(pairs, self._features)["model"]
        return Frozen(pairs, features, np.array([float(pair.label or 0.0) for pair in pairs]))

    def _features(self, pairs: Sequence[Pair]) -> dict[str, Matrix]:
        student = self._built()
        with reading_precision(self._settings, student):
            return read_features(student, pairs)

    def _built(self) -> CrossEncoderStudent:
        if self._student is None:
            self._student = CrossEncoderStudent.build(self._settings.student, seed=self._settings.seed)
            self._student.to(reading_device())
        return self._student


def head_of(train: Frozen) -> FrozenHead:
    """The head of configuration B by cross-entropy, fitted to the end."""
    loss = build_loss(TrainingSettings(), positive_weight=1.0)
    return fit_head(train.features, train.labels.tolist(), loss, query_ids=[pair.query_id for pair in train.pairs])


@dataclass(frozen=True, slots=True)
class Threshold:
    """What calibration pairs decide."""

    calibration: Calibration
    value: float  # a calibrated probability, of the best F1 there

    @classmethod
    def choose(cls, head: FrozenHead, calibration: Frozen) -> "Threshold":
        """From pairs that the head was not fitted on."""
        logits = head.logits(calibration.features)
        fitted = fit_platt(logits, calibration.labels)
        return cls(fitted, pick_best_f1(calibrated_probability(fitted, logits), calibration.labels).threshold)


def judge(head: FrozenHead, test: Frozen, threshold: Threshold, *, n_draws: int, seed: int) -> Evaluation:
    """Measure a head on test pairs."""
    logits = head.logits(test.features)
    return evaluate_scores(
        logits,
        test.labels,
        [pair.query_id for pair in test.pairs],
        threshold=threshold.value,
        probabilities=calibrated_probability(threshold.calibration, logits),
        n_draws=n_draws,
        seed=seed,
    )


def joined(parts: Sequence[Frozen]) -> Frozen:
    """One after another; queries of different collections stay different."""
    pairs = [
        replace(pair, query_id=f"{number}:{pair.query_id}") for number, part in enumerate(parts) for pair in part.pairs
    ]
    return Frozen(
        pairs, np.concatenate([part.features for part in parts]), np.concatenate([part.labels for part in parts])
    )


def measures(found: Evaluation, names: Sequence[str]) -> Mapping[str, object]:
    """Value and interval of some measures, as JSON."""
    return {
        name: {part: _rounded(getattr(getattr(found, name), part)) for part in ("value", "low", "high")}
        for name in names
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
