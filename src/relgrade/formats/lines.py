"""Numbered lines of plain and gzipped files, and JSON in its strict form: NaN and infinity are refused.

It knows nothing of pairs.
"""

import gzip
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from relgrade.errors import InvalidData

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file, before anything is known of its fields."""

    path: Path
    line: int  # from 1; of a parquet file the number of the row
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file."""

    number: int  # from 1
    raw: bytes  # with its newline


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of a file, gzipped where its name ends in `.gz`; a byte order mark at the start is dropped.

    Raises:
        InvalidData: the file is not there or cannot be read, or its gzip stream is cut off or damaged.
    """
    number = 0
    with open_bytes(path) as file:
        try:
            for number, raw in enumerate(file, start=1):
                yield Line(number, raw.removeprefix(_BOM) if number == 1 else raw)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InvalidData(f"not a whole gzip file: {error}", path=path, line=number + 1) from error


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, unpacked where its name ends in `.gz`.

    Raises:
        InvalidData: it is not there, is a folder, or may not be read.
    """
    with ExitStack() as stack:
        try:
            file: IO[bytes] = stack.enter_context(path.open("rb"))
        except OSError as error:
            raise InvalidData(f"cannot be read: {(error.strerror or str(error)).lower()}", path=path) from error
        if path.suffix == ".gz":
            file = stack.enter_context(cast("IO[bytes]", gzip.GzipFile(fileobj=file)))
        yield file


def read_json_rows(path: Path) -> Iterator[Row | InvalidData]:
    """The JSON objects of a file of JSON lines; a line that is none comes as the error that says why.

    Blank lines are passed over.

    Raises:
        InvalidData: the file as a whole cannot be read.
    """
    for line in read_lines(path):
        if not line.raw.strip():
            continue
        try:
            values = parse_json(line.raw.decode("utf-8"))
        except UnicodeDecodeError as error:
            yield InvalidData(f"not UTF-8 at byte {error.start + 1} of the line", path=path, line=line.number)
        except ValueError as error:
            yield InvalidData(f"not JSON: {error}", path=path, line=line.number)
        else:
            if isinstance(values, dict):
                yield Row(path, line.number, values)
            else:
                message = f"a JSON object was expected, got {type(values).__name__}"
                yield InvalidData(message, path=path, line=line.number)


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: not JSON, a number that is not finite, or nesting too deep; says where.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite_float)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos + 1}") from error
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def dump_json(value: Any) -> str:
    """JSON that UTF-8 can hold: lone surrogates are written as escapes.

    Raises:
        ValueError: a number is not finite, or the value refers to itself.
        TypeError: not a value of JSON.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False)
    return text


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is out of range")
    return value
