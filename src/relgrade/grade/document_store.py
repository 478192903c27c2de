"""Records of documents in a folder, by key: bounded, shared by processes, and safe to lose.

One SQLite file in write-ahead mode, read through a memory map. SQLite keeps it whole when a process is killed in the
middle of a write, lets many read while one writes, and answers damage with an error where a crash could come. What it
raises leaves here as `StoreFailed`. Texts are not stored, but states can be turned back into much of them, so the
folder and its files belong to their owner alone.
"""

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relgrade.errors import InvalidInput, OutputError
from relgrade.grade.store_file import (
    BATCH_BYTES,
    give_back,
    kept_limit,
    next_use,
    on_disk,
    open_file,
    transaction,
    used_bytes,
)

FILE_NAME = "documents.sqlite"
DEFAULT_BYTES = 4_000_000_000  # of a new folder: about 45,000 documents of 220 tokens
MIN_BYTES = 1_000_000


class StoreFailed(Exception):
    """The folder cannot be read or written now: full disk, damaged file, a lock that another process holds too long.

    Attributes:
        is_damaged: the file itself is not what was written.
    """

    def __init__(self, message: str, *, is_damaged: bool = False) -> None:
        self.is_damaged = is_damaged
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """What a folder holds."""

    path: Path
    n_documents: int
    n_tokens: int
    n_bytes: int  # that records and their index take, free pages left out
    limit_bytes: int
    n_hits: int  # documents found, by all processes that have closed or written since
    n_lookups: int

    @property
    def bytes_per_document(self) -> float:
        """0 where there is none."""
        return self.n_bytes / self.n_documents if self.n_documents else 0.0

    @property
    def hit_ratio(self) -> float | None:
        """Share of lookups that found their document, in [0, 1]; None before the first."""
        return self.n_hits / self.n_lookups if self.n_lookups else None


@dataclass(frozen=True, slots=True)
class Row:
    """A document to store."""

    key: bytes
    record: bytes
    n_tokens: int


