"""The pairs file of a run that may be interrupted: whole rows only, and a note of what run they belong to.

Pairs are drawn in one order and the draw of a query depends on nothing but itself, so a run that starts again goes on
with the query of the last row. `FILE.state.json` says which corpus, queries and settings the rows come from.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from relgrade.errors import InvalidInput, OutputError
from relgrade.formats import JsonlJournal
from relgrade.formats.rows import row_from_pair
from relgrade.records import Pair

_VERSION = 1


class CandidateOutput:
    """Appends pairs to a file. A context manager.

    Args:
        path: `.jsonl`.
        run: what must be the same for existing rows to be continued; JSON.
        overwrite: throw existing rows away.

    Raises:
        InvalidInput: the file holds rows of something else, or another process writes it.
        OutputError: it cannot be written.
    """

    def __init__(self, path: Path, *, run: Mapping[str, Any], overwrite: bool = False) -> None:
        self.path = path
        self._note_path = path.with_name(f"{path.name}.state.json")
        self._run = {"version": _VERSION, **run}
        if overwrite:
            path.unlink(missing_ok=True)
            self._note_path.unlink(missing_ok=True)
        self._check_note()
        self._journal = JsonlJournal(path, key=_key)
        try:
            self._save_note()
        except BaseException:
            self._journal.close()
            raise
        self.n_found = self._journal.rows
        self._last_query = self._journal.finished[-1].split("\t")[0] if self.n_found else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._journal.close()

    @property
    def n_pairs(self) -> int:
        """Pairs in the file."""
        return self._journal.rows

    def n_finished(self, query_ids: Sequence[str]) -> int:
        """How many queries, from the first, have all their pairs; the one of the last row is looked at again."""
        if self._last_query is None:
            return 0
        keys = {_escape(query_id): number for number, query_id in enumerate(query_ids)}
        if self._last_query not in keys:
            raise InvalidInput(f"{self.path}: its last row is of no query of this run; start again with overwrite")
        return keys[self._last_query]

    def write(self, pairs: Sequence[Pair]) -> None:
        """Append the pairs of a query that are not in the file; they survive the death of the process.

        Raises:
            OutputError: the disk is full; the file holds whole rows, and the run can go on after them.
        """
        rows = [{name: value for name, value in row_from_pair(pair).items() if value is not None} for pair in pairs]
        self._journal.append([row for row in rows if _key(row) not in self._journal.done])

    def _check_note(self) -> None:
        again = "write to another file, or start again with overwrite"
        try:
            found = json.loads(self._note_path.read_bytes())
        except FileNotFoundError:
            if self.path.exists() and self.path.stat().st_size:
                message = f"{self.path}: exists, and nothing beside it says that this command wrote it; {again}"
                raise InvalidInput(message) from None
            return
        except ValueError as error:
            raise InvalidInput(f"{self._note_path}: not the note of a run ({error}); {again}") from error
        if not isinstance(found, dict):
            raise InvalidInput(f"{self._note_path}: not the note of a run; {again}")
        for name, value in self._run.items():
            if found.get(name) != value:
                raise InvalidInput(
                    f"{self.path}: its rows were made with {name} {found.get(name)!r}, this run has {value!r}; {again}"
                )

    def _save_note(self) -> None:
        scratch = self._note_path.with_name(f"{self._note_path.name}.new")
        try:
            scratch.write_text(json.dumps(self._run, indent=1) + "\n", encoding="utf-8")
            scratch.replace(self._note_path)
        except OSError as error:
            scratch.unlink(missing_ok=True)
            raise OutputError.from_os_error(error, path=self._note_path) from error


def _key(row: Mapping[str, Any]) -> str:
    return f"{_escape(str(row['query_id']))}\t{row['doc_id']}"


def _escape(query_id: str) -> str:
    return query_id.replace("\t", "\\t")
