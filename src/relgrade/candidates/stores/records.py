"""Where a store is, and a record of one as a document, by the names that common frameworks give to its parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args

import numpy as np

from relgrade.candidates.passages import Entry
from relgrade.candidates.settings import CorpusSettings
from relgrade.errors import InvalidData, InvalidInput
from relgrade.records import Document

StoreKind = Literal["qdrant", "chroma", "pgvector"]
STORE_KINDS: tuple[StoreKind, ...] = get_args(StoreKind)

# LangChain writes page_content and metadata, Haystack content and meta, LlamaIndex text and metadata_.
TEXT_NAMES = ("text", "page_content", "content", "document", "chunk", "passage", "contents", "body")
ID_NAMES = ("id", "_id", "doc_id", "chunk_id", "langchain_id", "uuid")
_NESTED = ("metadata", "meta", "cmetadata", "metadata_", "langchain_metadata")


@dataclass(frozen=True, slots=True)
class StoreLocation:
    """A collection of a vector store."""

    kind: StoreKind
    location: str  # folder of an embedded store, URL of a server, or for pgvector a connection string
    collection: str  # for pgvector a table or view, perhaps `schema.table`
    api_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.kind not in STORE_KINDS:
            raise InvalidInput(f"a store is one of {', '.join(STORE_KINDS)}, got {self.kind!r}")
        if not self.collection.strip():
            raise InvalidInput(
                f"{self.kind}: the name of a collection is needed; name it with --collection, or collection= in Python"
            )

    @classmethod
    def parse(cls, text: str, *, collection: str | None, api_key: str | None = None) -> Self | None:
        """Read `qdrant:LOCATION`, `chroma:LOCATION` or `pgvector:CONNECTION`; None for what is no store.

        Raises:
            InvalidInput: a store, and no collection.
        """
        kind, colon, location = text.partition(":")
        for known in STORE_KINDS:
            if colon and kind == known:
                return cls(known, location, collection or "", api_key)
        return None

    @property
    def name(self) -> str:
        """For messages; a connection string may hold a password and is left out."""
        return f"{self.kind} collection {self.collection!r}"

    @property
    def is_server(self) -> bool:
        """True for a URL."""
        return "://" in self.location


def entry_of(
    identity: Any,
    values: Mapping[str, Any],
    vector: Sequence[float] | None,
    *,
    store: StoreLocation,
    settings: CorpusSettings,
    text: str | None = None,
) -> Entry | InvalidData:
    """A record as a document of the corpus, or the error that says why it is none.

    Args:
        identity: the store's id; a field of `settings.id_field` goes before it.
        values: its payload; not changed.
        vector: its own, or None.
        store: for messages.
        settings: names of fields.
        text: its text, where the store keeps it apart from the payload.
    """
    rest = {str(name): value for name, value in values.items() if value is not None}
    for name in _NESTED:
        inner = rest.get(name)
        if isinstance(inner, Mapping):
            rest = {**inner, **{other: value for other, value in rest.items() if other != name}}
    names = TEXT_NAMES if settings.text_field is None else (settings.text_field,)
    found = text if text is not None and settings.text_field is None else _take(rest, names)
    if not isinstance(found, str):
        return InvalidData(
            f"{store.name}: record {identity!r} has no text under {' or '.join(names)}; it has: {', '.join(rest)[:200]}"
        )
    title = _take(rest, (settings.title_field or "title",))
    if settings.id_field is not None:
        identity = _take(rest, (settings.id_field,)) or identity
    document = Document(found, title if isinstance(title, str) else None, str(identity), rest)
    return Entry(document, None if vector is None else np.asarray(vector, np.float32))


def _take(rest: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((rest.pop(name) for name in names if rest.get(name) is not None), None)
