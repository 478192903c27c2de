"""One writer per file: a lock of the operating system that ends with the process that holds it."""

import sys
from pathlib import Path
from typing import IO

from relgrade.errors import InvalidInput


def lock_exclusively(file: IO[bytes], path: Path | str, *, doing: str = "is writing this file") -> None:
    """Take the lock of an open file, until it is closed; on Windows nothing is locked.

    Args:
        file: open for writing.
        path: for the message.
        doing: what the other process is about, for the message.

    Raises:
        InvalidInput: another process holds it.
    """
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InvalidInput(f"{path}: another process {doing}; wait for it to end") from error
