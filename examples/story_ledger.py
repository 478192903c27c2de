"""Runs the steps of a story and remembers which are done, so that a killed run goes on where it was.

`story.json` holds, for each step, a digest of everything it rests on and the line it ended with. A step whose digest is
another than it was throws its own files away and starts afresh, and so do those after it.
"""

import contextlib
import hashlib
import io
import json
import shlex
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from relgrade import RelgradeError
from relgrade.cli.main import main as relgrade_command
from relgrade.formats.write import replaced_file

LEDGER = "story.json"


class StoryError(RelgradeError):
    """A command of the story failed, or the folder cannot be used."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what it is called, what it does, which files and folders are its own."""

    name: str
    act: Callable[[], str]  # does it, or what a killed run has left of it; returns one line with what it found
    files: tuple[Path, ...]  # complete once `act` returned
    scratch: tuple[Path, ...] = ()  # its own too, and none that must be there
    about: Mapping[str, Any] = field(default_factory=dict)  # settings it depends on


def run_steps(steps: Iterable[Step], folder: Path, *, inputs: Iterable[bytes], say: Callable[[str], None]) -> None:
    """Do what is not done yet, and tell each step's line.

    Args:
        steps: in order; each depends on all before it.
        folder: of the story, made where it is not there.
        inputs: everything from outside that the steps depend on.
        say: takes a line.

    Raises:
        StoryError: the folder holds something else, or a step failed.
    """
    path = folder / LEDGER
    if folder.exists() and any(folder.iterdir()) and not path.exists():
        raise StoryError(f"{folder}: holds files and no {LEDGER}; name an empty or a new folder with --output")
    ledger: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    digest = hashlib.sha256(b"\0".join(hashlib.sha256(each).digest() for each in inputs)).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    for number, step in enumerate(steps, 1):
        digest = hashlib.sha256(f"{digest}\0{step.name}\0{json.dumps(step.about)}".encode()).hexdigest()
        found = ledger.get(step.name, {})
        if found.get("digest") != digest:
            _remove((*step.files, *step.scratch))
            found = {"digest": digest}
        is_done = "line" in found and all(each.exists() for each in step.files)
        say(f"{number} {step.name}{' (unchanged)' if is_done else ''}")
        if not is_done:
            ledger[step.name] = {"digest": digest}  # known before it starts: what a kill leaves is this step's
            _write(path, ledger)
            found = {"digest": digest, "line": step.act()}
            ledger[step.name] = found
            _write(path, ledger)
        say(f"  {found['line']}")


def run_relgrade(*arguments: str | Path, say: Callable[[str], None]) -> str:
    """Run a command of relgrade in this process, as a shell would; returns what it printed on stdout.

    Raises:
        StoryError: it ended with another exit code than 0; carries what it said.
    """
    words = [str(each) for each in arguments]
    say(f"  $ relgrade {shlex.join(words)}")
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            code = relgrade_command.main(args=words, prog_name="relgrade", standalone_mode=False) or 0
        except click.ClickException as error:
            raise StoryError(f"relgrade {words[0]}: {error.format_message()}") from error
    if code:
        raise StoryError(f"relgrade {words[0]} ended with exit code {code}: {errors.getvalue().strip()}")
    return output.getvalue()


def _write(path: Path, ledger: Mapping[str, Any]) -> None:
    with replaced_file(path) as file:
        file.write((json.dumps(ledger, indent=1) + "\n").encode())


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
