"""Progress of a row of the paper's table beside its training: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from typing import Any

from relgrade.cli.bar import WithBar, make_stage_bars
from relgrade.cli.outcome import warn
from relgrade.cli.progress import LOG_EVERY_S


class PieceProgress(WithBar):
    """Shows one stage at a time, from its first report to its last. A context manager.

    A training between two stages draws a bar of its own, so a stage's bar leaves the terminal when it is done.
    """

    def __init__(self) -> None:
        self._stage: tuple[str, int] | None = None
        self._task: Any = None
        self._logged_s = time.monotonic()

    def report(self, stage: str, n_done: int, n_total: int) -> None:
        """Take how many pairs of how many a stage (`ask`, `features`, `score`) has done."""
        if sys.stderr.isatty():
            self._draw(stage, n_done, n_total)
        elif n_done >= n_total or time.monotonic() - self._logged_s >= LOG_EVERY_S:
            self._logged_s = time.monotonic()
            warn(f"{stage}: {n_done:,} of {n_total:,} pairs")

    def end_stage(self) -> None:
        """Take the bar off the terminal, where there is one; a stage that is over need not have reached its total."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _draw(self, stage: str, n_done: int, n_total: int) -> None:
        if self._stage != (stage, n_total):
            self.end_stage()
        if self._bar is None:
            self._bar = make_stage_bars()
            self._bar.start()
            self._task = self._bar.add_task(stage, total=n_total)
            self._stage = (stage, n_total)
        self._bar.update(self._task, completed=n_done)
        if n_done >= n_total:
            self.end_stage()
