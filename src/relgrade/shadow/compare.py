"""Puts our verdict beside each logged one: grades the pairs of a log, query by query, and times it."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relgrade.errors import GradingError
from relgrade.probability import log_odds
from relgrade.records import Document, Grade, GradedList
from relgrade.shadow.verdicts import LoggedVerdict, OwnVerdict


@dataclass(frozen=True, slots=True)
class Compared:
    """One pair, with what either grader said of it."""

    logged: LoggedVerdict
    own: OwnVerdict

    @property
    def is_whole(self) -> bool:
        """Whether both gave a verdict; an error of either is no disagreement."""
        return self.logged.is_relevant is not None and self.own.is_relevant is not None

    @property
    def is_agreed(self) -> bool:
        """Whether both said the same; false where one said nothing."""
        return self.is_whole and self.logged.is_relevant == self.own.is_relevant


def replay(
    verdicts: Iterable[LoggedVerdict], grader: Any, *, on_query: Callable[[int], None] | None = None
) -> list[Compared]:
    """Grade what the LLM graded, each pair once, and keep what a live run graded already.

    Args:
        verdicts: of a log, in its order.
        grader: with `grade(query, documents)`.
        on_query: told the number of documents after each query.

    Returns:
        One entry per verdict, grouped by query in the order of their first verdict.
    """
    queries: dict[str, list[LoggedVerdict]] = {}
    for verdict in verdicts:
        queries.setdefault(verdict.query, []).append(verdict)
    compared = []
    for query, logged in queries.items():
        own = _grade_query(query, logged, grader)
        compared += [Compared(each, each.own or own[_text_of(each)]) for each in logged]
        if on_query is not None:
            on_query(len(logged))
    return compared


def own_verdict(grade: Grade, *, threshold: float, latency_s: float | None) -> OwnVerdict:
    """Our verdict with its distance to the threshold, both on the scale of calibrated log-odds."""
    return OwnVerdict(
        is_relevant=grade.relevant,
        probability=grade.probability,
        margin=float(log_odds(grade.probability) - log_odds(threshold)),
        latency_s=latency_s,
    )


def _grade_query(
    query: str, logged: Sequence[LoggedVerdict], grader: Any
) -> Mapping[tuple[str, str | None], OwnVerdict]:
    texts = {_text_of(each): each for each in logged if each.own is None}
    documents = [Document(each.document, each.title, each.doc_id) for each in texts.values()]
    if not documents:
        return {}
    start = time.perf_counter()
    try:
        graded: GradedList = grader.grade(query, documents)
    except GradingError:
        return {text: _grade_alone(query, document, grader) for text, document in zip(texts, documents, strict=True)}
    latency_s = (time.perf_counter() - start) / len(documents)
    threshold = graded.operating_point.threshold
    return {
        text: own_verdict(grade, threshold=threshold, latency_s=latency_s)
        for text, grade in zip(texts, graded.grades, strict=True)
    }


def _grade_alone(query: str, document: Document, grader: Any) -> OwnVerdict:
    """One at a time, after the list failed: the one that has no number must not cost the others theirs."""
    try:
        graded = grader.grade(query, [document])
    except GradingError as error:
        return OwnVerdict(is_relevant=None, error=str(error))
    return own_verdict(graded[0], threshold=graded.operating_point.threshold, latency_s=None)


def _text_of(verdict: LoggedVerdict) -> tuple[str, str | None]:
    return verdict.document, verdict.title
