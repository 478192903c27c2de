"""Which steps of a run are done: `steps.json` in the run's folder, so that a killed run goes on where it was.

A step is done when its settings and the bytes of its input files are those recorded, and its output files still have
the bytes it wrote. Nothing here knows what a step does.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relgrade import __version__
from relgrade.errors import InvalidInput, OutputError
from relgrade.formats.locking import lock_exclusively
from relgrade.formats.write import replaced_file

LEDGER_NAME = "steps.json"
LOCK_NAME = ".lock"
_PIECE_BYTES = 2**20

Work = Callable[[str], Sequence[str]]
"""Does a step: takes the hash of its inputs, returns what it found as lines of text."""


@dataclass(frozen=True, slots=True)
class StepReport:
    """What a step did."""

    name: str
    is_skipped: bool  # nothing it depends on has changed, so its files were kept
    found: tuple[str, ...]  # lines of text; those of the earlier run when it was skipped
    warnings: tuple[str, ...] = ()  # what a reader should look into


class Ledger:
    """The steps of one run. A context manager that keeps a second run out of the folder.

    Args:
        folder: of the run; made.
        on_step: is told each step when it is done.

    Raises:
        InvalidInput: another process is running in this folder.
        OutputError: the folder cannot be written.
    """

    def __init__(self, folder: Path, *, on_step: Callable[[StepReport], None] | None = None) -> None:
        self._folder = folder
        self._on_step = on_step
        self._hashes: dict[tuple[str, int, int], str] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / LOCK_NAME).open("ab")
        except OSError as error:
            raise OutputError.from_os_error(error, path=folder) from error
        try:
            lock_exclusively(self._lock, folder, doing="is writing this folder")
        except BaseException:
            self._lock.close()
            raise
        self._steps = _read(folder / LEDGER_NAME)

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def run(
        self, name: str, work: Work, *, settings: Any, inputs: Sequence[Path], outputs: Sequence[str]
    ) -> StepReport:
        """Do a step unless it is done.

        Args:
            name: of the step.
            work: does it. A line it returns that starts with `! ` is a warning.
            settings: JSON that decides its outcome.
            inputs: files and folders it reads.
            outputs: files and folders it writes, relative to the folder of the run.
        """
        key = _sha256([name, __version__, settings, [self._tree(path) for path in inputs]])
        recorded = self._steps.get(name)
        is_done = (
            recorded is not None
            and recorded["inputs"] == key
            and recorded["outputs"] == {output: self._tree(self._folder / output) for output in outputs}
        )
        if recorded is None or not is_done:
            lines = list(work(key))
            written = {output: self._tree(self._folder / output) for output in outputs}
            recorded = {"inputs": key, "outputs": written, "found": lines}
            self._steps = {**self._steps, name: recorded}
            self._write()
        lines = recorded["found"]
        report = StepReport(
            name,
            is_done,
            tuple(line for line in lines if not line.startswith("! ")),
            tuple(line[2:] for line in lines if line.startswith("! ")),
        )
        if self._on_step is not None:
            self._on_step(report)
        return report

    def _write(self) -> None:
        with replaced_file(self._folder / LEDGER_NAME) as file:
            file.write(json.dumps(self._steps, indent=1).encode("ascii") + b"\n")

    def _tree(self, path: Path) -> dict[str, str]:
        """sha256 of the file, or of every file below the folder by relative name; empty when nothing is there."""
        if path.is_dir():
            below = sorted(each for each in path.rglob("*") if each.is_file())
            return {each.relative_to(path).as_posix(): self._hash(each) for each in below}
        return {"": self._hash(path)} if path.is_file() else {}

    def _hash(self, path: Path) -> str:
        state = path.stat()
        place = (str(path), state.st_size, state.st_mtime_ns)
        if place not in self._hashes:
            self._hashes[place] = file_sha256(path)
        return self._hashes[place]


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a file of JSON whole or not at all; the same value gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as file:
        file.write(json.dumps(value, indent=2, sort_keys=True, allow_nan=False).encode("ascii") + b"\n")


def read_json(path: Path) -> dict[str, Any]:
    """Inverse of `write_json`.

    Raises:
        InvalidInput: the file is not there, or does not hold a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path}: a JSON file of an earlier step was expected: {error}") from error
    if not isinstance(value, dict):
        raise InvalidInput(f"{path}: a JSON object was expected, got {type(value).__name__}")
    return value


def _read(path: Path) -> dict[str, Any]:
    try:
        steps = json.loads(path.read_text(encoding="utf-8"))
        return {name: step for name, step in steps.items() if {"inputs", "outputs", "found"} <= set(step)}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError):  # damaged: every step is done again
        return {}


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode("ascii")).hexdigest()
