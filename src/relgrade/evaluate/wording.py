"""Sentences of a report: the verdict first, and what to know before believing a number."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from relgrade.evaluate.confidence import Reliability
from relgrade.evaluate.evaluation import Evaluation
from relgrade.evaluate.intervals import Estimate
from relgrade.evaluate.rows import Floats, Rows

COARSE = 0.05  # a noise floor above this hides errors that would matter
FEW_QUERIES = 20  # below this a percentile interval is known to be too narrow


class Compared(Protocol):
    """A measured baseline."""

    @property
    def name(self) -> str:
        """Of the baseline."""
        ...

    @property
    def ap_difference(self) -> Estimate | None:
        """Average precision of the grader minus this one's."""
        ...


def percent(value: Estimate) -> str:
    """`77.5 % (74.2 to 80.6)`, or `unknown`."""
    if value.value is None:
        return "unknown"
    text = f"{100 * value.value:.1f} %"
    return (
        text if value.low is None or value.high is None else f"{text} ({100 * value.low:.1f} to {100 * value.high:.1f})"
    )


def summary_sentences(
    grader: Evaluation, baselines: Sequence[Compared], reliability: Reliability | None
) -> Iterator[str]:
    """What the grader did, in order of importance."""
    yield _verdict_sentence(grader)
    if grader.losing_all.value is not None:
        yield f"{percent(grader.losing_all)} of the queries with a relevant document lose every one."
    if grader.false_keep.value is not None:
        yield (
            f"Of the {grader.false_keep.n_queries:,} queries without a relevant document, "
            f"{percent(grader.false_keep)} keep something."
        )
    for baseline in baselines:
        difference = baseline.ap_difference
        if baseline.name != "keep everything" and difference is not None and difference.value is not None:
            yield f"Average precision is {_against(difference)} that of {baseline.name}."
    if reliability is not None:
        yield _reliability_sentence(reliability)


def _verdict_sentence(grader: Evaluation) -> str:
    if grader.precision.value is None and grader.recall.value is None:
        return f"No verdict can be judged here: {grader.precision.reason}; {grader.recall.reason}."
    if grader.precision.value is None:
        return f"It keeps nothing, so it finds {percent(grader.recall)} of the relevant documents."
    if grader.recall.value is None:
        return f"Nothing here is relevant, so whatever it keeps is wrong: precision {percent(grader.precision)}."
    return (
        f"It keeps {percent(grader.recall)} of the relevant documents; of what it keeps, "
        f"{percent(grader.precision)} is relevant."
    )


def _against(difference: Estimate) -> str:
    value, low, high = difference.value or 0.0, difference.low, difference.high
    size = f"{abs(value):.3f} {'above' if value >= 0 else 'below'}"
    if low is None or high is None:
        return size
    if low <= 0.0 <= high:
        return f"not clearly different ({value:+.3f}, {low:+.3f} to {high:+.3f}) from"
    return f"{size} ({low:+.3f} to {high:+.3f})"


def _reliability_sentence(reliability: Reliability) -> str:
    error, floor = reliability.calibration_error.value or 0.0, reliability.noise_floor
    if not reliability.is_within_noise:
        return (
            f"Its probabilities are off by {error:.3f} on average; exact ones would show {floor.mean:.3f} by chance "
            f"(up to {floor.high:.3f})."
        )
    text = f"Its calibration error, {error:.3f}, is one that exact probabilities show by chance ({floor.mean:.3f})"
    if floor.mean > COARSE:
        return f"{text}; so few pairs could not tell a good calibration from a poor one."
    return f"{text}: nothing here speaks against them."


def notes_on(rows: Rows, scores: Floats | None) -> Iterator[str]:
    """What limits the numbers."""
    if rows.is_by_query and rows.n_queries < FEW_QUERIES:
        yield (
            f"Only {rows.n_queries} queries: with fewer than {FEW_QUERIES} the intervals are too narrow and no number "
            "here should decide anything."
        )
    if not rows.is_by_query:
        yield (
            "The rows carry no query ids, so blocks of consecutive rows stand in for queries, and what is counted by "
            "query is left out."
        )
    if rows.relevant.all() or not rows.relevant.any():
        kind = "relevant" if rows.relevant.all() else "irrelevant"
        yield f"Every row is labelled {kind}: what compares relevant with irrelevant rows has no value."
    if scores is not None and bool(np.all(scores == scores[0])):
        yield "All scores are equal: the ranking says nothing, and every verdict is the same."