class DocumentStore:
    """Records by key in one folder. Safe to share between threads, and after a fork.

    Args:
        folder: made where it is not there, for its owner alone.
        limit_bytes: the least recently used documents make room above it; None: the folder's own bound, of a new one
            `DEFAULT_BYTES`. What is given here becomes the folder's own. A log of some MB beside the file comes on top.

    Raises:
        InvalidInput: the bound is out of range.
        OutputError: the folder cannot be made or is a file.
        StoreFailed: the file in it is damaged or cannot be opened.
    """

    def __init__(self, folder: Path | str, *, limit_bytes: int | None = None) -> None:
        if limit_bytes is not None and (isinstance(limit_bytes, bool) or limit_bytes < MIN_BYTES):
            raise InvalidInput(f"a document cache holds at least {MIN_BYTES:,} bytes, got {limit_bytes!r}")
        self.folder = Path(folder)
        self.path = self.folder / FILE_NAME
        self._limit = limit_bytes
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._owner = 0  # process that opened the connection; SQLite's must not cross a fork
        self._touched: dict[bytes, None] = {}
        self._n_hits = self._n_lookups = 0
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError.from_os_error(error, path=self.folder) from error
        self.is_writable = os.access(self.folder, os.W_OK)
        with self._guard():  # opens it
            pass

    def get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Those that are there.

        Raises:
            StoreFailed: nothing can be read.
        """
        found: dict[bytes, bytes] = {}
        with self._guard() as connection:
            for key in keys:
                self._n_lookups += 1
                row = connection.execute(
                    "SELECT record FROM documents JOIN records USING (id) WHERE key = ?", (key,)
                ).fetchone()
                if row is not None:
                    found[key] = row[0]
                    self._touched[key] = None
                    self._n_hits += 1
            if len(self._touched) >= 2000:
                self._flush(connection)
        return found

    def put(self, rows: Sequence[Row], *, keep_from: int | None = None) -> bool:
        """Store documents; one that is there stays as it is.

        Args:
            rows: in the order of their use.
            keep_from: a mark of `now`: what was used since then is not pushed out.

        Returns:
            Whether all were stored: False where the bound, or `keep_from` under it, leaves no room, or in a folder that
            can only be read.

        Raises:
            StoreFailed: they cannot be written; what was there before is intact.
        """
        if not self.is_writable:
            return False
        is_whole = True
        with self._guard() as connection:
            for batch in _batches(rows):
                self._flush(connection)
                if not self._make_room(connection, batch, keep_from=keep_from):
                    is_whole = False
                    break
                with transaction(connection):
                    self._insert(connection, batch)
        return is_whole

    def touch(self, keys: Sequence[bytes]) -> list[bool]:
        """Mark documents as used now; whether each is there. Reads no record."""
        with self._guard() as connection:
            there = [
                connection.execute("SELECT 1 FROM documents WHERE key = ?", (key,)).fetchone() is not None
                for key in keys
            ]
            self._touched.update((key, None) for key, is_there in zip(keys, there, strict=True) if is_there)
            self._flush(connection)
        return there

    def drop(self, keys: Iterable[bytes]) -> None:
        """Take documents out, as those whose record is damaged."""
        with self._guard() as connection, transaction(connection):
            for key in keys:
                self._delete(connection, key)

    def now(self) -> int:
        """A mark in the order of use: what is used from here on has this number or a higher one."""
        with self._guard() as connection:
            return next_use(connection)

    def clear(self) -> None:
        """Take everything out and give the space back; other processes go on with an empty cache."""
        with self._guard() as connection:
            self._touched.clear()
            self._n_hits = self._n_lookups = 0
            with transaction(connection):
                for table in ("documents", "records"):
                    connection.execute(f"DELETE FROM {table}")
                connection.execute("DELETE FROM settings WHERE name != 'limit_bytes'")
            give_back(connection)

    def info(self) -> StoreInfo:
        """What the folder holds, lookups of this process included."""
        with self._guard() as connection:
            if self.is_writable:
                self._flush(connection)
            n_documents, n_tokens = connection.execute(
                "SELECT count(*), coalesce(sum(n_tokens), 0) FROM documents"
            ).fetchone()
            settings = dict(connection.execute("SELECT name, value FROM settings").fetchall())
            n_hits, n_lookups = settings.get("n_hits", 0), settings.get("n_lookups", 0)
            used = used_bytes(connection) if n_documents else 0
        return StoreInfo(self.path, n_documents, n_tokens, used, self.limit_bytes, n_hits, n_lookups)

    @property
    def limit_bytes(self) -> int:
        """The bound."""
        return self._limit or DEFAULT_BYTES

    def close(self) -> None:
        """Write down what was used, and let go of the file; a later call opens it again."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is None or self._owner != os.getpid():
                return
            with contextlib.suppress(sqlite3.Error):
                if self.is_writable:
                    self._flush(connection)
            connection.close()

    @contextlib.contextmanager
    def _guard(self) -> Any:
        """The connection, for one thread at a time; what SQLite raises becomes `StoreFailed`."""
        with self._lock:
            try:
                if self._connection is None or self._owner != os.getpid():
                    self._open()
                yield self._connection
            except (sqlite3.Error, OSError) as error:
                code = getattr(error, "sqlite_errorcode", None)
                damaged = code is not None and (code & 0xFF) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
                raise StoreFailed(f"{self.path}: {error}", is_damaged=damaged) from error

    def _open(self) -> None:
        if self.is_writable:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # it may have been deleted since
        connection = open_file(self.path, is_writable=self.is_writable)
        try:
            self._limit = kept_limit(connection, self._limit)
            if self.is_writable and self._evict(connection, self.limit_bytes, keep_from=None):
                give_back(connection)
        except BaseException:
            connection.close()
            raise
        self._connection, self._owner = connection, os.getpid()

    def _flush(self, connection: sqlite3.Connection) -> None:
        """Write down the order of use and the lookups since the last time."""
        if not self.is_writable or not (self._touched or self._n_lookups):
            self._touched.clear()
            return
        with transaction(connection):
            used = next_use(connection)
            connection.executemany(
                "UPDATE documents SET used = ? WHERE key = ?", [(used + i, key) for i, key in enumerate(self._touched)]
            )
            for name, count in (("n_hits", self._n_hits), ("n_lookups", self._n_lookups)):
                connection.execute(
                    "INSERT INTO settings VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = value + ?2",
                    (name, count),
                )
        self._touched.clear()
        self._n_hits = self._n_lookups = 0

    def _make_room(self, connection: sqlite3.Connection, rows: Sequence[Row], *, keep_from: int | None) -> bool:
        needed = sum(on_disk(len(row.record)) for row in rows)
        if needed > self.limit_bytes:
            return False
        self._evict(connection, self.limit_bytes - needed, keep_from=keep_from)
        return used_bytes(connection) + needed <= self.limit_bytes

    def _evict(self, connection: sqlite3.Connection, target: int, *, keep_from: int | None) -> bool:
        """Push out what was used longest ago until the rest fits; whether anything went."""
        went = False
        while used_bytes(connection) > target:
            with transaction(connection):
                rows = connection.execute(
                    "SELECT key, n_bytes FROM documents WHERE used < ? ORDER BY used LIMIT 64",
                    (2**62 if keep_from is None else keep_from,),
                ).fetchall()
                excess = used_bytes(connection) - target
                for key, n_bytes in rows:
                    if excess <= 0:
                        break
                    self._delete(connection, key)
                    excess -= on_disk(n_bytes)
            if not rows:
                break
            went = True
        return went

    def _insert(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
        used = next_use(connection)
        for i, row in enumerate(rows):
            if connection.execute("SELECT 1 FROM documents WHERE key = ?", (row.key,)).fetchone():
                continue  # another process was quicker
            number = connection.execute("INSERT INTO records (record) VALUES (?)", (row.record,)).lastrowid
            connection.execute(
                "INSERT INTO documents VALUES (?, ?, ?, ?, ?)",
                (row.key, number, used + i, len(row.record), row.n_tokens),
            )

    @staticmethod
    def _delete(connection: sqlite3.Connection, key: bytes) -> None:
        connection.execute("DELETE FROM records WHERE id = (SELECT id FROM documents WHERE key = ?)", (key,))
        connection.execute("DELETE FROM documents WHERE key = ?", (key,))


def _batches(rows: Sequence[Row]) -> Iterable[list[Row]]:
    batch: list[Row] = []
    n_bytes = 0
    for row in rows:
        if batch and n_bytes + len(row.record) > BATCH_BYTES:
            yield batch
            batch, n_bytes = [], 0
        batch.append(row)
        n_bytes += len(row.record)
    if batch:
        yield batch
