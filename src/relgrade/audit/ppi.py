"""Shares among all pairs, from the teacher's labels of all and people's answers to some: prediction-powered inference.

The teacher's mean is cheap and off; what people say about the drawn pairs tells by how much. estimate = l mean(teacher)
+ weighted mean(people - l teacher) over the drawn pairs, weights 1 / inclusion probability. It is right however wrong
the teacher is; a good teacher only makes the interval narrow. Sources: Angelopoulos et al. 2023, "Prediction-powered
inference", Science 382; l by least variance: Angelopoulos, Duchi and Zrnic 2023, "PPI++", arXiv:2311.01453; as ARES
uses it for RAG: Saad-Falcon et al. 2024, arXiv:2311.09476. The weights make the second term the ratio estimator of
survey sampling (Hajek 1971).

The interval is clustered by query: a query's pairs, drawn or not, move the estimate together. Its variance is the sum
over queries of their squared influence (linearisation; Binder 1983), with Student's quantile for the queries drawn.
What it does not cover: queries of another kind, and what people get wrong.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relgrade.audit.clusters import Interval, student_quantile
from relgrade.errors import InvalidInput, UndefinedMeasure

MIN_MISSES = 5  # misses of the teacher that people must have found before the width of an interval means much


@dataclass(frozen=True, slots=True)
class CorrectedShare:
    """A share of all pairs, corrected for what the teacher gets wrong."""

    corrected: Interval
    people_alone: Interval  # from the drawn pairs without the teacher: what the correction is narrower than
    teacher_alone: float | None  # what one would have reported without an audit
    power: float | None  # l: 0 leaves the teacher out, 1 trusts it as far as one can
    n_misses: int  # judged pairs on which people and the teacher's verdict differ

    @property
    def is_thin(self) -> bool:
        """True when too few misses were seen: the interval is likely too narrow."""
        return self.n_misses < MIN_MISSES


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """All pairs with the teacher's labels, and those that people judged. Arrays are not changed."""

    teacher: NDArray[np.float64]  # P(relevant) in [0, 1], shape (n_pairs,)
    query: NDArray[np.int64]  # index of the pair's query, shape (n_pairs,)
    judged: NDArray[np.int64]  # indices of the judged pairs, each once, shape (n_judged,)
    people: NDArray[np.float64]  # share of people who said relevant, shape (n_judged,)
    weights: NDArray[np.float64]  # 1 / inclusion probability, shape (n_judged,)

    def __post_init__(self) -> None:
        n_judged = self.judged.size
        if self.teacher.shape != self.query.shape or {self.people.size, self.weights.size} != {n_judged}:
            raise InvalidInput("teacher and query need one entry a pair, people and weights one a judged pair")
        if n_judged and not (self.weights > 0.0).all():
            raise InvalidInput("weights are 1 / inclusion probability and so above 0")
        if np.unique(self.judged).size != n_judged:
            raise InvalidInput("a judged pair stands twice; join the answers of several people first")

    def among(self, is_in: NDArray[np.bool_]) -> "Audited":
        """The pairs of a domain alone, such as those a student keeps; shape (n_pairs,)."""
        place = np.cumsum(is_in) - 1
        stays = is_in[self.judged]
        return Audited(
            teacher=self.teacher[is_in],
            query=self.query[is_in],
            judged=place[self.judged[stays]],
            people=self.people[stays],
            weights=self.weights[stays],
        )

    def where(self, is_in: NDArray[np.bool_]) -> "Audited":
        """All pairs, those outside counted as not relevant: relevant and in the domain, of all."""
        inside = is_in.astype(np.float64)
        return Audited(
            teacher=self.teacher * inside,
            query=self.query,
            judged=self.judged,
            people=self.people * inside[self.judged],
            weights=self.weights,
        )


