"""Lines of JSON from files, pipes and gzip, with the number, size and bytes of each.

It knows JSON objects and nothing of what their fields mean. NaN and infinity are refused: they are not JSON.
"""

import gzip
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from relgrade.errors import InvalidData
from relgrade.formats.lines import dump_json, parse_json

STDIN = "-"
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an input."""

    number: int  # from 1
    raw: bytes  # with its newline

    @property
    def is_blank(self) -> bool:
        """True when there is nothing but whitespace."""
        return not self.raw.strip()


@contextmanager
def open_bytes(source: str) -> Iterator[IO[bytes]]:
    """Open a path, `-` for stdin, or a `.gz` file as bytes.

    Raises:
        InvalidData: it is not there, is a folder, or may not be read.
    """
    if source == STDIN:
        yield sys.stdin.buffer
        return
    path = Path(source)
    if path.is_dir():
        raise InvalidData("is a folder, a file was expected", path=path)
    with ExitStack() as stack:
        try:
            file: IO[bytes] = stack.enter_context(path.open("rb"))
        except OSError as error:
            raise InvalidData(f"cannot be read: {(error.strerror or str(error)).lower()}", path=path) from error
        if path.suffix == ".gz":
            file = stack.enter_context(cast("IO[bytes]", gzip.GzipFile(fileobj=file)))
        yield file


def read_lines(file: IO[bytes], *, name: str) -> Iterator[Line]:
    """The lines of an open file, one at a time; a byte order mark at the start is dropped.

    Raises:
        InvalidData: a gzip file is cut off or damaged.
    """
    number = 0
    try:
        for number, raw in enumerate(file, start=1):
            yield Line(number, raw.removeprefix(_BOM) if number == 1 else raw)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InvalidData(f"not a whole gzip file: {error}", path=name, line=number + 1) from error


def parse_object(line: Line, *, name: str) -> dict[str, Any]:
    """The JSON object of a line.

    Raises:
        InvalidData: not UTF-8, not JSON, not an object, or a number that is not finite.
    """
    try:
        row = parse_json(line.raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidData(f"not UTF-8 at byte {error.start + 1} of the line", path=name, line=line.number) from error
    except ValueError as error:
        raise InvalidData(f"not JSON: {error}", path=name, line=line.number) from error
    if not isinstance(row, dict):
        raise InvalidData(f"a JSON object was expected, got {type(row).__name__}", path=name, line=line.number)
    return row


def dump_object(row: dict[str, Any]) -> bytes:
    """One line of JSON in UTF-8. Lone surrogates, which UTF-8 cannot hold, are written as escapes."""
    return dump_json(row).encode("utf-8") + b"\n"
