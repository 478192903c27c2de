"""Keeps, of the documents that are kept, the sentences above a point: fewer tokens for the generator.

The idea is that of Provence (Chirkova et al. 2025, arXiv 2501.16214), which prunes and reranks with one trained model;
here each sentence is judged by the grader itself, see `grade.evidence`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self, overload

from relgrade.bundle import Manifest
from relgrade.encoding import render_document
from relgrade.errors import InvalidInput
from relgrade.grade import keep
from relgrade.grade.documents import PairText
from relgrade.grade.evidence import JudgedText, best_position, judge_sentences
from relgrade.grade.panel import Panel
from relgrade.grade.runtime import Runtime
from relgrade.records import Document, EvidenceSpan, Grade, KeepPolicy, OperatingPoint


@dataclass(frozen=True, slots=True)
class CompressedDocument:
    """A kept document with what is left of its text; the document itself is the caller's own and untouched."""

    grade: Grade  # of the whole document
    text: str  # its spans, joined by a space, or by a line break where one lay between them; blank if it was blank
    spans: tuple[tuple[int, int], ...]  # (start, end) in code points of the caller's text, ascending
    sentences: tuple[EvidenceSpan, ...]  # the kept ones, in the order of the text
    n_sentences: int  # of the whole text
    n_unread: int  # of them, not judged because the document has too many; none of these is kept
    tokens_before: int  # model tokens of the document, title included
    tokens_after: int  # of the title and the compressed text

    @property
    def document(self) -> Any:
        """The caller's own object."""
        return self.grade.document


@dataclass(frozen=True, slots=True)
class CompressedList(Sequence[CompressedDocument]):
    """The kept documents of one query, compressed, in the order of the call."""

    query: str
    items: tuple[CompressedDocument, ...]
    operating_point: OperatingPoint  # decided which documents are kept
    sentence_threshold: float | None  # decided which sentences are kept; None: those of the collections' own points
    bundle_hash: str
    any_relevant_probability: float | None = None  # as in `GradedList`, of all documents of the call
    grades: tuple[Grade, ...] = ()  # of all documents of the call, in its order, those that are not kept too

    @overload
    def __getitem__(self, position: int) -> CompressedDocument: ...
    @overload
    def __getitem__(self, position: slice) -> tuple[CompressedDocument, ...]: ...
    def __getitem__(self, position: int | slice) -> CompressedDocument | tuple[CompressedDocument, ...]:
        return self.items[position]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[CompressedDocument]:
        return iter(self.items)

    @property
    def texts(self) -> list[str]:
        """The compressed texts."""
        return [item.text for item in self.items]

    @property
    def documents(self) -> list[Any]:
        """The caller's own objects, uncompressed."""
        return [item.document for item in self.items]

    @property
    def tokens_before(self) -> int:
        """Model tokens of the kept documents before compression."""
        return sum(item.tokens_before for item in self.items)

    @property
    def tokens_after(self) -> int:
        """Model tokens of the kept documents after compression."""
        return sum(item.tokens_after for item in self.items)


@dataclass(frozen=True, slots=True)
class SentenceBar:
    """What a sentence must reach to be kept."""

    panel: Panel  # judges sentences, each by its document's collection
    threshold: float | None  # probability that is taken instead of the panel's point

    @property
    def told(self) -> float | None:
        """As `CompressedList.sentence_threshold`."""
        is_one = self.threshold is None and self.panel.field is None
        return self.panel.pooled.told_point.threshold if is_one else self.threshold

    @classmethod
    def of(
        cls, manifest: Manifest, *, own: str, point: Any = None, threshold: Any = None, base_rate: float | None = None
    ) -> Self:
        """The bar that a caller named, or the one that the bundle suggests.

        Args:
            manifest: of the bundle.
            own: name of the point that decides about documents.
            point: name of the point for sentences; None: that below which a verdict is "not relevant", or `own` where
                the bundle has no three-way verdict.
            threshold: probability in [0, 1], instead of a point.
            base_rate: as for `Panel.of`.

        Raises:
            InvalidInput: no such point, a threshold that is no probability, or both.
        """
        if point is not None and threshold is not None:
            raise InvalidInput("point and threshold both say which sentences are kept; give one of them")
        is_number = isinstance(threshold, int | float) and not isinstance(threshold, bool)
        if threshold is not None and not (is_number and 0.0 <= threshold <= 1.0):
            raise InvalidInput(f"threshold: a probability in [0, 1] was expected, got {threshold!r}")
        verdict = manifest.verdict_points
        name = point or (verdict.lower if verdict else own)
        panel = Panel.of(manifest, operating_point=name, base_rate=base_rate)
        return cls(panel, None if threshold is None else float(threshold))


