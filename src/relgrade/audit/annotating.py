"""Annotating a sample: which case is next for whom, and what an answer, a skip or an undo does.

It knows nothing of HTTP. The page and the tests drive it alike.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from relgrade.audit.annotations import SKIPPED, AnnotationLog, Desk
from relgrade.audit.cases import Case
from relgrade.audit.guideline import Guideline
from relgrade.errors import InvalidInput

_RECENT = 50  # answers whose times say how long the rest will take
_MAX_SECONDS = 300.0  # longer than this a person was away


class StaleCase(InvalidInput):
    """The answer is about another case than the one that is next: a key pressed twice, or a second window."""


@dataclass(frozen=True, slots=True)
class DeskState:
    """What a person sees: where they stand and the next case, None when all are done."""

    annotator: str
    n_cases: int
    n_answered: int
    n_skipped: int
    can_undo: bool
    seconds_left: float | None  # at the person's own median pace; None before the fifth answer
    case: Case | None


class Annotating:
    """A sample, the people who judge it, and the log of what they do. Safe to use from several threads.

    Args:
        cases: in the order they are shown.
        guideline: what the answers mean.
        log: open; closing it is the caller's.
        annotators: who may answer.

    Raises:
        InvalidInput: no annotator, a blank name, or a log that answers on another scale.
    """

    def __init__(
        self, cases: Sequence[Case], guideline: Guideline, *, log: AnnotationLog, annotators: Sequence[str]
    ) -> None:
        self.annotators = tuple(dict.fromkeys(" ".join(name.split()) for name in annotators))
        if not all(self.annotators) or not self.annotators:
            raise InvalidInput("annotators need names: who answers is part of the answer")
        self.guideline = guideline
        self._cases = tuple(cases)
        self._by_name = {case.case: case for case in cases}
        self._log = log
        self._lock = threading.Lock()
        for desk in log.desks.values():
            for answer in desk.answers:
                if answer.case in self._by_name and answer.scale != guideline.scale:
                    raise InvalidInput(
                        f"the file of annotations holds {answer.scale} answers to this sample, and rubric "
                        f"{guideline.rubric!r} asks for {guideline.scale} ones; write to another file"
                    )

    def state(self, annotator: str) -> DeskState:
        """Where a person stands.

        Raises:
            InvalidInput: nobody of that name annotates here.
        """
        with self._lock:
            return self._state(annotator)

    def answer(self, annotator: str, case: str, *, value: int, seconds: float | None = None) -> DeskState:
        """Store an answer and go on; when this returns the disk has it.

        Raises:
            StaleCase: `case` is not the next one of this person.
            InvalidInput: no such answer on this scale, or no such person.
            OutputError: it could not be stored, and is not counted.
        """
        if value not in {choice.value for choice in self.guideline.choices}:
            raise InvalidInput(f"{value!r} is no answer on the {self.guideline.scale} scale")
        with self._lock:
            found = self._next(annotator, case)
            self._log.append(annotator, "answer", case=found, answer=value, scale=self.guideline.scale, seconds=seconds)
            return self._state(annotator)

    def skip(self, annotator: str, case: str, *, seconds: float | None = None) -> DeskState:
        """Put a case aside; errors as in `answer`."""
        with self._lock:
            self._log.append(annotator, "skip", case=self._next(annotator, case), seconds=seconds)
            return self._state(annotator)

    def undo(self, annotator: str) -> DeskState:
        """Take back the last answer or skip, of earlier sittings too; its case is next again."""
        with self._lock:
            if self._desk(annotator).can_undo:
                self._log.append(annotator, "undo")
            return self._state(annotator)

    def revisit(self, annotator: str) -> DeskState:
        """Take up again what was skipped."""
        with self._lock:
            if self._desk(annotator).n_skipped:
                self._log.append(annotator, "revisit")
            return self._state(annotator)

    def _desk(self, annotator: str) -> Desk:
        if annotator not in self.annotators:
            raise InvalidInput(f"nobody called {annotator!r:.60} annotates here; known: {', '.join(self.annotators)}")
        return self._log.desk(annotator)

    def _next(self, annotator: str, case: str) -> Case:
        expected = self._state(annotator).case
        if expected is None or expected.case != case:
            raise StaleCase("another case is next; nothing was stored")
        return expected

    def _state(self, annotator: str) -> DeskState:
        desk = self._desk(annotator)
        here = {name: answer for name, answer in desk.done.items() if name in self._by_name}
        answered = [answer for answer in here.values() if answer is not SKIPPED]
        paces = sorted(min(each.seconds, _MAX_SECONDS) for each in answered[-_RECENT:] if each.seconds is not None)
        n_open = len(self._cases) - len(here)
        return DeskState(
            annotator=annotator,
            n_cases=len(self._cases),
            n_answered=len(answered),
            n_skipped=len(here) - len(answered),
            can_undo=desk.can_undo,
            seconds_left=paces[len(paces) // 2] * n_open if len(paces) >= 5 else None,
            case=next((case for case in self._cases if case.case not in here), None),
        )
