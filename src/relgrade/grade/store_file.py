"""The SQLite file of a document store: how it is opened, what its tables are, and how its space is counted.

It knows pages, transactions and the order of use, and nothing of documents.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from relgrade.errors import OutputError

BATCH_BYTES = 8_000_000  # of one transaction: what the log beside the file holds, about

PAGE_BYTES = 4096
_MAP_BYTES = 2**40  # SQLite takes what it was built for, 2 GB at most
_WAIT_S = 10.0  # for another process that writes
_APPLICATION_ID = 0x52474453  # "RGDS"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS documents (
    key BLOB PRIMARY KEY, id INTEGER NOT NULL, used INTEGER NOT NULL, n_bytes INTEGER NOT NULL,
    n_tokens INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS documents_used ON documents (used);
CREATE TABLE IF NOT EXISTS records (id INTEGER PRIMARY KEY, record BLOB NOT NULL);
"""


def open_file(path: Path, *, is_writable: bool) -> sqlite3.Connection:
    """A connection; the file and its tables are made where they are not there.

    Args:
        path: in a folder that is there.
        is_writable: False reads a file that nobody can write, without locks.

    Raises:
        sqlite3.Error, OSError: it cannot be opened.
    """
    if is_writable:
        # Made here first: SQLite would make it as the umask says, and its log takes the mode of the file. One that is
        # there is not touched: closing it would drop the locks that this process holds on it (POSIX).
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        name = str(path)
    else:
        name = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    connection = sqlite3.connect(
        name, timeout=_WAIT_S, isolation_level=None, check_same_thread=False, uri=not is_writable
    )
    try:
        connection.execute(f"PRAGMA mmap_size = {_MAP_BYTES}").fetchall()
        if is_writable:
            _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def kept_limit(connection: sqlite3.Connection, limit: int | None) -> int | None:
    """The bound of the folder, after it became `limit` where that is given; None: it has none yet."""
    if limit is None:
        row = connection.execute("SELECT value FROM settings WHERE name = 'limit_bytes'").fetchone()
        return int(row[0]) if row else None
    with contextlib.suppress(sqlite3.OperationalError):  # a file that can only be read
        connection.execute("INSERT OR REPLACE INTO settings VALUES ('limit_bytes', ?)", (limit,))
    return limit


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute("PRAGMA synchronous = NORMAL")  # after a power cut the last writes may be missing
    connection.execute(f"PRAGMA journal_size_limit = {2 * BATCH_BYTES}").fetchall()
    with transaction(connection):
        for statement in _SCHEMA.split(";\n"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of the block or nothing of it; raises sqlite3.Error."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite has undone it already where the disk is full
            connection.execute("ROLLBACK")
        raise


def give_back(connection: sqlite3.Connection) -> None:
    """Shorten the file by its free pages, and empty the log."""
    # Not execute(), which takes one step, and each step gives back one page.
    connection.executescript("PRAGMA incremental_vacuum")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def next_use(connection: sqlite3.Connection) -> int:
    """One more than the latest mark in the order of use."""
    return int(connection.execute("SELECT coalesce(max(used), 0) + 1 FROM documents").fetchone()[0])


def used_bytes(connection: sqlite3.Connection) -> int:
    """Of the file, pages that are free left out."""
    n_pages = connection.execute("PRAGMA page_count").fetchone()[0]
    n_free = connection.execute("PRAGMA freelist_count").fetchone()[0]
    return int(n_pages - n_free) * PAGE_BYTES


def on_disk(n_bytes: int) -> int:
    """Bytes of a record in pages, its entry and its place in the index included, about; never less than it takes."""
    return (n_bytes // (PAGE_BYTES - 4) + 2) * PAGE_BYTES


def remove_file(path: Path) -> None:
    """Take the file and its log away, so that an empty one can be made; processes that hold it go on with theirs.

    Raises:
        OutputError: it cannot be removed.
    """
    try:
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError.from_os_error(error, path=path) from error
