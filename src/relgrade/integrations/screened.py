"""What became of the documents of one query, by position, and what an adapter notes of it in its copies."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from relgrade.grade.compress import CompressedDocument
from relgrade.records import Grade

EVIDENCE_KEY = "relgrade_evidence"  # of metadata: sentences with start, end, text, probability and logit, best first
SPANS_KEY = "relgrade_spans"  # of metadata: [start, end] of what is left of a compressed text, in the text it was


@dataclass(frozen=True, slots=True)
class Screened:
    """What became of one query's documents. Every position of the call is in `kept` or in `rejected`."""

    kept: tuple[int, ...]  # positions, in the order to hand on
    rejected: tuple[int, ...]  # positions, ascending
    grades: tuple[Grade | None, ...]  # one per position; None: not told, see `Screen`
    error: str | None = None  # why documents were not judged: all of them, or some on a server that failed half way
    bundle_hash: str | None = None  # which grader said so; None where nothing was judged
    operating_point: str | None = None  # which threshold decided
    has_evidence: bool = False  # notes tell the sentences that carry a verdict
    compressed: Mapping[int, CompressedDocument] | None = None  # by position, of those kept; None: nothing was

    @property
    def is_any_relevant(self) -> bool:
        """Whether a document that was kept is relevant, or was kept because the grader failed."""
        kept = [self.grades[i] for i in self.kept]
        return any(self.error is not None if grade is None else grade.relevant for grade in kept)

    def notes(self, position: int) -> dict[str, Any]:
        """Fields for the metadata of a copy; never of the caller's own object.

        `relevance_score` is the calibrated probability, the name that other rerankers use too. All are flat, of types
        that any store takes, but for evidence and spans, which are there where they were asked for.
        """
        grade = self.grades[position]
        if grade is None and self.error is not None:
            return {"relgrade_error": self.error}
        if grade is None:
            return {"relgrade_bundle": self.bundle_hash, "relgrade_point": self.operating_point}
        return {
            "relevance_score": grade.probability,
            "relevance_verdict": grade.verdict,
            "relgrade_truncated": grade.truncated,
            "relgrade_point": grade.operating_point,
            "relgrade_bundle": self.bundle_hash,
            **_notes_of_window(grade),
            **self._notes_of_sentences(position, grade),
        }

    def text(self, position: int) -> str | None:
        """What takes the place of a kept document's text; None: it stays."""
        item = (self.compressed or {}).get(position)
        return None if item is None else item.text

    def evidence(self, position: int) -> list[dict[str, Any]] | None:
        """The sentences of a document that carry its verdict, or that compression left; None where they are unknown."""
        grade = self.grades[position]
        if grade is None:
            return None
        spans = grade.evidence
        if self.compressed is not None:  # such a call reads the sentences of what it keeps, and of nothing else
            item = self.compressed.get(position)
            spans = () if item is None else item.sentences
            if item is not None and not spans and item.text.strip():  # kept whole, as they could not be read
                return None
        return None if spans is None else [asdict(span) for span in sorted(spans, key=lambda span: -span.logit)]

    def _notes_of_sentences(self, position: int, grade: Grade) -> dict[str, Any]:
        notes: dict[str, Any] = {}
        if self.has_evidence:
            notes[EVIDENCE_KEY] = self.evidence(position)
            if notes[EVIDENCE_KEY] is None:
                notes["relgrade_error"] = self.error
        item = (self.compressed or {}).get(position)
        if item is not None:
            notes[SPANS_KEY] = [list(span) for span in item.spans]
            notes |= {"relgrade_tokens_before": item.tokens_before, "relgrade_tokens_after": item.tokens_after}
        return notes

    def summary(self) -> dict[str, Any]:
        """Counts and what decided, for events, states and logs; JSON."""
        return {
            "n_kept": len(self.kept),
            "n_rejected": len(self.rejected),
            "any_relevant": self.is_any_relevant,
            "operating_point": self.operating_point,
            "bundle_hash": self.bundle_hash,
            "error": self.error,
        }


def _notes_of_window(grade: Grade) -> dict[str, int]:
    """Of a document too long to be read at once, where the part lies that decided."""
    if grade.best_window is None:
        return {}
    start, end = grade.best_window
    return {"relgrade_window_start": start, "relgrade_window_end": end}
