"""What every dialect's request becomes before a model sees it, and what comes back. Records only."""

from dataclasses import dataclass, field
from typing import Literal

from relgrade.grade.documents import PairText
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


@dataclass(frozen=True, slots=True)
class Failing:
    """Why some documents were not judged, and what was done with them."""

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
    tokens: int  # of the documents, as far as they are read


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


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of a request went, in milliseconds."""

    encode_ms: float = 0.0
    queue_ms: float = 0.0  # until the first pair began
    run_ms: float = 0.0  # from there until the last pair was done
    decode_ms: float = 0.0
    n_cached: int = 0  # pairs that the cache knew