def share_relevant(audited: Audited, *, power: float | None = None) -> CorrectedShare:
    """Share of the pairs that people would call relevant.

    Args:
        audited: the pairs and the answers.
        power: l in [0, 1]; None: the one of least variance.

    Raises:
        UndefinedMeasure: there are no pairs, or none was judged.
    """
    with_teacher, people_alone = _influence(audited, power=power), _influence(audited, power=0.0)
    n_misses = int(((audited.teacher[audited.judged] >= 0.5) != (audited.people >= 0.5)).sum())
    return CorrectedShare(
        corrected=_interval(with_teacher, audited),
        people_alone=_interval(people_alone, audited),
        teacher_alone=float(audited.teacher.mean()),
        power=with_teacher.power,
        n_misses=n_misses,
    )


def share_found(audited: Audited, is_kept: NDArray[np.bool_], *, power: float | None = None) -> CorrectedShare:
    """Of the pairs that people would call relevant, the share that is kept: a student's recall.

    Args:
        audited: the pairs and the answers.
        is_kept: shape (n_pairs,).
        power: as in `share_relevant`, for both terms of the ratio.

    Raises:
        UndefinedMeasure: nothing was judged, or nothing seems relevant.
    """
    kept = audited.where(is_kept)
    found = {value: _ratio(_influence(kept, power=value), _influence(audited, power=value)) for value in (power, 0.0)}
    total = float(audited.teacher.sum())
    teacher_alone = float(kept.teacher.sum()) / total if total > 0.0 else None
    n_misses = int(((audited.teacher[audited.judged] >= 0.5) != (audited.people >= 0.5)).sum())
    intervals = {value: _interval(each, audited) for value, each in found.items()}
    return CorrectedShare(intervals[power], intervals[0.0], teacher_alone, found[power].power, n_misses)


@dataclass(frozen=True, slots=True)
class _Influence:
    value: float
    by_query: NDArray[np.float64]  # what each query of the frame moves the value by, shape (n_queries,)
    power: float | None


def _influence(audited: Audited, *, power: float | None) -> _Influence:
    if audited.teacher.size == 0 or audited.judged.size == 0:
        raise UndefinedMeasure("the share is undefined: no pairs there, or people judged none of them")
    n_queries = int(audited.query.max()) + 1
    query, share = audited.query[audited.judged], audited.weights / audited.weights.sum()
    teacher, people = audited.teacher[audited.judged], audited.people
    mean_people, mean_judged = float(share @ people), float(share @ teacher)
    mean_all = float(audited.teacher.mean())
    # The influence is linear in l: a + l b, and so least squares finds the l of least variance.
    a = np.bincount(query, weights=share * (people - mean_people), minlength=n_queries)
    b = np.bincount(audited.query, weights=(audited.teacher - mean_all) / audited.teacher.size, minlength=n_queries)
    b -= np.bincount(query, weights=share * (teacher - mean_judged), minlength=n_queries)
    if power is None:
        spread = float(b @ b)
        power = float(np.clip(-(a @ b) / spread, 0.0, 1.0)) if spread > 0.0 else 0.0
    return _Influence(mean_people + power * (mean_all - mean_judged), a + power * b, power)


def _ratio(part: _Influence, whole: _Influence) -> _Influence:
    if not whole.value > 0.0:
        raise UndefinedMeasure("the share found is undefined: nothing seems relevant")
    value = part.value / whole.value
    return _Influence(value, (part.by_query - value * whole.by_query) / whole.value, part.power)


def _interval(influence: _Influence, audited: Audited) -> Interval:
    n_queries = int(np.unique(audited.query[audited.judged]).size)
    value = min(max(influence.value, 0.0), 1.0)
    if n_queries < 2:
        return Interval(value, None, None, n_queries, audited.judged.size)
    variance = float((influence.by_query**2).sum()) * n_queries / (n_queries - 1)
    half = student_quantile(n_queries - 1) * variance**0.5
    low, high = max(influence.value - half, 0.0), min(influence.value + half, 1.0)
    return Interval(value, min(low, value), max(high, value), n_queries, audited.judged.size)
