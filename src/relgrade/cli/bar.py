"""Bars that are on the terminal for as long as a `with` block runs, and nowhere when there is no terminal."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Self


class WithBar:
    """Base of what shows progress; `_bar` is started and stopped by the block, None draws nothing."""

    _bar: Any = None

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()


def make_stage_bars() -> Any:
    """Bars on stderr that count what is done and say the time left; they leave the terminal when they stop."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


class StageBars(WithBar):
    """A bar per stage on a terminal, nothing elsewhere. A context manager."""

    def __init__(self, *, has_bar: bool) -> None:
        self._tasks: dict[str, Any] = {}
        if has_bar and sys.stderr.isatty():
            self._bar = make_stage_bars()

    def advance(self, stage: str, n_more: int, n_total: int | None) -> None:
        """Count; `n_total` of a stage is read at its first call; None: unknown."""
        if self._bar is None:
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bar.add_task(stage, total=n_total)
        self._bar.advance(self._tasks[stage], n_more)
