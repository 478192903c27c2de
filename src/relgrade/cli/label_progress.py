"""Progress of labelling on stderr: a bar with rate, cost and time left on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from relgrade.cli.bar import WithBar
from relgrade.cli.outcome import warn

if TYPE_CHECKING:
    from relgrade.label.labelling import Progress

LOG_EVERY_S = 30.0
_DRAW_EVERY_S = 0.1
_RATE_OVER_S = 30.0  # the rate forgets what is older


class LabelProgress(WithBar):
    """Shows how far a run is. A context manager.

    Args:
        total: answers there will be, about.
        has_bar: False never draws a bar.
        has_cost: prices are known.
    """

    def __init__(self, total: int, *, has_bar: bool = True, has_cost: bool = False) -> None:
        self._total, self._has_cost = total, has_cost
        self._drawn_s = self._logged_s = time.monotonic()
        self._marks: list[tuple[float, int]] = []  # (time, answers of this run)
        self._bar: Any = _make_bar(total) if has_bar and sys.stderr.isatty() else None
        self._task = self._bar.add_task("labelling", total=total, said="") if self._bar else None

    def update(self, progress: Progress) -> None:
        """Take the state after an answer."""
        now_s = time.monotonic()
        if now_s - self._drawn_s < _DRAW_EVERY_S:
            return
        self._drawn_s = now_s
        n_run = progress.n_answered + progress.n_errors
        self._marks = [*((at, n) for at, n in self._marks if now_s - at <= _RATE_OVER_S), (now_s, n_run)]
        (first_s, first_n) = self._marks[0]
        rate = (n_run - first_n) / (now_s - first_s) if now_s > first_s else 0.0
        said = self.describe(progress, rate=rate)
        if self._bar:
            self._bar.update(self._task, completed=progress.n_done, said=said)
        elif now_s - self._logged_s >= LOG_EVERY_S:
            self._logged_s = now_s
            warn(f"labelling: {progress.n_done:,} of {self._total:,}, {said}")

    def describe(self, progress: Progress, *, rate: float) -> str:
        """Rate, cost so far and time left, in words."""
        parts = [f"{rate:.1f}/s" if rate else "-/s"]
        if progress.n_errors:
            parts.append(f"{progress.n_errors:,} errors")
        parts.append(f"cost {progress.spent.cost:.4f}" if self._has_cost else f"{progress.spent.tokens:,} tokens")
        n_left = max(0, self._total - progress.n_done)
        if rate and n_left:
            parts.append(f"{_duration(n_left / rate)} left")
        return ", ".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _make_bar(total: int) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[said]}", markup=False),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=True,
    )
