"""Which sentences of a document carry its verdict: each is judged again, by the same model, as a small document.

A sentence is read under the document's title. Its score does not depend on the other sentences, and the grade of the
document not on any of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from relgrade.encoding import clean_text, render_document
from relgrade.grade.documents import PairText, to_document
from relgrade.grade.judging import chunked, judge
from relgrade.grade.panel import Panel
from relgrade.grade.runtime import Runtime
from relgrade.grade.sentences import split_sentences
from relgrade.records import Document, EvidenceSpan, Grade

# A document of this many sentences is several times what any window reads; it keeps a 10 MB document cheap.
MAX_SENTENCES = 512
CHUNK_SENTENCES = 256
_TITLE_MARK = "title: "  # as `render_document` writes it: the first line of a text that was rendered before


@dataclass(frozen=True, slots=True)
class JudgedText:
    """The caller's text of one document with all its judged sentences."""

    text: str
    title: str | None  # of the document itself, not of its text
    heading: tuple[int, int] | None  # a first line `title: ...` within the text
    sentences: tuple[EvidenceSpan, ...]  # in the order of the text
    n_unread: int  # sentences after the first `MAX_SENTENCES`, not judged
    passes: tuple[bool, ...]  # whether the point of the panel keeps each sentence


def judge_sentences(items: Sequence[PairText], runtime: Runtime, *, panel: Panel) -> list[JudgedText]:
    """Split documents into sentences and judge each.

    Args:
        items: pairs made of callers' documents, as `read_documents` returns them.
        runtime: gives the logits.
        panel: whose calibration and point apply, by the collection of each document.

    Raises:
        GradingError: no finite logit for a sentence; `index` is that of its document.
    """
    documents = [to_document(item.original) for item in items]
    headings = [_heading(document) for document in documents]
    spans = [
        _spans(document.text, heading[1] if heading else 0)
        for document, heading in zip(documents, headings, strict=True)
    ]
    units = [
        replace(item, text=_render(document, heading, start, end), is_blank=False)
        for item, document, heading, of_text in zip(items, documents, headings, spans, strict=True)
        for start, end in of_text[:MAX_SENTENCES]
    ]
    grades = iter([g for chunk in chunked(iter(units), CHUNK_SENTENCES) for g in judge(chunk, runtime, panel=panel)])
    judged = []
    for document, heading, of_text in zip(documents, headings, spans, strict=True):
        found = [next(grades) for _ in of_text[:MAX_SENTENCES]]
        sentences = tuple(
            EvidenceSpan(start, end, document.text[start:end], grade.probability, grade.logit)
            for (start, end), grade in zip(of_text, found, strict=False)
        )
        passes = tuple(grade.relevant for grade in found)
        n_unread = len(of_text) - len(sentences)
        judged.append(JudgedText(document.text, document.title, heading, sentences, n_unread, passes))
    return judged


def with_evidence(grades: Sequence[Grade], items: Sequence[PairText], runtime: Runtime, *, panel: Panel) -> list[Grade]:
    """The same grades with their evidence: best first, what the point keeps, or else the best sentence.

    A document that is not relevant has none, and its sentences are not judged.
    """
    rows = [i for i, grade in enumerate(grades) if grade.relevant or grade.verdict != "not relevant"]
    judged = dict(zip(rows, judge_sentences([items[i] for i in rows], runtime, panel=panel), strict=True))
    return [replace(grade, evidence=_best(judged[i]) if i in judged else ()) for i, grade in enumerate(grades)]


def best_position(sentences: Sequence[EvidenceSpan]) -> int:
    """Position of the sentence with the highest logit, the first of equals."""
    return max(range(len(sentences)), key=lambda i: sentences[i].logit)


def _best(judged: JudgedText) -> tuple[EvidenceSpan, ...]:
    kept = [sentence for sentence, passes in zip(judged.sentences, judged.passes, strict=True) if passes]
    if not kept and judged.sentences:
        kept = [judged.sentences[best_position(judged.sentences)]]
    return tuple(sorted(kept, key=lambda sentence: -sentence.logit))


def _spans(text: str, start: int) -> list[tuple[int, int]]:
    # NUL reads as a space, so that no sentence is blank for the model; each character stays one character.
    body = split_sentences(clean_text(text[start:]))
    return [(start + first, start + last) for first, last in body]


def _heading(document: Document) -> tuple[int, int] | None:
    """The first line of a text that carries its own title, as a pair file does; None where no text would be left."""
    text = document.text
    end = text.find("\n")
    is_heading = text.startswith(_TITLE_MARK) and end > 0 and clean_text(text[end:]).strip() != ""
    return (0, end) if is_heading and not document.title else None


def _render(document: Document, heading: tuple[int, int] | None, start: int, end: int) -> str:
    title = document.text[len(_TITLE_MARK) : heading[1]] if heading else document.title
    return render_document(Document(document.text[start:end], title))
