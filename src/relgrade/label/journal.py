"""The journal of labelling: an SQLite file in WAL mode that knows every answer by the content it is an answer to.

- An answer is committed before its place in the queue is given to another request, so kill -9 at any moment loses
  at most the requests in flight.
- A key is claimed before it is asked. Claims of a process that died are free again at once (its pid is gone) or after
  some seconds without a heartbeat (another machine). The first answer to a key stands; a later one is dropped.
- Nothing in it is a key, a query or a document: digests, answers, replies, counts.

Not for network file systems, where SQLite's WAL mode does not work; not for several threads.
"""

import json
import os
import random
import secrets
import socket
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from relgrade.errors import InvalidData, OutputError
from relgrade.label.journal_schema import SCHEMA, TABLES, Answer, Claimed, Exported, Totals

HEARTBEAT_S = 2.0  # how often an owner says that it lives
STALE_S = 20.0  # silence after which it is taken for dead
_BUSY_S = 30.0  # wait for another process's transaction, at most
_COLUMNS = tuple(item.name for item in fields(Answer))
_SELECT = f"select {', '.join(_COLUMNS)} from answers"
_INSERT = f"insert or ignore into answers ({', '.join(_COLUMNS)}, time) values ({', '.join('?' * (len(_COLUMNS) + 1))})"
_TOTALS = tuple(item.name for item in fields(Totals))
_ADD = f"update totals set {', '.join(f'{name} = {name} + ?' for name in _TOTALS)}"
_MAX_VARIABLES = 500


