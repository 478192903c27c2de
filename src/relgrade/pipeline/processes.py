"""Which of the processes of `torchrun` this is, by what it tells them; one process alone is the first of one."""

import os


def is_main_process() -> bool:
    """Whether this is the first, or the only, process. It does every step; the others share its training."""
    return int(os.environ.get("RANK", "0")) == 0


def n_processes() -> int:
    """How many there are, >= 1."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def share(value: bool = True) -> bool:
    """What the first process says, in all of them; each waits here for the others, for at most a day.

    Args:
        value: read in the first process.
    """
    if n_processes() == 1:
        return value
    from relgrade.student.joining import broadcast

    return broadcast(value)


def leave() -> None:
    """The last thing a process of several does; it speaks to the others no more."""
    if n_processes() > 1:
        from relgrade.student import joining

        joining.leave()
