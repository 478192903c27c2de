"""Comma and tab separated tables of pairs, with a header and the quoting of csv.

Cells of the core fields are text as it is, an empty one is an absent value. Cells of other fields hold a text as it
is, or JSON: `3` is a number, `"3"` the text, `null` a null, an empty cell no value at all.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from relgrade.errors import InvalidData, InvalidInput
from relgrade.formats.lines import Row, dump_json, parse_json, read_lines
from relgrade.formats.rows import CORE_FIELDS, DOC_ID_NAMES, DOCUMENT_NAMES, QUERY_ID_NAMES

_JSON_STARTS = frozenset('{["-0123456789tfn \t\r\n')  # what the first character of a JSON text can be
_INVALID_BYTE = range(0xDC80, 0xDD00)  # how `surrogateescape` marks a byte that is not UTF-8


def read_delimited_rows(
    path: Path, *, delimiter: str, required: str | None = "query", text_names: Set[str] = frozenset()
) -> Iterator[Row | InvalidData]:
    """The rows below the header; one that cannot be read comes as the error that says why.

    Args:
        path: `.gz` is unpacked.
        delimiter: one character.
        required: a column that the header must have; pairs have `query`, None asks for none.
        text_names: more columns whose cells are text as it is, never JSON.

    Raises:
        InvalidData: no header, or one without the required column; or the file as a whole cannot be read.
    """
    # The process-wide limit of 128 KB a cell is below the documents that must be readable; raising it harms nobody.
    csv.field_size_limit(max(csv.field_size_limit(), 2**31 - 1))
    # A byte that is no UTF-8 is marked, not raised: the error must name the record, and the rest must stay readable.
    lines = (line.raw.decode("utf-8", "surrogateescape") for line in read_lines(path))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)  # strict: a stray quote must not swallow lines
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise InvalidData(f"not a header: {error}", path=path, line=1) from error
    _check_header(header, path, required)
    kept_empty = {"query", *_first_column(header, DOCUMENT_NAMES)}  # an empty text is a value there
    texts = {*kept_empty, *text_names, "title", "split", "source"}
    texts.update(_first_column(header, QUERY_ID_NAMES), _first_column(header, DOC_ID_NAMES))
    while True:
        line = reader.line_num + 1  # where the next record starts; it may span lines
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield InvalidData(f"not a row: {error}; quote cells that hold quotes or line ends", path=path, line=line)
            continue
        if not cells:
            continue
        problem = _problem(cells, header)
        if problem:
            yield InvalidData(problem, path=path, line=line)
        else:
            named = [(name, cell) for name, cell in zip(header, cells, strict=True) if cell or name in kept_empty]
            yield Row(path, line, {name: cell if name in texts else _decode(name, cell) for name, cell in named})


def delimited_lines(rows: Sequence[Mapping[str, Any]], *, delimiter: str) -> Iterator[bytes]:
    """A header and a line per row, in the form that `read_delimited_rows` reads back exactly.

    Raises:
        InvalidInput: a value that JSON cannot hold.
    """
    extra = dict.fromkeys(name for row in rows for name in row if name not in CORE_FIELDS)
    names = (*CORE_FIELDS, *extra)
    buffer = _LineBuffer()
    # \r\n as RFC 4180 has it; with it the writer also quotes cells that hold a lone \r.
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator="\r\n")
    writer.writerow(names)
    yield buffer.take()
    for row in rows:
        writer.writerow(_encode(name, row[name]) if name in row else "" for name in names)
        yield buffer.take()


class _LineBuffer:
    """Holds what `csv.writer` wrote last."""

    def __init__(self) -> None:
        self._text = ""

    def write(self, text: str) -> None:
        self._text = text

    def take(self) -> bytes:
        try:
            return self._text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InvalidInput(f"a field has a name that UTF-8 cannot hold: {error}") from error


def _check_header(header: Iterable[str], path: Path, required: str | None) -> None:
    names = list(header)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InvalidData(f"two columns have one name: {', '.join(repeated)}", path=path, line=1)
    if required is not None and required not in names:
        raise InvalidData(f"a header with `{required}` was expected, got {', '.join(names)[:200]!r}", path=path, line=1)


def _problem(cells: Sequence[str], header: Sequence[str]) -> str | None:
    if len(cells) != len(header):
        return f"{len(header)} cells were expected, got {len(cells)}"
    for name, cell in zip(header, cells, strict=True):
        if not cell.isascii() and any(ord(character) in _INVALID_BYTE for character in cell):
            return f"not UTF-8 in column {name}"
    return None


def _first_column(header: Sequence[str], names: tuple[str, ...]) -> list[str]:
    """The column that is read as text among names for one thing; the others are fields like any other."""
    return [name for name in names if name in header][:1]


def _decode(name: str, cell: str) -> Any:
    return _parse(cell.strip().lower() if name == "label" else cell)  # pandas writes True


def _parse(cell: str) -> Any:
    """The JSON value of a cell, or the cell itself when it holds none."""
    if cell[:1] not in _JSON_STARTS:
        return cell
    try:
        return parse_json(cell)
    except ValueError:
        return cell


def _encode(name: str, value: Any) -> str:
    if name in CORE_FIELDS and name != "label":
        return "" if value is None else str(value)
    if name == "label" and value is None:
        return ""
    if isinstance(value, str) and value and "\0" not in value and _parse(value) is value:
        text = value
        if text.isascii() or not any(0xD800 <= ord(character) < 0xE000 for character in text):
            return text
    try:
        return dump_json(value)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"field {name} cannot be written: {error}") from error
