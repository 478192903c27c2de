"""Which sentences of a document carry its verdict: each is judged again, by the same model, as a small document.

A sentence is read under the document's title. Its score does not depend on the other sentences, and the grade of the
document not on any of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from relgrade.encoding import TITLE_MARK, clean_text, render_document
from relgrade.grade.cascade_runtime import full_of
from relgrade.grade.documents import PairText, to_document
from relgrade.grade.judging import chunked, judge
from relgrade.grade.panel import Panel
from relgrade.grade.runtime import Runtime
from relgrade.grade.sentences import split_sentences
from relgrade.records import Document, EvidenceSpan, Grade

MAX_SENTENCES = 8192  # of one document that are judged: about a megabyte of text; more is told in `n_unread`
CHUNK_SENTENCES = 256


@dataclass(frozen=True, slots=True)
class SplitText:
    """The sentences of one document, not judged yet."""

    document: Document  # the caller's, as ours
    heading: tuple[int, int] | None  # a first line `title: ...` within the text
    spans: tuple[tuple[int, int], ...]  # of the sentences that are judged
    n_unread: int  # sentences after them
    units: tuple[PairText, ...]  # each of `spans` as the small document that the model reads


@dataclass(frozen=True, slots=True)
class JudgedText:
    """The caller's text of one document with all its judged sentences."""

    text: str
    title: str | None  # of the document itself, not of its text
    heading: tuple[int, int] | None  # a first line `title: ...` within the text
    sentences: tuple[EvidenceSpan, ...]  # in the order of the text
    n_unread: int  # sentences after the first `MAX_SENTENCES`, not judged
    passes: tuple[bool, ...]  # whether the point of the panel keeps each sentence


def split_text(item: PairText) -> SplitText:
    """The sentences of a pair's document; the pair is one that `read_documents` or `read_pair` returned."""
    document = to_document(item.original)
    heading = _heading(document)
    spans = _spans(document.text, heading[1] if heading else 0)
    read = tuple(spans[:MAX_SENTENCES])
    units = tuple(replace(item, text=_render(document, heading, start, end), is_blank=False) for start, end in read)
    return SplitText(document, heading, read, len(spans) - len(read), units)


def judge_texts(texts: Sequence[SplitText], runtime: Runtime, *, panel: Panel) -> list[JudgedText]:
    """Judge each sentence of split documents.

    Args:
        texts: as `split_text` returns them.
        runtime: gives the logits; it is asked for the units of all texts, in order, in chunks.
        panel: whose calibration and point apply, by the collection of each document.

    Raises:
        GradingError: no finite logit for a sentence; `index` is that of its document.
    """
    runtime = full_of(runtime)
    units = (unit for each in texts for unit in each.units)
    grades = iter([grade for chunk in chunked(units, CHUNK_SENTENCES) for grade in judge(chunk, runtime, panel=panel)])
    judged = []
    for each in texts:
        text, found = each.document.text, [next(grades) for _ in each.units]
        sentences = tuple(
            EvidenceSpan(start, end, text[start:end], grade.probability, grade.logit)
            for (start, end), grade in zip(each.spans, found, strict=True)
        )
        passes = tuple(grade.relevant for grade in found)
        judged.append(JudgedText(text, each.document.title, each.heading, sentences, each.n_unread, passes))
    return judged


def judge_sentences(items: Sequence[PairText], runtime: Runtime, *, panel: Panel) -> list[JudgedText]:
    """Split documents into sentences and judge each; as `judge_texts`."""
    return judge_texts([split_text(item) for item in items], runtime, panel=panel)


def evidence_positions(grades: Sequence[Grade]) -> list[int]:
    """Positions of the grades whose documents have evidence: those that are relevant, or unsure."""
    return [i for i, grade in enumerate(grades) if grade.relevant or grade.verdict != "not relevant"]


def with_evidence(grades: Sequence[Grade], items: Sequence[PairText], runtime: Runtime, *, panel: Panel) -> list[Grade]:
    """The same grades with their evidence: best first, what the point keeps, or else the best sentence.

    A document that is not relevant has none, and its sentences are not judged.
    """
    rows = evidence_positions(grades)
    judged = dict(zip(rows, judge_sentences([items[i] for i in rows], runtime, panel=panel), strict=True))
    return [replace(grade, evidence=carrying(judged[i]) if i in judged else ()) for i, grade in enumerate(grades)]


def carrying(judged: JudgedText) -> tuple[EvidenceSpan, ...]:
    """The sentences that carry a verdict: those that the point keeps, or else the best one; best first."""
    kept = [sentence for sentence, passes in zip(judged.sentences, judged.passes, strict=True) if passes]
    if not kept and judged.sentences:
        kept = [judged.sentences[best_position(judged.sentences)]]
    return tuple(sorted(kept, key=lambda sentence: -sentence.logit))


def best_position(sentences: Sequence[EvidenceSpan]) -> int:
    """Position of the sentence with the highest logit, the first of equals."""
    return max(range(len(sentences)), key=lambda i: sentences[i].logit)


def _spans(text: str, start: int) -> list[tuple[int, int]]:
    # NUL reads as a space, so that no sentence is blank for the model; each character stays one character.
    body = split_sentences(clean_text(text[start:]))
    return [(start + first, start + last) for first, last in body]


def _heading(document: Document) -> tuple[int, int] | None:
    """The first line of a text that carries its own title, as a pair file does; None where no text would be left."""
    text = document.text
    end = text.find("\n")
    is_heading = text.startswith(TITLE_MARK) and end > 0 and clean_text(text[end:]).strip() != ""
    return (0, end) if is_heading and not document.title else None


def _render(document: Document, heading: tuple[int, int] | None, start: int, end: int) -> str:
    title = document.text[len(TITLE_MARK) : heading[1]] if heading else document.title
    return render_document(Document(document.text[start:end], title))
