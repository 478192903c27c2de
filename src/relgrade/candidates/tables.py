"""Rows of jsonl, csv, tsv and parquet files, whatever they are rows of."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from relgrade.errors import InvalidData
from relgrade.formats.delimited import read_delimited_rows
from relgrade.formats.lines import Row, read_json_rows
from relgrade.formats.read import DELIMITERS, JSON_SUFFIXES

ID_NAMES = ("_id", "id", "doc_id", "docid")
TEXT_NAMES = ("text", "contents", "document", "passage")
TABLE_SUFFIXES = (*JSON_SUFFIXES, *DELIMITERS, ".parquet")
_IDS_OF_ALL_KINDS = frozenset({*ID_NAMES, "query_id", "qid"})


def table_suffix(path: Path) -> str:
    """The suffix that says what a file holds, `.gz` left out, in lower case."""
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def read_table(path: Path, *, text_names: frozenset[str] = frozenset()) -> Iterator[Row | InvalidData]:
    """Rows of a table; one that cannot be read comes as the error that says why.

    Args:
        path: `.jsonl`, `.ndjson`, `.csv` or `.tsv`, each perhaps with `.gz`, or `.parquet`.
        text_names: csv: columns whose cells are text as it is, never JSON; ids always are.

    Raises:
        InvalidData: the file as a whole cannot be read.
        MissingExtra: a parquet file without pyarrow.
    """
    suffix = table_suffix(path)
    if suffix in JSON_SUFFIXES:
        return read_json_rows(path)
    if suffix in DELIMITERS:
        return read_delimited_rows(
            path, delimiter=DELIMITERS[suffix], required=None, text_names=_IDS_OF_ALL_KINDS | text_names
        )
    from relgrade.formats.parquet import read_parquet_rows  # asks for pyarrow

    return read_parquet_rows(path, required=None)


def take_text(rest: dict[str, Any], names: tuple[str, ...], row: Row) -> str:
    """Take the text that stands under the first of the names that is there.

    Raises:
        InvalidData: none is there, or it is no text.
    """
    name = _first(rest, names)
    if name is None:
        found = ", ".join(map(str, row.values))[:200] or "nothing"
        raise InvalidData(
            f"a text was expected under {' or '.join(names)}; found: {found}", path=row.path, line=row.line
        )
    text = rest.pop(name)
    if not isinstance(text, str):
        raise InvalidData(f"`{name}` must be a text, got {type(text).__name__}", path=row.path, line=row.line)
    return text


def take_optional_text(rest: dict[str, Any], name: str, row: Row) -> str | None:
    """Take a text that may be missing or null.

    Raises:
        InvalidData: it is no text.
    """
    text = rest.pop(name, None)
    if text is not None and not isinstance(text, str):
        raise InvalidData(f"`{name}` must be a text, got {type(text).__name__}", path=row.path, line=row.line)
    return text


def take_id(rest: dict[str, Any], names: tuple[str, ...], row: Row) -> str | None:
    """Take an id that may be missing; whole numbers become text.

    Raises:
        InvalidData: it is neither, or blank.
    """
    name = _first(rest, names)
    if name is None:
        return None
    value = rest.pop(name)
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise InvalidData(
            f"`{name}` must be a text or a whole number, got {value!r}"[:200], path=row.path, line=row.line
        )
    return str(value)


def _first(rest: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if rest.get(name) is not None), None)
