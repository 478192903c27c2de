"""What every dialect's request becomes before a model sees it, and what comes back. Records only."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from relgrade.grade.compress import CompressedDocument, SentenceBar, candidates
from relgrade.grade.documents import PairText
from relgrade.grade.evidence import JudgedText, evidence_positions
from relgrade.grade.panel import Panel
from relgrade.records import Grade, KeepPolicy
from relgrade.serve.hosted import HostedModel

OnError = Literal["keep_all", "drop_all", "raise"]


@dataclass(frozen=True, slots=True)
class ListAsk:
    """One query with its documents."""

    query: str
    items: tuple[PairText, ...]
    panel: Panel
    policy: KeepPolicy | None = None  # None: what is relevant is kept, no more and no less
    has_evidence: bool = False  # grades carry the sentences that speak for them
    bar: SentenceBar | None = None  # documents are compressed to the sentences that reach it; None: they are not
    spans_of: Callable[[Sequence[Grade]], Sequence[int]] | None = None  # which of the grades a dialect wants spans of

    @property
    def reads_sentences(self) -> bool:
        """Whether documents are read a second time."""
        return self.has_evidence or self.bar is not None or self.spans_of is not None

    def to_read(self, grades: Sequence[Grade]) -> list[int]:
        """Indices, ascending, of the documents that are read sentence by sentence, by the grades of all."""
        found: set[int] = set()
        if self.has_evidence:
            found.update(grades[i].index for i in evidence_positions(grades))
        if self.bar is not None:
            found.update(grades[i].index for i in candidates(grades, self.policy or KeepPolicy()))
        if self.spans_of is not None:
            found.update(grades[i].index for i in self.spans_of(grades))
        return sorted(found)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: lists that one model judges before one deadline."""

    model: HostedModel
    lists: tuple[ListAsk, ...]
    on_error: OnError = "raise"

    @property
    def n_documents(self) -> int:
        """Over all lists."""
        return sum(len(each.items) for each in self.lists)

    @property
    def reads_sentences(self) -> bool:
        """Whether any list is read a second time."""
        return any(each.reads_sentences for each in self.lists)


@dataclass(frozen=True, slots=True)
class Failing:
    """Why some documents, or sentences of documents, were not judged, and what was done with them."""

    policy: Literal["keep_all", "drop_all"]
    reason: str  # "deadline", "backend" or "overloaded"
    message: str


@dataclass(frozen=True, slots=True)
class ListAnswer:
    """The grades of one list. A document that was not judged has None in its place."""

    ask: ListAsk
    grades: tuple[Grade | None, ...]
    kept: tuple[int, ...]  # positions, ascending
    any_relevant_probability: float | None
    tokens: int  # of the documents and sentences, as far as they are read
    n_sentences: int = 0  # that were read
    judged: Mapping[int, JudgedText] = field(default_factory=dict)  # by position: documents with all their sentences
    compressed: Mapping[int, CompressedDocument] = field(default_factory=dict)  # by position
    without_evidence: tuple[int, ...] = ()  # positions whose sentences should have been judged and were not


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one request."""

    ask: Ask
    lists: tuple[ListAnswer, ...]
    failing: Failing | None  # None: every document was judged
    timings: "Timings" = field(default_factory=lambda: Timings())

    @property
    def tokens(self) -> int:
        """Over all lists."""
        return sum(each.tokens for each in self.lists)

    @property
    def n_sentences(self) -> int:
        """Over all lists."""
        return sum(each.n_sentences for each in self.lists)


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of a request went, in milliseconds."""

    encode_ms: float = 0.0
    queue_ms: float = 0.0  # until the first pair began
    run_ms: float = 0.0  # from there until the last pair was done
    decode_ms: float = 0.0
    n_cached: int = 0  # pairs that the cache knew
