"""Progress of `relgrade paper run`: few lines in a log, one bar at a time on a terminal."""

import io
import sys

import pytest

from relgrade.cli import paper_progress
from relgrade.cli.paper_progress import PieceProgress


@pytest.fixture
def clock(monkeypatch):
    """The time in seconds, in a list of one."""
    now = [0.0]
    monkeypatch.setattr(paper_progress.time, "monotonic", lambda: now[0])
    return now


def test_a_log_has_the_end_of_a_stage_and_a_line_every_half_minute(clock, capsys):
    with PieceProgress() as progress:
        for done in range(1, 101):
            clock[0] += 1.0
            progress.report("ask", done, 100)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"relgrade: ask: {n} of 100 pairs" for n in (30, 60, 90, 100)]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_has_a_bar_that_leaves_when_its_stage_is_done(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with PieceProgress() as progress:
        progress.report("features", 1, 2)
        assert progress._bar.live.is_started
        progress.report("features", 2, 2)
        assert progress._bar is None  # a training draws its own bar now
        progress.report("score", 30, 64)
        bar = progress._bar
    assert not bar.live.is_started  # the row ended half way
    shown = terminal.getvalue()
    assert "features" in shown
    assert "2/2" in shown
    assert "30/64" in shown


def test_a_stage_that_ends_early_makes_room(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with PieceProgress() as progress:
        progress.report("ask", 39, 40)
        first = progress._bar
        progress.report("score", 128, 592)
        assert not first.live.is_started
        assert [(task.description, task.completed, task.total) for task in progress._bar.tasks] == [("score", 128, 592)]
        progress.end_stage()
        assert progress._bar is None
        progress.report("score", 256, 592)
        assert progress._bar.live.is_started
