"""The output of a long grading run: whole lines only, and a note beside it that says which run they belong to.

The rows in the file are the journal: a run that starts again cuts a torn last line, counts the rest and goes on after
them. `FILE.state.json` holds the bundle, the settings, and the sha256 of the input read so far, so that rows of one
input or grader are never continued with another's. It knows bytes and lines, and nothing of grades.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from relgrade.errors import InvalidData, InvalidInput
from relgrade.formats.locking import lock_exclusively

STATE_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """What the note holds."""

    run: Mapping[str, Any]  # what must be the same for rows to belong together: bundle hash, operating point
    n_rows: int = 0  # rows known to be written
    input_bytes: int = 0  # bytes of the input that these rows and the lines skipped between them took
    input_sha256: str = hashlib.sha256().hexdigest()  # of those bytes
    is_finished: bool = False
    version: int = STATE_VERSION


class InputPrefix:
    """Hashes the input as it is read, and checks it against an earlier run's.

    Args:
        state: the earlier run.
        name: of the input, for messages.
    """

    def __init__(self, state: RunState, *, name: str) -> None:
        self._state, self._name = state, name
        self._hash = hashlib.sha256()
        self.n_bytes = 0
        self.is_other = False  # True once the input turned out not to be the earlier run's

    @property
    def sha256(self) -> str:
        """Of everything read so far."""
        return self._hash.hexdigest()

    @property
    def is_checked(self) -> bool:
        """True once as much was read as the earlier run had read, and it was the same."""
        return not self.is_other and self.n_bytes >= self._state.input_bytes

    def read(self, raw: bytes) -> None:
        """Take the next line.

        Raises:
            InvalidData: the input does not begin with what the earlier run read.
        """
        was_checked = self.is_checked
        self._hash.update(raw)
        self.n_bytes += len(raw)
        if not was_checked and self.is_checked:
            self.check()

    def check(self) -> None:
        """Raise unless what was read is what the earlier run read, no more and no less.

        Raises:
            InvalidData: it is not.
        """
        if (self.n_bytes, self.sha256) != (self._state.input_bytes, self._state.input_sha256):
            self.is_other = True
            raise InvalidData(
                "is not the input that the existing output was made from; grade it into another file, "
                "or start again with --overwrite",
                path=self._name,
            )


class ResumableOutput:
    """Rows appended to a file that any interruption leaves valid. A context manager.

    Args:
        path: the output; its note is `path` + `.state.json`.
        run: what must be the same for existing rows to be continued; JSON.
        overwrite: throw existing rows away.

    Raises:
        InvalidInput: the file holds rows of something else, or another process writes it.
    """

    def __init__(self, path: Path, *, run: Mapping[str, Any], overwrite: bool = False) -> None:
        self.path = path
        self._state_path = path.with_name(path.name + ".state.json")
        # Unbuffered: after `write` nothing is left to lose or to fail at closing.
        self._file = path.open("ab", buffering=0)
        try:
            lock_exclusively(self._file, path)
            if overwrite:
                self._file.truncate(0)
                self._state_path.unlink(missing_ok=True)
            self.state = self._read_state(run)
            self.n_rows, self.n_errors = self._cut_and_count()
            self._n_rows_found, self._n_bytes_found = self.n_rows, self.path.stat().st_size
            self._save(self.state)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, rows: Sequence[bytes], prefix: InputPrefix) -> None:
        """Append whole lines and note how far the input was read for them.

        The note of an earlier run stays until the input is known to be its input.

        Raises:
            OSError: the disk is full or gone; the file is cut to its last whole line and `n_rows` counts those.
        """
        data = b"".join(rows)
        n_written = 0
        try:
            while n_written < len(data):
                n_written += self._file.write(data[n_written:]) or 0
        except OSError:
            n_whole = data.rfind(b"\n", 0, n_written) + 1
            self._file.truncate(self._file.seek(0, os.SEEK_END) - (n_written - n_whole))
            self.n_rows += data.count(b"\n", 0, n_whole)
            raise
        self.n_rows += len(rows)
        if prefix.is_checked:
            self._note(prefix, is_finished=False)

    def finish(self, prefix: InputPrefix) -> None:
        """Note that the input was read to its end."""
        self._note(prefix, is_finished=True)

    def roll_back(self) -> None:
        """Cut the file to the rows it had when it was opened: those since then came from another input."""
        self._file.truncate(self._n_bytes_found)
        self.n_rows = self._n_rows_found

    def _read_state(self, run: Mapping[str, Any]) -> RunState:
        start_again = "choose another output, or start again with --overwrite"
        try:
            noted = json.loads(self._state_path.read_bytes())
        except FileNotFoundError:
            if self.path.stat().st_size:
                raise InvalidInput(
                    f"{self.path}: exists, and nothing beside it says that this command wrote it; {start_again}"
                ) from None
            return RunState(run=dict(run))
        except ValueError as error:
            raise InvalidInput(f"{self._state_path}: not the note of a run ({error}); {start_again}") from error
        try:
            state = RunState(**noted)
        except TypeError as error:
            raise InvalidInput(f"{self._state_path}: not the note of a run; {start_again}") from error
        if state.version != STATE_VERSION:
            raise InvalidInput(f"{self._state_path}: written by another version of relgrade; {start_again}")
        for name in sorted({*run, *state.run}):  # an option that was left out this time counts too
            before, now = state.run.get(name), run.get(name)
            if before != now:
                raise InvalidInput(
                    f"{self.path}: its rows were written with {name.replace('_', ' ')} {before!r}, "
                    f"this run has {now!r}; {start_again}"
                )
        return state

    def _cut_and_count(self) -> tuple[int, int]:
        """Whole lines in the file and those of them that hold an error; what follows the last newline is cut."""
        n_rows = n_errors = n_bytes = 0
        with self.path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    self._file.truncate(n_bytes)
                    break
                n_rows += 1
                n_bytes += len(line)
                if b'"error": ' in line and "error" in json.loads(line):  # the search first: parsing is slow
                    n_errors += 1
        return n_rows, n_errors

    def _note(self, prefix: InputPrefix, *, is_finished: bool) -> None:
        self._save(
            RunState(
                run=self.state.run,
                n_rows=self.n_rows,
                input_bytes=prefix.n_bytes,
                input_sha256=prefix.sha256,
                is_finished=is_finished,
            )
        )

    def _save(self, state: RunState) -> None:
        """Replace the note in one step: a reader finds the old one or the new one, never half of one."""
        self.state = state
        scratch = self._state_path.with_name(self._state_path.name + ".new")
        try:
            scratch.write_text(json.dumps(asdict(state), indent=1) + "\n", encoding="utf-8")
            scratch.replace(self._state_path)
        except OSError:
            scratch.unlink(missing_ok=True)
            raise
