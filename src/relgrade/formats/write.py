"""Writing pairs: the whole file or none of it, and the same bytes for the same pairs."""

import gzip
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, cast

from relgrade.errors import InvalidInput, OutputError
from relgrade.formats.delimited import delimited_lines
from relgrade.formats.lines import dump_json
from relgrade.formats.read import DELIMITERS, JSON_SUFFIXES
from relgrade.formats.rows import row_from_pair
from relgrade.records import Pair

_GZIP_LEVEL = 6  # level 9 takes three times as long for 1 % less


def write_pairs(path: Path | str, pairs: Iterable[Pair]) -> int:
    """Write pairs to a file that `read_pairs` reads back as equal pairs.

    The file appears whole, in place of an older one, or not at all. Texts and ids are cleaned as in reading (lone
    surrogates, NUL); values in `fields` must be JSON and stay as they are, lone surrogates too.

    Args:
        path: `.jsonl`, `.ndjson`, `.csv` or `.tsv`, each perhaps with `.gz`, or `.parquet`.
        pairs: read once; all but JSON lines are held in memory.

    Returns:
        Number of pairs written.

    Raises:
        InvalidInput: no such format, or a pair that could not be read back.
        OutputError: the file cannot be written; an older one is as it was.
        MissingExtra: a parquet file without pyarrow.
    """
    path = Path(path)
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    is_parquet = path.suffix.lower() == ".parquet"
    if not is_parquet and suffix not in (*JSON_SUFFIXES, *DELIMITERS):
        raise InvalidInput(f"{path}: pairs are written to .jsonl, .csv, .tsv (perhaps .gz) and .parquet")
    if is_parquet:
        from relgrade.formats.parquet import write_parquet  # asks for pyarrow before anything is written

        rows = [row_from_pair(pair) for pair in pairs]
        with replaced_file(path) as file:
            write_parquet(file, rows)
        return len(rows)
    n_written = 0
    with replaced_file(path) as file:
        # An InvalidInput raised by the pairs leaves here too, and with it the file as it was.
        for line in _lines(pairs, suffix):
            file.write(line)
            n_written += 1
    return n_written - (suffix in DELIMITERS)  # the header is no pair


@contextmanager
def replaced_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes the place of `path` when the block ends without error; `.gz` is packed.

    Raises:
        OutputError: the disk is full, or the file may not be written; nothing is left behind.
    """
    target = path.resolve()  # a link keeps pointing to what is written
    if target.exists() and not target.is_file():
        raise OutputError("is not a plain file and cannot be replaced", path=path)
    scratch = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with ExitStack() as stack:
            raw = stack.enter_context(scratch.open("xb"))
            file: IO[bytes] = raw
            if path.suffix == ".gz":  # no name and no time in the header: the same pairs give the same bytes
                packed = gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=_GZIP_LEVEL)
                file = cast("IO[bytes]", stack.enter_context(packed))
            yield file
            file.flush()
            if file is not raw:
                file.close()
                raw.flush()
            os.fsync(raw.fileno())
        scratch.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        raise OutputError.from_os_error(error, path=path) from error
    finally:
        scratch.unlink(missing_ok=True)


def _lines(pairs: Iterable[Pair], suffix: str) -> Iterator[bytes]:
    if suffix in DELIMITERS:
        yield from delimited_lines([row_from_pair(pair) for pair in pairs], delimiter=DELIMITERS[suffix])
        return
    for pair in pairs:
        row = {name: value for name, value in row_from_pair(pair).items() if name in pair.fields or value is not None}
        yield _json_line(row)


def _json_line(row: Mapping[str, Any]) -> bytes:
    try:
        return dump_json(row).encode("utf-8") + b"\n"
    except (TypeError, ValueError) as error:
        what = f"pair {row['query_id']!r}, {row['doc_id']!r}"
        raise InvalidInput(f"{what}: `fields` holds what JSON cannot: {error}") from error


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power cut, where the system lets a folder be opened."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
