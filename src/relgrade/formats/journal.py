"""An append-only file of JSON lines that any interruption leaves valid: the rows in the file are the journal.

A process killed in the middle of a line leaves a torn one behind; opening the file again cuts it off and tells which
rows are finished. Rows are handed to the system at once, so kill -9 loses none; only a power cut can.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from relgrade.errors import InvalidData, InvalidInput, OutputError
from relgrade.formats.lines import dump_json
from relgrade.formats.locking import lock_exclusively


class JsonlJournal:
    """Rows appended to a file. A context manager; not for several threads.

    Args:
        path: the file, made when it is not there; not gzipped.
        key: what names a row: a field, or a function of the row.

    Attributes:
        path: the file.
        rows: number of finished rows, those found included.
        finished: their keys, in order.
        done: the same keys as a set.

    Raises:
        InvalidData: a finished line is not a JSON object with the key.
        InvalidInput: another process writes the file, or it is gzipped.
        OutputError: the file cannot be opened for writing.
    """

    def __init__(self, path: Path | str, *, key: str | Callable[[Mapping[str, Any]], str] = "id") -> None:
        self.path = Path(path)
        self._key = key
        self.finished: list[str] = []
        self.done: set[str] = set()
        self._size = 0  # bytes of the finished rows
        if self.path.suffix == ".gz":
            raise InvalidInput(f"{path}: a gzip file cannot be continued after an interruption; write plain .jsonl")
        if self.path.exists() and not self.path.is_file():
            raise OutputError("is not a plain file", path=path)
        try:
            # Unbuffered: after `append` nothing is left to lose, or to fail at closing.
            self._file: IO[bytes] = self.path.open("ab", buffering=0)
        except OSError as error:
            raise OutputError.from_os_error(error, path=path) from error
        try:
            lock_exclusively(self._file, self.path)
            self._read_finished()
            self._cut(self._size)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def rows(self) -> int:
        """Number of finished rows in the file."""
        return len(self.finished)

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows; when this returns they survive the death of the process.

        Args:
            rows: objects of JSON, each with the key. All are checked before the first is written.

        Raises:
            InvalidInput: a row has no key or holds what JSON cannot; nothing is written.
            OutputError: the disk is full or gone. The file holds whole rows only, and `finished` says which; the
                rest can be appended again once there is room.
        """
        keys = [self._key_of(row) for row in rows]
        lines = [self._line_of(row) for row in rows]
        data = b"".join(lines)
        if self._file.closed:
            raise OutputError("the journal is closed; open it again to go on", path=self.path)
        n_written = 0
        try:
            while n_written < len(data):
                n_written += self._file.write(data[n_written:]) or 0
        except BaseException as error:  # an interrupt between two writes tears a line as a full disk does
            n_written = os.fstat(self._file.fileno()).st_size - self._size
            n_rows = data.count(b"\n", 0, n_written)
            self._note(keys[:n_rows], sum(map(len, lines[:n_rows])))
            self._cut(self._size)
            if not isinstance(error, OSError):
                raise
            raise OutputError.from_os_error(
                error, path=self.path, state=f"its {self.rows} rows are whole, and the run can go on after them"
            ) from error
        self._note(keys, len(data))

    def sync(self) -> None:
        """Wait until the disk has the rows: after this a power cut loses none of them either.

        Raises:
            OutputError: the system could not store what it had taken.
        """
        try:
            os.fsync(self._file.fileno())
        except (OSError, ValueError) as error:  # ValueError: closed
            cause = error if isinstance(error, OSError) else OSError(str(error))
            raise OutputError.from_os_error(cause, path=self.path) from error

    def close(self) -> None:
        """Wait until the disk has the rows, and close; calling it twice does no harm.

        Raises:
            OutputError: the system could not store what it had taken.
        """
        if self._file.closed:
            return
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OutputError.from_os_error(error, path=self.path) from error
        finally:
            self._file.close()

    def _note(self, keys: list[str], n_bytes: int) -> None:
        self.finished.extend(keys)
        self.done.update(keys)
        self._size += n_bytes

    def _read_finished(self) -> None:
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):  # torn, and a whole object only by chance
                    break
                try:
                    key = self._key_of(json.loads(line))
                except (ValueError, RecursionError) as error:
                    message = f"not a finished row of this output: {error}; repair it or write to another file"
                    raise InvalidData(message, path=self.path, line=number) from error
                self._note([key], len(line))

    def _cut(self, n_bytes: int) -> None:
        """Cut what follows the finished rows."""
        try:
            if os.fstat(self._file.fileno()).st_size > n_bytes:
                self._file.truncate(n_bytes)
        except OSError as error:
            # Appending after a torn line would spoil two rows; the next opening cuts it.
            self._file.close()
            raise OutputError.from_os_error(error, path=self.path) from error

    def _key_of(self, row: Any) -> str:
        if not isinstance(row, Mapping):
            raise InvalidInput(f"a row must be an object, got {type(row).__name__}")
        value = self._key(row) if callable(self._key) else row.get(self._key)
        if isinstance(value, bool) or not isinstance(value, str | int):
            name = "a key" if callable(self._key) else f"`{self._key}`"
            raise InvalidInput(f"{name} of each row must be a text or a whole number, got {value!r}"[:200])
        return str(value)

    def _line_of(self, row: Mapping[str, Any]) -> bytes:
        try:
            return dump_json(dict(row)).encode("utf-8") + b"\n"
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"row {self._key_of(row)!r} holds what JSON cannot: {error}") from error
