"""Rows of a file of pairs, one at a time: what the model reads of each, and the row itself, kept whole.

JSON lines are read here line by line so that a run can resume after any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

from relgrade.cli.lines import Line, parse_object, read_lines
from relgrade.cli.resume import InputPrefix
from relgrade.errors import InvalidData
from relgrade.records import Document

_DOCUMENT_KEYS = ("document", "text", "passage", "contents")
_ID_KEYS = ("doc_id", "_id", "docid")


@dataclass(frozen=True, slots=True)
class PairRow:
    """One row to grade."""

    query: str
    document: Document
    row: Mapping[str, Any]  # every field as it was read
    id: str | int | None  # the row's id, else its document's, else none


BadLine = Callable[[InvalidData, Line], None]


def read_pair_rows(file: IO[bytes], *, name: str, prefix: InputPrefix, on_bad_line: BadLine) -> Iterator[PairRow]:
    """The rows of an open file of JSON lines; blank lines are passed over.

    Args:
        file: of bytes.
        name: for messages.
        prefix: is told each line that was read.
        on_bad_line: called for each line that is no pair; it raises to stop there.

    Raises:
        InvalidData: what `on_bad_line` and `prefix` raise.
    """
    for line in read_lines(file, name=name):
        row = None
        if not line.is_blank:
            try:
                row = pair_row(parse_object(line, name=name), name=name, number=line.number)
            except InvalidData as error:
                on_bad_line(error, line)
        prefix.read(line.raw)
        if row is not None:
            yield row
    if not prefix.is_checked:
        prefix.check()  # the input ends before the place that an earlier run had reached


def pair_row(row: dict[str, Any], *, name: str, number: int) -> PairRow:
    """What the model reads of a row.

    Raises:
        InvalidData: no query, no document, or of the wrong type.
    """
    query = row.get("query")
    if not isinstance(query, str) or not query.strip():
        found = "no such field" if "query" not in row else "an empty one" if query == "" else repr(query)[:60]
        raise InvalidData(f"a field `query` with a question was expected, got {found}", path=name, line=number)
    body: Any = next((row[key] for key in _DOCUMENT_KEYS if key in row), None)
    title = row.get("title")
    if isinstance(body, Mapping):  # {"text": ..., "title": ...}
        body, title = body.get("text"), body.get("title", title)
    if not isinstance(body, str):
        found = f"fields {sorted(row)[:8]}" if body is None else type(body).__name__
        raise InvalidData(f"a field `document` with a text was expected, got {found}", path=name, line=number)
    if title is not None and not isinstance(title, str):
        raise InvalidData(f"`title` must be a string, got {type(title).__name__}", path=name, line=number)
    identity = row.get("id")
    if identity is None:
        identity = next((row[key] for key in _ID_KEYS if row.get(key) is not None), None)
    # The row is the metadata: a bundle may judge by a field of it.
    document = Document(body, title=title, id=None if identity is None else str(identity), metadata=row)
    return PairRow(query, document, row, identity)
