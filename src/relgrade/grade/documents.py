"""Whatever the caller has for a query and documents, as the text a model reads. Nothing of the caller's is changed.

It knows the shapes of documents of common libraries by their attributes and imports none of them.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from relgrade.encoding import clean_text, render_document
from relgrade.errors import InvalidInput
from relgrade.records import Document, Pair

TEXT_NAMES = ("text", "page_content", "content", "document")  # in this order; the first that is there counts
ID_NAMES = ("id", "_id", "doc_id", "node_id")
METADATA_NAMES = ("metadata", "meta")

_EXPECTED = f"a str, a relgrade Document, or a mapping or object with one of {', '.join(TEXT_NAMES)} was expected"


@dataclass(frozen=True, slots=True)
class PairText:
    """One pair, ready to be judged."""

    index: int  # position in the call
    query: str  # clean
    text: str  # rendered: title and text, clean
    is_blank: bool  # the document has no text, so it is judged by rule
    id: str | None
    original: Any  # the caller's own object
    n_heading: int = 0  # characters of `text` before the first of the caller's own text: those of the title line


def read_query(query: Any, *, place: str = "query") -> str:
    """The query, clean.

    Raises:
        InvalidInput: not a string, or without any text.
    """
    if isinstance(query, bytes | bytearray | memoryview):
        raise InvalidInput(f"{place}: a str was expected, got {type(query).__name__}; decode it first")
    if not isinstance(query, str):
        raise InvalidInput(f"{place}: a str was expected, got {_describe(query)}")
    text = clean_text(query)
    if not text.strip():
        raise InvalidInput(f"{place}: empty; there is nothing that a document could be relevant to")
    return text


def read_documents(query: str, documents: Any) -> list[PairText]:
    """All documents of one query, in order.

    Args:
        query: clean, see `read_query`.
        documents: an iterable of what `to_document` takes. Ids may occur more than once.

    Raises:
        InvalidInput: not an iterable of documents, or one of them is none; names its position.
    """
    items = require_iterable(documents, "documents")
    return [_pair_text(index, query, value, f"document {index}") for index, value in enumerate(items)]


def read_pair(value: Any, index: int) -> PairText:
    """One item of `grade_pairs`: (query, document), or a Pair, whose document is rendered already.

    Raises:
        InvalidInput: anything else; names the position.
    """
    place = f"pair {index}"
    if isinstance(value, Pair):
        query = read_query(value.query, place=f"{place}, query")
        document = Document(_require_text(value.document, place), id=value.doc_id)
        return _rendered(index, query, document, value)
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise InvalidInput(f"{place}: (query, document) or a Pair was expected, got {_describe(value)}")
    query = read_query(value[0], place=f"{place}, query")
    return _pair_text(index, query, value[1], f"{place}, document")


def require_iterable(value: Any, name: str) -> Iterator[Any]:
    """An iterator over what can only be meant as several things.

    Raises:
        InvalidInput: a single text, document or mapping, a data frame, or nothing that can be iterated.
    """
    if isinstance(value, str | bytes | bytearray | Document | Pair | Mapping):
        raise InvalidInput(f"{name}: a list was expected, got one {type(value).__name__}; put it in a list")
    if hasattr(value, "iterrows"):
        raise InvalidInput(f"{name}: a data frame iterates over its columns; pass frame.to_dict('records')")
    if not isinstance(value, Iterable):
        raise InvalidInput(f"{name}: a list was expected, got {_describe(value)}")
    return iter(value)


def to_document(value: Any, *, place: str = "document") -> Document:
    """What the caller calls a document, as a new Document.

    Args:
        value: a str; a Document; a mapping or object with text, page_content, content or document, and perhaps title,
            id and metadata; an object with get_content(). Documents of LangChain, LlamaIndex and Haystack are such.
        place: its name in messages.

    Raises:
        InvalidInput: says what was found instead; bytes must be decoded by the caller, who knows the encoding.
    """
    if isinstance(value, Document):
        return Document(_require_text(value.text, place), _title(value.title, place), value.id, value.metadata)
    if isinstance(value, str):
        return Document(value)
    if value is None or isinstance(value, bytes | bytearray | memoryview | bool | int | float):
        raise _not_a_document(value, place)
    fields = _Fields(value)
    metadata = fields.first(METADATA_NAMES)
    return Document(
        _text_of(fields, place),
        _title(fields.get("title"), place),
        _identity(fields.first(ID_NAMES)),
        metadata if isinstance(metadata, Mapping) else {},
    )


class _Fields:
    """Keys of a mapping or attributes of an object, read the same way."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.is_mapping = isinstance(value, Mapping)

    def has(self, name: str) -> bool:
        return name in self.value if self.is_mapping else hasattr(self.value, name)

    def get(self, name: str) -> Any:
        return self.value.get(name) if self.is_mapping else getattr(self.value, name, None)

    def first(self, names: tuple[str, ...]) -> Any:
        return next((found for name in names if (found := self.get(name)) is not None), None)


def _text_of(fields: _Fields, place: str) -> str:
    get_content = None if fields.is_mapping else fields.get("get_content")
    if callable(get_content):
        try:
            return _require_text(get_content(), f"{place}, get_content()")
        except (TypeError, ValueError, NotImplementedError) as error:  # a node without text
            if isinstance(error, InvalidInput):
                raise
            raise InvalidInput(f"{place}: get_content() of {type(fields.value).__name__} failed: {error}") from error
    for name in TEXT_NAMES:
        if fields.has(name):
            return _require_text(fields.get(name), f"{place}, {name}")
    raise _not_a_document(fields.value, place)


def _require_text(value: Any, place: str) -> str:
    if isinstance(value, str):
        return value
    raise InvalidInput(f"{place}: a str was expected, got {_describe(value)}")


def _title(value: Any, place: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if _is_nan(value):  # how tables say that there is none
        return None
    raise InvalidInput(f"{place}, title: a str or None was expected, got {_describe(value)}")


def _identity(value: Any) -> str | None:
    return None if value is None or _is_nan(value) else str(value)


def _pair_text(index: int, query: str, value: Any, place: str) -> PairText:
    document = to_document(value, place=place)
    return _rendered(index, query, document, value)


def _rendered(index: int, query: str, document: Document, original: Any) -> PairText:
    """The text the model reads. A document without text of its own is blank: a title is no document."""
    is_blank = not clean_text(document.text).strip()
    text = render_document(document)
    # Cleaning puts one character in the place of one, so that what is longer is the title.
    return PairText(index, query, text, is_blank, document.id, original, n_heading=len(text) - len(document.text))


def _not_a_document(value: Any, place: str) -> InvalidInput:
    if isinstance(value, bytes | bytearray | memoryview):
        found = f"{type(value).__name__}; decode them first, as only you know their encoding"
    elif isinstance(value, Mapping):
        found = f"a mapping with the keys {[str(key)[:40] for key in list(value)[:8]]}"
    else:
        found = _describe(value)
    return InvalidInput(f"{place}: {_EXPECTED}, got {found}")


def _describe(value: Any) -> str:
    if value is None or isinstance(value, bool | int | float):
        return repr(value)[:40]
    return f"an object of type {type(value).__name__}"


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