def compress_kept(
    grades: Sequence[Grade],
    items: Sequence[PairText],
    runtime: Runtime,
    *,
    policy: KeepPolicy,
    bar: SentenceBar,
) -> tuple[CompressedDocument, ...]:
    """Choose documents by their grades and the policy, then sentences; `max_tokens` counts compressed texts.

    Args:
        grades: of all items, same order.
        items: the documents of the call.
        runtime: judges sentences and counts tokens.
        policy: as for `keep.choose`.
        bar: decides about sentences.

    Raises:
        GradingError: no finite logit for a sentence.
    """
    rows = candidates(grades, policy)
    judged = judge_sentences([items[i] for i in rows], runtime, panel=bar.panel)
    return compress_judged([grades[i] for i in rows], judged, runtime, policy=policy, bar=bar)


def compress_judged(
    grades: Sequence[Grade],
    judged: Sequence[JudgedText],
    runtime: Runtime,
    *,
    policy: KeepPolicy,
    bar: SentenceBar,
) -> tuple[CompressedDocument, ...]:
    """The second half of `compress_kept`, for documents whose sentences are judged already.

    Args:
        grades: of the `candidates`, in the order of the call.
        judged: the sentences of each.
        runtime: counts tokens.
        policy: as there.
        bar: as there; its panel judged the sentences.
    """
    chosen = [_choose(each, bar.threshold) for each in judged]
    texts = [render_document(Document(each.text, each.title)) for each in judged]
    shorter = [
        render_document(Document(join_spans(each.text, spans), each.title))
        for each, (spans, _) in zip(judged, chosen, strict=True)
    ]
    counts = runtime.count_tokens([*texts, *shorter])
    compressed = [
        CompressedDocument(
            grade=grade,
            text=join_spans(each.text, spans),
            spans=spans,
            sentences=sentences,
            n_sentences=len(each.sentences) + each.n_unread,
            n_unread=each.n_unread,
            tokens_before=counts[i],
            tokens_after=counts[len(texts) + i],
        )
        for i, (grade, each, (spans, sentences)) in enumerate(zip(grades, judged, chosen, strict=True))
    ]
    n_tokens = None if policy.max_tokens is None else [each.tokens_after for each in compressed]
    kept = keep.choose([each.grade for each in compressed], policy, n_tokens=n_tokens)
    return tuple(compressed[i] for i in kept)


def candidates(grades: Sequence[Grade], policy: KeepPolicy) -> list[int]:
    """Documents whose sentences must be known before the policy can choose: no others are read again."""
    if policy.max_tokens is None:
        return keep.choose(grades, policy)
    n_relevant = sum(grade.relevant for grade in grades)
    if policy.min_keep > n_relevant:  # a rejected one that does not fit gives way to the next
        return list(range(len(grades)))
    return [i for i, grade in enumerate(grades) if grade.relevant]


def _choose(
    judged: JudgedText, threshold: float | None
) -> tuple[tuple[tuple[int, int], ...], tuple[EvidenceSpan, ...]]:
    """Spans and sentences to keep: neighbours make one span, and the text's own title line is always one."""
    sentences = judged.sentences
    if not sentences:
        return (((0, len(judged.text)),) if judged.text else ()), ()
    passes = judged.passes if threshold is None else [each.probability >= threshold for each in sentences]
    kept = [i for i, is_kept in enumerate(passes) if is_kept] or [best_position(sentences)]
    spans = [] if judged.heading is None else [judged.heading]
    run_start = kept[0]
    for i, following in pairwise([*kept, len(sentences) + 1]):
        if following != i + 1:
            spans.append((sentences[run_start].start, sentences[i].end))
            run_start = following
    return tuple(spans), tuple(sentences[i] for i in kept)


def join_spans(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """The pieces of a text, joined by a space, or by a line break where one lay between them."""
    parts = []
    for number, (start, end) in enumerate(spans):
        if number:
            gap = text[spans[number - 1][1] : start]
            parts.append("\n" if "\n" in gap or "\r" in gap else " ")
        parts.append(text[start:end])
    return "".join(parts)
