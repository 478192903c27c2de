"""A row of named values to a `Pair` and back: the names a file may use, and what each must hold.

It knows nothing of files. The names, the first one present wins:

| field | names |
|---|---|
| query | `query` |
| document | `document`, `text`, `passage`, `contents`; a text, or an object of `text`, `title`, `id` |
| query_id | `query_id`, `qid`; where there is none, a hash of the query |
| doc_id | `doc_id`, `docid`, `_id`, the object's `id` or `_id`; where there is none, a hash of the document |
| label | `label`: 0, 1, true, false, a number between 0 and 1, null |
| title, split, source | the same names |

Everything else is kept in `Pair.fields`, names that lost among them. A title becomes the document's first line,
`title: ...`, unless the document begins with it.
"""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

from relgrade.encoding import clean_text, render_document
from relgrade.errors import InvalidInput
from relgrade.records import Document, Pair

CORE_FIELDS = ("query_id", "query", "doc_id", "document", "label", "split", "source")
RESERVED_FIELDS = frozenset({*CORE_FIELDS, "title"})  # names that `Pair.fields` cannot use in a file
DOCUMENT_NAMES = ("document", "text", "passage", "contents")
QUERY_ID_NAMES = ("query_id", "qid")
DOC_ID_NAMES = ("doc_id", "docid", "_id")
_SHOWN_CHARACTERS = 60


def pair_from_row(row: Mapping[str, Any], *, source: str | None = None) -> Pair:
    """The pair of one row.

    Args:
        row: names as in the module's table; not changed.
        source: stands for what the row itself says; None keeps that.

    Raises:
        InvalidInput: a field is missing, of the wrong type, empty, or out of range; says which.
    """
    rest = {name: value for name, value in row.items() if value is not None or name not in RESERVED_FIELDS}
    query = rest.pop("query", None)
    if not isinstance(query, str) or not query.strip():
        raise InvalidInput(f"`query` must be a text that is not blank, got {_show(row, 'query')}")
    query = clean_text(query)
    name = first_name(rest, DOCUMENT_NAMES)
    if name is None:
        raise InvalidInput(f"no `document` (or text, passage, contents); the row has {_names(row)}")
    opened = _open_document(rest, name)
    document = with_title(opened.text, opened.title)
    query_id = _take_id(rest, QUERY_ID_NAMES) or query_id_of(query)
    doc_id = _take_id(rest, DOC_ID_NAMES) or opened.id or document_id_of(document)
    own_source = _take_name(rest, "source")
    return Pair(
        query_id=query_id,
        query=query,
        doc_id=doc_id,
        document=document,
        label=check_label(rest.pop("label", None)),
        split=_take_name(rest, "split"),
        source=own_source if source is None else source,
        fields=rest,
    )


def row_from_pair(pair: Pair) -> dict[str, Any]:
    """The row that `pair_from_row` turns into an equal pair; absent label, split and source are None.

    Raises:
        InvalidInput: the pair could not be read back: blank query or id, a label out of range, a reserved field name.
    """
    if not pair.query.strip():
        raise InvalidInput(f"pair {pair.query_id!r}, {pair.doc_id!r}: the query is blank")
    if not (pair.query_id.strip() and pair.doc_id.strip()):
        raise InvalidInput(f"a pair needs ids that are not blank, got {pair.query_id!r} and {pair.doc_id!r}")
    clash = sorted(RESERVED_FIELDS & pair.fields.keys())
    if clash:
        raise InvalidInput(f"pair {pair.query_id!r}, {pair.doc_id!r}: `fields` may not hold {', '.join(clash)}")
    label = check_label(pair.label)
    texts = {name: clean_text(getattr(pair, name)) for name in ("query_id", "query", "doc_id", "document")}
    return {
        **texts,
        "label": int(label) if label in (0.0, 1.0) else label,
        "split": clean_text(pair.split) if pair.split else None,
        "source": clean_text(pair.source) if pair.source else None,
        **pair.fields,
    }


def first_name(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """The first of the names under which the row has a value."""
    return next((name for name in names if row.get(name) is not None), None)


def check_label(label: Any) -> float | None:
    """P(relevant) as a float in [0, 1], or None.

    Raises:
        InvalidInput: anything else, NaN among it.
    """
    if label is None:
        return None
    if not isinstance(label, int | float) or not 0.0 <= label <= 1.0:  # NaN fails the comparison
        raise InvalidInput(f"`label` must be 0, 1, a number between them, true, false or null, got {_clip(label)}")
    return float(label)


def grade_label(score: float, *, cut: float) -> dict[str, Any]:
    """Label and grade of a graded judgement: relevant when score >= cut."""
    return {"label": 1 if score >= cut else 0, "grade": int(score) if score == int(score) else score}


def parse_score(text: str) -> float:
    """A judgement's score.

    Raises:
        InvalidInput: not a finite number.
    """
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise InvalidInput(f"a score must be a number, got {_clip(text)}")
    return score


def query_id_of(query: str) -> str:
    """The id of a query that has none: a hash of its text."""
    return f"q-{_digest(query)}"


def document_id_of(document: str) -> str:
    """The id of a document that has none: a hash of its text."""
    return f"d-{_digest(document)}"


def _open_document(rest: dict[str, Any], name: str) -> Document:
    """Take text, title and id of the document out of what is left of a row."""
    body = rest.pop(name)
    title, own_id = rest.pop("title", None), None
    if isinstance(body, Mapping):
        inner = dict(body)
        title = inner.pop("title", None) or title
        own_id = _take_id(inner, ("id", "_id"))
        body = inner.pop("text", None)
        if inner:
            rest["document_fields"] = inner
    if not isinstance(body, str):
        raise InvalidInput(f"`{name}` must be a text, or an object with `text`, got {_clip(body)}")
    if title is not None and not isinstance(title, str):
        raise InvalidInput(f"`title` must be a text, got {_clip(title)}")
    return Document(clean_text(body), title=title, id=own_id)


def with_title(text: str, title: str | None) -> str:
    """The text with a known title as its first line, unless it begins with it already."""
    title = " ".join(clean_text(title or "").split())
    first_line = " ".join(text.partition("\n")[0].split())
    if not title or first_line in (title, f"title: {title}"):
        return text
    return render_document(Document(text, title=title))


def _take_id(row: dict[str, Any], names: tuple[str, ...]) -> str | None:
    """Take the first id that is there; whole numbers become text."""
    name = first_name(row, names)
    if name is None:
        return None
    value = row.pop(name)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InvalidInput(f"`{name}` must be a text or a whole number, got {_clip(value)}")
    identity = clean_text(str(value))
    if not identity.strip():
        raise InvalidInput(f"`{name}` is blank; leave it out to have one made")
    return identity


def _take_name(row: dict[str, Any], name: str) -> str | None:
    value = row.pop(name, None)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise InvalidInput(f"`{name}` must be a text, got {_clip(value)}")
    return clean_text(value)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8"), digest_size=8).hexdigest()


def _show(row: Mapping[str, Any], name: str) -> str:
    return _clip(row[name]) if name in row else f"no such field; the row has {_names(row)}"


def _names(row: Mapping[str, Any]) -> str:
    return _clip(", ".join(map(str, row))) if row else "no fields"


def _clip(value: Any) -> str:
    text = repr(value) if not isinstance(value, str) else ascii(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
