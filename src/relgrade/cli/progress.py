"""Progress of a long run on stderr: a bar on a terminal, a line now and then in a log.

Time left comes from bytes of the input, the one total that is known without reading it twice.
"""

from __future__ import annotations

import sys
import time

from relgrade.cli.bar import WithBar
from relgrade.cli.outcome import warn

LOG_EVERY_S = 30.0  # short runs in a log say nothing


class GradingProgress(WithBar):
    """Counts graded rows. A context manager.

    Args:
        name: what is being graded.
        total_bytes: size of the input, None when it is not known (a pipe).
        has_bar: False never draws a bar, even on a terminal.
    """

    def __init__(self, name: str, *, total_bytes: int | None, has_bar: bool = True) -> None:
        self._name = name
        self._total_bytes = total_bytes
        self._n_rows = self._skipped_bytes = 0
        self._started_s = self._logged_s = time.monotonic()
        self._bar = _Bar(name, total_bytes) if has_bar and sys.stderr.isatty() else None

    def begin(self, *, n_bytes: int) -> None:
        """Start the clock after `n_bytes` of the input that an earlier run graded: they say nothing about speed."""
        self._skipped_bytes = n_bytes
        self._started_s = self._logged_s = time.monotonic()
        if self._bar:
            self._bar.begin(n_bytes=n_bytes)

    def advance(self, n_rows: int, *, n_bytes: int) -> None:
        """Count `n_rows` more rows.

        Args:
            n_rows: graded since the last call.
            n_bytes: of the input, read so far in all.
        """
        now_s = time.monotonic()
        self._n_rows += n_rows
        rate = self._n_rows / max(now_s - self._started_s, 1e-9)
        if self._bar:
            self._bar.update(self._n_rows, n_bytes=n_bytes, rate=rate)
        elif now_s - self._logged_s >= LOG_EVERY_S:
            self._logged_s = now_s
            warn(f"{self._name}: {self._n_rows:,} pairs graded, {rate:.0f} a second{self._rest(n_bytes, now_s)}")

    def _rest(self, n_bytes: int, now_s: float) -> str:
        if not self._total_bytes:
            return ""
        speed = (n_bytes - self._skipped_bytes) / max(now_s - self._started_s, 1e-9)  # bytes a second
        left_min = (self._total_bytes - n_bytes) / max(speed, 1e-9) / 60
        return f", {n_bytes / self._total_bytes:.0%} of the input, about {left_min:.0f} min left"


class _Bar:
    """The terminal's bar."""

    def __init__(self, name: str, total_bytes: int | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self._total_bytes = total_bytes
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[rows]} pairs, {task.fields[rate]}/s", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,  # rows go to stdout as bytes and must pass untouched
            redirect_stderr=True,
        )
        self._task = self._progress.add_task(name, total=total_bytes, rows="0", rate="-")

    def begin(self, *, n_bytes: int) -> None:
        # Not an advance: rich would read it as speed.
        self._progress.reset(self._task, total=self._total_bytes, completed=n_bytes)

    def start(self) -> None:
        self._progress.start()

    def stop(self) -> None:
        self._progress.stop()

    def update(self, n_rows: int, *, n_bytes: int, rate: float) -> None:
        self._progress.update(self._task, completed=n_bytes, rows=f"{n_rows:,}", rate=f"{rate:.0f}")
