"""Which of the processes of `torchrun` this is, by what it tells them; one process alone is the first of one."""

import os
import sys


def is_main_process() -> bool:
    """Whether this is the first, or the only, process. It does every step; the others share its training."""
    return n_processes() == 1 or int(os.environ.get("RANK") or "0") == 0


def n_processes() -> int:
    """How many there are, >= 1."""
    return int(os.environ.get("WORLD_SIZE") or "1")


def share(value: bool = True) -> bool:
    """What the first process says, in all of them; each waits here for the others, for at most a day.

    Args:
        value: read in the first process.
    """
    if n_processes() == 1:
        return value
    from relgrade.student.joining import broadcast

    return broadcast(value)


def end() -> None:
    """The last thing a process of several does, when all is written and said; it does not return there.

    The threads by which they spoke abort a process now and then as the interpreter takes itself down, whether the group
    was ended before or not, and `torchrun` takes that for a failed run. So nothing is taken down.
    """
    if n_processes() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
