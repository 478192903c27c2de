"""What can be chosen about candidates, checked on creation."""

from dataclasses import dataclass, fields
from typing import Literal, Self, get_args

from relgrade.errors import InvalidSettings

Method = Literal["bm25", "dense", "hybrid"]
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Documents per query, by the place they are taken from.

    A student that has only seen the best ranks has never seen a document about something else, and its scores of
    those are extrapolation; one that has only seen random documents learns to tell subjects apart.
    """

    top: int = 0  # ranks 1 to top, in order
    mid: int = 0  # drawn without replacement from the ranks after those, down to `CandidateSettings.depth`
    random: int = 0  # drawn without replacement from the whole corpus, less what is taken already

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise InvalidSettings(f"Mix.{each.name} must be a whole number >= 0, got {value!r}")
        if self.total == 0:
            raise InvalidSettings("a mix takes at least one document per query")

    @property
    def total(self) -> int:
        """Documents per query; fewer where the corpus is smaller."""
        return self.top + self.mid + self.random

    @classmethod
    def of(cls, total: int) -> Self:
        """The default mix of so many: half from the top, a quarter from mid ranks, a quarter at random."""
        quarter = total // 4
        return cls(top=total - 2 * quarter, mid=quarter, random=quarter)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `top=10,mid=5,random=5`; a name left out is 0.

        Raises:
            InvalidSettings: not of that form.
        """
        counts: dict[str, int] = {}
        for part in text.split(","):
            name, equals, value = (piece.strip() for piece in part.partition("="))
            is_known = name in {each.name for each in fields(cls)} and name not in counts
            if not equals or not is_known or not (value.isascii() and value.isdigit()):
                raise InvalidSettings(f"a mix looks like top=10,mid=5,random=5, each at most once; got {text!r}")
            counts[name] = int(value)
        return cls(**counts)


DEFAULT_MIX = Mix.of(20)


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateSettings:
    """How documents are found for a query and which of them are kept."""

    method: Method = "hybrid"
    mix: Mix = DEFAULT_MIX
    depth: int = 100  # ranks that each method looks at; mid ranks end here
    rrf_k: int = 60  # of reciprocal rank fusion, Cormack et al. 2009
    seed: int = 0  # of every draw
    max_exact: int = 1_000_000  # vectors up to which search is exact; beyond, the extra `large` is needed
    has_store_vectors: bool = False  # search by the vectors that store and queries bring, in place of an encoder's

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InvalidSettings(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")
        for name, lowest in (("depth", 1), ("rrf_k", 1), ("max_exact", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
                raise InvalidSettings(f"{name} must be a whole number >= {lowest}, got {value!r}")
        if self.depth < self.mix.top + self.mix.mid:
            raise InvalidSettings(
                f"depth {self.depth} has no room for {self.mix.top} top and {self.mix.mid} mid documents; "
                f"it must be at least {self.mix.top + self.mix.mid}"
            )
        if self.has_store_vectors and self.method == "bm25":
            raise InvalidSettings("method bm25 reads no vectors; choose dense or hybrid, or leave the vectors out")

    @property
    def is_lexical(self) -> bool:
        """True when words are searched."""
        return self.method != "dense"

    @property
    def is_dense(self) -> bool:
        """True when vectors are searched."""
        return self.method != "bm25"


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusSettings:
    """How a corpus is read."""

    chunk_tokens: int | None = None  # tokens per chunk, at most; None: 200 for files, and rows stay whole
    chunk_overlap: int = 0  # tokens that neighbouring chunks may share
    encoding: str | None = None  # of text files that are not Unicode, such as cp1252; None reports them
    text_field: str | None = None  # names of fields, columns or payload keys; None takes the usual ones
    id_field: str | None = None
    title_field: str | None = None
    vector_field: str | None = None  # pgvector: column; Qdrant: name of the vector

    def __post_init__(self) -> None:
        if self.chunk_tokens is not None and self.chunk_tokens < 8:
            raise InvalidSettings(f"chunk_tokens must be at least 8, got {self.chunk_tokens!r}")
        if not 0 <= self.chunk_overlap < (self.chunk_tokens or FILE_CHUNK_TOKENS):
            raise InvalidSettings(f"chunk_overlap must be >= 0 and below the chunk, got {self.chunk_overlap!r}")
        try:
            "".encode(self.encoding or "utf-8")
        except LookupError:
            raise InvalidSettings(f"Python knows no encoding {self.encoding!r}; cp1252 and gb18030 are some") from None


FILE_CHUNK_TOKENS = 200  # with a title, one window of the embedded grader, which reads 254
