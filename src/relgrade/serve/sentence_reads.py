"""The second reading of a request: the sentences of the documents that its answer shows evidence of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from relgrade.errors import GradingError
from relgrade.grade.compress import CompressedDocument, candidates, compress_judged
from relgrade.grade.documents import PairText
from relgrade.grade.evidence import JudgedText, SplitText, carrying, evidence_positions, judge_texts
from relgrade.grade.panel import Panel
from relgrade.grade.runtime import Runtime
from relgrade.records import Grade, KeepPolicy
from relgrade.serve.asking import ListAsk
from relgrade.serve.reads import KnownRuntime, Reads


@dataclass(eq=False)
class SentenceReads:
    """Split documents, by their row in the request, and their sentences as pairs."""

    texts: Mapping[int, SplitText]
    units_of: Mapping[int, range]  # rows of `reads` that are the sentences of a document
    reads: Reads

    def is_done(self, row: int) -> bool:
        """Whether all sentences of a document were read, with or without success."""
        return all(self.reads.is_done(unit) for unit in self.units_of[row])

    def judged(self, row: int, panel: Panel) -> JudgedText | None:
        """A document with all its sentences; None where one has no finite logit, or was not read."""
        readings = [self.reads.reading(unit) for unit in self.units_of[row]]
        found = [reading for reading in readings if reading is not None]
        if len(found) < len(readings):
            return None
        try:
            return judge_texts([self.texts[row]], KnownRuntime(found), panel=panel)[0]
        except GradingError:  # a cache that says what no model can
            return None

    def tokens(self, row: int) -> int:
        """Of all sentences of a document."""
        return sum(self.reads.tokens[unit] for unit in self.units_of[row])


def units_of_texts(texts: Mapping[int, SplitText]) -> tuple[list[PairText], dict[int, range]]:
    """The sentences of all documents as pairs, and which of them are whose."""
    units: list[PairText] = []
    places: dict[int, range] = {}
    for row, text in texts.items():
        places[row] = range(len(units), len(units) + len(text.units))
        units.extend(text.units)
    return units, places


def grade_with_evidence(grade: Grade, judged: JudgedText | None) -> Grade:
    """The grade with the sentences that carry it; `evidence` stays None where they should be known and are not."""
    if not evidence_positions([grade]):
        return replace(grade, evidence=())
    return grade if judged is None else replace(grade, evidence=carrying(judged))


def compress_list(
    each: ListAsk, grades: Sequence[Grade], sentences: SentenceReads | None, runtime: Runtime, *, first_row: int
) -> tuple[dict[int, CompressedDocument], list[int]]:
    """The kept documents of a list, compressed, and those that are kept whole as their sentences are not known.

    Args:
        each: asks for compression.
        grades: of the documents that were judged.
        sentences: None where none was read.
        runtime: counts tokens.
        first_row: of the list in the request.
    """
    assert each.bar is not None, "the caller sees to it"
    policy = each.policy or KeepPolicy()
    known: list[Grade] = []
    texts: list[JudgedText] = []
    whole: list[int] = []
    for grade in (grades[i] for i in candidates(grades, policy)):
        judged = None if sentences is None else sentences.judged(first_row + grade.index, each.bar.panel)
        if judged is not None:
            known.append(grade)
            texts.append(judged)
        elif grade.relevant:
            whole.append(grade.index)
    kept = compress_judged(known, texts, runtime, policy=policy, bar=each.bar)
    return {document.grade.index: document for document in kept}, whole
