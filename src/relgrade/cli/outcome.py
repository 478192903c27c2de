"""How a command ends: exit codes, the one line it leaves on stderr, and text made safe for a terminal."""

import errno
import os
import sys
import unicodedata
from pathlib import Path
from typing import IO, Any

import click

FOUND = 0  # something relevant was found, or the file was graded whole
NOT_FOUND = 1  # nothing relevant, lines skipped, or rows without a verdict
BAD_INPUT = 2  # input, usage, or a disk that cannot be written
BUG = 3  # an error nobody foresaw
INTERRUPTED = 130  # 128 + SIGINT, as shells count
BROKEN_PIPE = 141  # 128 + SIGPIPE: 1 would read as "nothing relevant"

_JOINERS = "\u200c\u200d"  # invisible, harmless, and needed to spell words of some scripts


def escape_controls(text: str) -> str:
    r"""Show control, format and lone surrogate characters as `\x1b`: a document must not drive the terminal."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character) in ("Cc", "Cf", "Cs") and character not in _JOINERS
        else character
        for character in text
    )


def one_line(text: str) -> str:
    """Whitespace runs become one space, controls are escaped."""
    return escape_controls(" ".join(text.split()))


def warn(message: str) -> None:
    """One line on stderr."""
    click.echo(f"relgrade: {one_line(message)}", err=True)


class Stop(click.ClickException):
    """Ends a command with one line on stderr: what was found, what was expected, what to do."""

    exit_code = BAD_INPUT

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the line; click calls this."""
        warn(self.message)


class Fault(Stop):
    """An error that nobody foresaw."""

    exit_code = BUG


class Interrupted(Stop):
    """The user pressed Ctrl-C; the line says what is written and how to go on."""

    exit_code = INTERRUPTED


def is_full_disk(error: OSError) -> bool:
    """True when there is no space left, or none left to this user."""
    return error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG)


def describe_os_error(error: OSError) -> str:
    """The system's words and the path, without the number."""
    reason = (error.strerror or str(error) or type(error).__name__).lower()
    return f"{error.filename}: {reason}" if error.filename else reason


def silence_stdout() -> None:
    """Drop what is still buffered for a stdout that is gone, so that the interpreter's last flush is quiet."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError, AttributeError):  # not a real file, as in tests
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def require_folder_of(output: Path | str) -> None:
    """Stop where the folder of a file to write is missing: this is told before hours or money are spent."""
    folder = Path(output).parent
    if not folder.is_dir():
        raise Stop(f"{output}: there is no folder {folder}; make it, or name a file elsewhere with -o")
