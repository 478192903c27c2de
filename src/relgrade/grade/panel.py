"""Who judges a document: calibration and thresholds of its collection, or the pooled ones, at a base rate.

A base rate changes what a probability says and never what is kept: a cut-off was tested on scores, and stays where it
was on them. Its threshold is shown on the new scale. A promise about relevant documents alone (`recall`,
`lost-queries`), or about queries without any (`false-keeps`), holds as before where only the shares differ. That of
`precision` holds where the base rate is at least that of the calibration, and is taken away where it is lower: the
same cut-off lets more irrelevant documents through for each relevant one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from relgrade.bundle import Manifest
from relgrade.grade.documents import METADATA_NAMES, PairText
from relgrade.probability import at_base_rate, calibrated_probability, log_odds, sigmoid
from relgrade.records import Calibration, Document, OperatingPoint, Pair, Verdict, VerdictPoints


@dataclass(frozen=True, slots=True)
class Bench:
    """One calibration with its thresholds."""

    calibration: Calibration  # as in the bundle; thresholds are on its scale
    told: Calibration  # the same at the base rate of the collection at hand: what a grade tells
    point: OperatingPoint  # decides what is relevant
    upper: OperatingPoint | None  # of the three-way verdict
    lower: OperatingPoint | None
    collection: str | None = None  # None: pooled

    @classmethod
    def make(
        cls,
        calibration: Calibration,
        points: Sequence[OperatingPoint],
        *,
        name: str,
        verdict_points: VerdictPoints | None,
        base_rate: float | None,
        collection: str | None = None,
    ) -> Self:
        """A bench whose point is the one of that name; raises InvalidInput as `at_base_rate` does."""
        by_name = {point.name: point for point in points}
        return cls(
            calibration,
            calibration if base_rate is None else at_base_rate(calibration, base_rate),
            by_name[name],
            by_name[verdict_points.upper] if verdict_points else None,
            by_name[verdict_points.lower] if verdict_points else None,
            collection,
        )

    def judge(self, logits: NDArray[np.float64]) -> list[tuple[float, bool, Verdict]]:
        """Probability, whether the point keeps it, and the three-way verdict, of each logit."""
        at_threshold = calibrated_probability(self.calibration, logits).tolist()
        told = at_threshold if self.told is self.calibration else calibrated_probability(self.told, logits).tolist()
        return [
            (shown, p >= self.point.threshold, self._verdict(p)) for p, shown in zip(at_threshold, told, strict=True)
        ]

    def _verdict(self, probability: float) -> Verdict:
        if self.upper is None or self.lower is None:
            return "relevant" if probability >= self.point.threshold else "not relevant"
        # In this order: where the upper threshold is the lower of the two, nothing is unsure.
        if probability >= self.upper.threshold:
            return "relevant"
        return "unsure" if probability >= self.lower.threshold else "not relevant"

    @property
    def told_point(self) -> OperatingPoint:
        """The point on the scale of the probabilities that grades tell, with a promise that still holds there."""
        if self.told is self.calibration:
            return self.point
        before, after = self.calibration.prevalence, self.told.prevalence
        assert before is not None, "at_base_rate sees to it"
        assert after is not None, "at_base_rate sees to it"
        threshold = self.point.threshold
        if 0.0 < threshold < 1.0:
            threshold = float(sigmoid(log_odds(threshold) + self.told.intercept - self.calibration.intercept))
        promise = self.point.promise
        evidence = {**self.point.evidence, "base_rate": after, "threshold_before": self.point.threshold}
        if promise is not None and promise.kind == "precision" and after < before:
            evidence["promise_taken_away"] = f"the base rate {after:g} is below {before:g}, that of the calibration"
            promise = None
        return replace(self.point, threshold=threshold, evidence=evidence, promise=promise)


@dataclass(frozen=True, slots=True)
class Panel:
    """The pooled bench and those of the collections."""

    pooled: Bench
    field: str | None  # tells collections apart; None: there are none
    members: Mapping[str, Bench]  # by value of the field

    @classmethod
    def of(cls, manifest: Manifest, *, operating_point: str | None, base_rate: float | None) -> Self:
        """The panel of a bundle.

        Args:
            manifest: of the bundle.
            operating_point: name of the point that decides; None takes the default.
            base_rate: share of relevant documents at hand, in (0, 1); None: that of the calibration.

        Raises:
            InvalidInput: no such point, a share out of range, or a calibration that knows no share.
        """
        name = manifest.point(operating_point).name
        pooled = Bench.make(
            manifest.calibration,
            manifest.operating_points,
            name=name,
            verdict_points=manifest.verdict_points,
            base_rate=base_rate,
        )
        if manifest.collections is None:
            return cls(pooled, None, {})
        members = {
            member.value: Bench.make(
                member.calibration,
                member.operating_points,
                name=name,
                verdict_points=manifest.verdict_points,
                base_rate=base_rate,
                collection=member.value,
            )
            for member in manifest.collections.members
        }
        return cls(pooled, manifest.collections.field, members)

    def bench_of(self, item: PairText) -> Bench:
        """The bench of the item's collection; the pooled one for a value that is unknown or missing."""
        if self.field is None:
            return self.pooled
        value = collection_value(item.original, self.field)
        return self.pooled if value is None else self.members.get(value, self.pooled)


def collection_value(original: Any, field: str) -> str | None:
    """What a caller's document, or a Pair, says in a field; None where it says nothing.

    Args:
        original: of a Pair, its source or an entry of `fields`; of a document, an entry of its metadata, else, of a
            mapping, the key itself.
        field: name.
    """
    value: Any = None
    if isinstance(original, Pair):
        value = original.source if field == "source" else original.fields.get(field)
    elif isinstance(original, Document):
        value = original.metadata.get(field)
    else:
        is_mapping = isinstance(original, Mapping)
        for name in METADATA_NAMES:
            metadata = original.get(name) if is_mapping else getattr(original, name, None)
            if isinstance(metadata, Mapping) and metadata.get(field) is not None:
                value = metadata[field]
                break
        if value is None and is_mapping:
            value = original.get(field)
    return None if value is None else str(value)
