"""Parquet tables of pairs. Needs pyarrow, the extra `parquet`; import this module only when such a file is met.

A field whose values are all text, all true or false, all whole numbers or all floats is a column of that type, and a
missing value is a null. Any other field is a column of JSON texts, marked in the schema, so that it reads back exactly.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from relgrade.errors import InvalidData, InvalidInput, MissingExtra
from relgrade.formats.lines import Row, dump_json, parse_json
from relgrade.formats.rows import CORE_FIELDS

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as error:
    raise MissingExtra("pyarrow", extra="parquet", purpose="read and write parquet files") from error

_MARK = {b"relgrade": b"json"}
_BATCH_ROWS = 2048  # keeps one batch of long documents to some MB
_INT64 = range(-(2**63), 2**63)


def read_parquet_rows(path: Path, *, required: str | None = "query") -> Iterator[Row]:
    """The rows, numbered from 1. Values that JSON does not know, such as dates, become their text.

    Args:
        path: the file.
        required: a column that it must have; pairs have `query`, None asks for none.

    Raises:
        InvalidData: not a parquet file, damaged, or without the required column.
    """
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            if required is not None and required not in schema.names:
                raise InvalidData(f"no column `{required}`; found: {', '.join(schema.names)[:200]}", path=path)
            is_json = {field.name: (field.metadata or {}).get(b"relgrade") == b"json" for field in schema}
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    values = {
                        name: parse_json(value) if is_json[name] else _plain(value, name)
                        for name, value in row.items()
                        if value is not None
                    }
                    yield Row(path, number, values)
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, InvalidData):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidData(f"cannot be read as parquet after row {number}: {reason}", path=path) from error


def write_parquet(file: IO[bytes], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write one table.

    Raises:
        InvalidInput: a value that JSON cannot hold, or a field name that parquet cannot.
    """
    extra = dict.fromkeys(name for row in rows for name in row if name not in CORE_FIELDS)
    columns, fields = [], []
    for name in (*CORE_FIELDS, *extra):
        if name in CORE_FIELDS:
            kind = pa.float64() if name == "label" else pa.string()
        else:
            kind = _column_type([row[name] for row in rows if name in row])
        is_json = kind is None
        values = [_cell(row[name], name, is_json=is_json) if name in row else None for row in rows]
        columns.append(pa.array(values, type=pa.string() if is_json else kind))
        fields.append(pa.field(name, columns[-1].type, metadata=_MARK if is_json else None))
    pq.write_table(pa.Table.from_arrays(columns, schema=pa.schema(fields)), file, compression="zstd")


def _column_type(values: Sequence[Any]) -> Any:
    """The arrow type that holds the values exactly; None when only JSON does."""
    kinds = {type(value) for value in values}
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int} and all(value in _INT64 for value in values):
        return pa.int64()
    if kinds == {float} and all(math.isfinite(value) for value in values):
        return pa.float64()
    if kinds == {str} and all(_is_utf8(value) for value in values):
        return pa.string()
    return None


def _cell(value: Any, name: str, *, is_json: bool) -> Any:
    if not is_json:
        return float(value) if name == "label" and value is not None else value
    try:
        return dump_json(value)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"field {name} cannot be written: {error}") from error


def _plain(value: Any, name: str) -> Any:
    """A value of arrow as one of JSON; only a label keeps NaN, to be refused with its row."""
    if isinstance(value, float):
        return value if math.isfinite(value) or name == "label" else None
    if isinstance(value, str | bool | int):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item, name) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item, name) for key, item in value.items() if item is not None}
    return value if value is None else str(value)


def _is_utf8(text: str) -> bool:
    return text.isascii() or not any(0xD800 <= ord(character) < 0xE000 for character in text)