class Journal:
    """Answers, claims and totals. A context manager.

    Args:
        path: the file, made when it is not there.

    Attributes:
        path: the file.

    Raises:
        InvalidData: the file is no journal, is damaged, or was written by a newer relgrade.
        OutputError: it cannot be opened or written.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.parent.is_dir():  # SQLite says no more than that it cannot open the file
            advice = f"there is no folder {self.path.parent}; make it, or name another journal (--journal)"
            raise OutputError(f"the journal cannot be made: {advice}", path=self.path)
        self._owner = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        with self._errors():
            self._db = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None)
            try:
                self._open()
            except BaseException:
                self._db.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back claims and close; calling it twice does no harm."""
        try:
            with self._transaction():
                self._db.execute("delete from claims where owner = ?", (self._owner,))
                self._db.execute("delete from owners where owner = ?", (self._owner,))
        except (sqlite3.ProgrammingError, OutputError):  # closed before; a full disk leaves claims that die with us
            pass
        finally:
            self._db.close()

    def beat(self) -> None:
        """Say that this process lives; call it every `HEARTBEAT_S`."""
        with self._transaction():
            self._db.execute("update owners set beat = ? where owner = ?", (time.time(), self._owner))

    def claim(self, keys: Iterable[str]) -> Claimed:
        """Claim what is neither answered nor claimed nor exported; failures of before are asked again."""
        wanted = list(dict.fromkeys(keys))
        with self._transaction():
            done = {key for (key,) in self._select("select key from answers where key in", wanted)}
            exported = {key for (key,) in self._select("select key from exported where key in", wanted)} - done
            owners = dict(self._select("select key, owner from claims where key in", wanted))
            alive = self._living() if owners else set()
            elsewhere = {key for key, owner in owners.items() if owner in alive} - done - exported
            mine = [key for key in wanted if key not in done and key not in exported and key not in elsewhere]
            claim = "insert or replace into claims (key, owner) values (?, ?)"
            self._db.executemany(claim, [(key, self._owner) for key in mine])
        return Claimed(frozenset(mine), frozenset(done), frozenset(elsewhere), frozenset(exported))

    def commit(self, answer: Answer, *, spent: Totals) -> bool:
        """Store an answer, count what it cost and give its claim back, in one step.

        Returns:
            True when it is the answer that stands; False when another came first.
        """
        with self._transaction():
            is_first = self._insert(answer)
            self._add(spent)
            self._db.execute("delete from claims where key = ? and owner = ?", (answer.key, self._owner))
            self._db.execute("delete from failures where key = ?", (answer.key,))
        return is_first

    def fail(self, key: str, error: str, *, spent: Totals | None = None) -> None:
        """Note why a key has no answer, and give its claim back; the next run asks it again."""
        with self._transaction():
            self._db.execute("insert or replace into failures values (?, ?, ?)", (key, error, time.time()))
            self._db.execute("delete from claims where key = ? and owner = ?", (key, self._owner))
            if spent:
                self._add(spent)

    def spend(self, spent: Totals) -> None:
        """Count what a request cost that led to no answer yet."""
        with self._transaction():
            self._add(spent)

    def release(self, keys: Iterable[str]) -> None:
        """Give claims back."""
        with self._transaction():
            rows = [(key, self._owner) for key in keys]
            self._db.executemany("delete from claims where key = ? and owner = ?", rows)

    def forget_errors(self, about: str) -> int:
        """Drop paid replies without an answer, so that they are asked, and paid, again; returns how many."""
        with self._transaction():
            return self._db.execute("delete from answers where error is not null and about = ?", (about,)).rowcount

    def answers(self, keys: Sequence[str]) -> dict[str, Answer]:
        """The answers there are, by key."""
        with self._errors():
            rows = self._select(f"{_SELECT} where key in", keys)
            return {row[0]: Answer(**dict(zip(_COLUMNS, row, strict=True))) for row in rows}

    def failures(self, keys: Sequence[str]) -> dict[str, str]:
        """Why keys have no answer, where a try is known."""
        with self._errors():
            return dict(self._select("select key, error from failures where key in", keys))

    def exported(self, keys: Sequence[str]) -> dict[str, Exported]:
        """The keys that are out in a batch."""
        with self._errors():
            rows = self._select("select key, about, method, file from exported where key in", keys)
            return {row[0]: Exported(*row) for row in rows}

    def export(self, rows: Iterable[Exported]) -> None:
        """Note that keys are out in a batch, and give their claims back."""
        with self._transaction():
            for row in rows:
                values = (row.key, row.about, row.method, row.file, time.time())
                self._db.execute("insert or replace into exported values (?, ?, ?, ?, ?)", values)
                self._db.execute("delete from claims where key = ? and owner = ?", (row.key, self._owner))

    def take_batch(self, answers: Sequence[Answer], failed: Mapping[str, str], *, spent: Totals) -> int:
        """Store answers that came by a batch; an answer takes the place of a stored error.

        Returns:
            Answers that stand.
        """
        n_new = 0
        with self._transaction():
            for answer in answers:
                if answer.error is None:
                    self._db.execute("delete from answers where key = ? and error is not null", (answer.key,))
                n_new += self._insert(answer)
                self._db.execute("delete from failures where key = ?", (answer.key,))
            failures = [(key, error, time.time()) for key, error in failed.items()]
            self._db.executemany("insert or replace into failures values (?, ?, ?)", failures)
            gone = [(key,) for key in (*(answer.key for answer in answers), *failed)]
            self._db.executemany("delete from exported where key = ?", gone)
            self._add(spent)
        return n_new

    def describe(self, about: str, description: Mapping[str, Any]) -> None:
        """Keep what the digest `about` stands for."""
        with self._transaction():
            self._db.execute("insert or ignore into abouts values (?, ?)", (about, json.dumps(description)))

    def description(self, about: str) -> dict[str, Any] | None:
        """What the digest stands for."""
        with self._errors():
            row = self._db.execute("select description from abouts where about = ?", (about,)).fetchone()
            return None if row is None else dict(json.loads(row[0]))

    def ladder(self, server: str, model: str) -> dict[str, Any] | None:
        """What is known of a server's abilities."""
        with self._errors():
            query = "select state from ladders where server = ? and model = ?"
            row = self._db.execute(query, (server, model)).fetchone()
            return None if row is None else dict(json.loads(row[0]))

    def remember_ladder(self, server: str, model: str, state: Mapping[str, Any]) -> None:
        """Keep it for the next run."""
        with self._transaction():
            values = (server, model, json.dumps(state))
            self._db.execute("insert or replace into ladders values (?, ?, ?)", values)

    def totals(self) -> Totals:
        """What was spent, in all runs and processes."""
        with self._errors():
            row = self._db.execute(f"select {', '.join(_TOTALS)} from totals").fetchone()
        return Totals(**dict(zip(_TOTALS, row, strict=True)))

    def _open(self) -> None:
        self._use_wal()
        # NORMAL: what is committed survives the death of the process; a power cut may take the last moments.
        for pragma in ("synchronous = normal", "wal_autocheckpoint = 2000"):
            self._db.execute(f"pragma {pragma}").fetchall()
        with self._transaction():
            for statement in TABLES.split(";"):
                self._db.execute(statement)
            self._db.execute("insert or ignore into meta values ('schema', ?)", (str(SCHEMA),))
            self._db.execute("insert or ignore into totals values (1, 0, 0, 0, 0, 0.0)")
            (found,) = self._db.execute("select value from meta where name = 'schema'").fetchone()
            if int(found) > SCHEMA:
                raise InvalidData(f"a journal of schema {found}, this relgrade reads {SCHEMA}; upgrade", path=self.path)
            values = (self._owner, socket.gethostname(), os.getpid(), time.time())
            self._db.execute("insert into owners values (?, ?, ?, ?)", values)
            self._living()

    def _use_wal(self) -> None:
        # SQLite does not wait its timeout when two connections of a new file switch it to WAL at once: it fails.
        give_up = time.monotonic() + _BUSY_S
        while True:
            try:
                self._db.execute("pragma journal_mode = wal").fetchall()
                return
            except sqlite3.OperationalError as error:
                is_busy = error.sqlite_errorcode in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_RECOVERY)
                if not is_busy or time.monotonic() > give_up:
                    raise
                time.sleep(random.uniform(0.001, 0.02))

    def _living(self) -> set[str]:
        """Owners that live, those of the dead removed with their claims. This process's other journals live too."""
        alive = set()
        for owner, host, pid, beat in self._db.execute("select owner, host, pid, beat from owners").fetchall():
            is_gone = host == socket.gethostname() and not _is_running(pid)
            if owner != self._owner and (is_gone or time.time() - beat > STALE_S):
                self._db.execute("delete from owners where owner = ?", (owner,))
                self._db.execute("delete from claims where owner = ?", (owner,))
            else:
                alive.add(owner)
        return alive

    def _insert(self, answer: Answer) -> bool:
        values = [getattr(answer, name) for name in _COLUMNS]
        return self._db.execute(_INSERT, (*values, time.time())).rowcount == 1

    def _add(self, spent: Totals) -> None:
        self._db.execute(_ADD, tuple(getattr(spent, name) for name in _TOTALS))

    def _select(self, query: str, keys: Sequence[str]) -> list[Any]:
        rows: list[Any] = []
        for start in range(0, len(keys), _MAX_VARIABLES):
            part = keys[start : start + _MAX_VARIABLES]
            rows += self._db.execute(f"{query} ({','.join('?' * len(part))})", part).fetchall()
        return rows

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors():
            self._db.execute("begin immediate")
            try:
                yield
                self._db.execute("commit")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("rollback")
                raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError:
            raise
        except sqlite3.DatabaseError as error:
            text = str(error)
            if isinstance(error, sqlite3.OperationalError):
                raise OutputError(f"the journal cannot be used: {text}", path=self.path) from error
            raise InvalidData(f"not a journal of labels, or damaged: {text}", path=self.path) from error


def _is_running(pid: int) -> bool:
    if sys.platform == "win32":  # os.kill would end it there; the heartbeat alone decides
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
