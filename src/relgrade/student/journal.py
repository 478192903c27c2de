"""What a run reports as it goes: a line of `journal.jsonl` for each log and validation, and a progress bar."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import TrainerCallback

from relgrade.errors import OutputError
from relgrade.formats.journal import JsonlJournal

JOURNAL_NAME = "journal.jsonl"


class JournalCallback(TrainerCallback):  # type: ignore[misc]
    """Writes the journal from the main process.

    Args:
        path: the file; rows of steps after the one that is resumed from are taken out first.
        step: the step that is resumed from, 0 at the start.
        metric: name of the validation metric.
    """

    def __init__(self, path: Path, *, step: int, metric: str) -> None:
        self._metric = metric
        _cut_after(path, step)
        self._journal = JsonlJournal(path, key=_key)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        """Append a row; what the Trainer logs at the end of training is none."""
        row = journal_row({**(logs or {}), "step": state.global_step}, metric=self._metric)
        if row is not None:
            self._journal.append([row])

    def close(self) -> None:
        """Close the file."""
        self._journal.close()


class ProgressCallback(TrainerCallback):  # type: ignore[misc]
    """A bar over the optimiser steps on stderr, on a terminal only."""

    def __init__(self, *, metric: str) -> None:
        self._metric = metric
        self._shown: dict[str, str] = {}
        self._bar = Progress(
            TextColumn("train"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[shown]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task("train", shown="")

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start where the run goes on."""
        self._bar.start()
        self._bar.update(self._task, total=state.max_steps, completed=state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Move by one step."""
        self._bar.update(self._task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        """Show the last loss and the last value of the metric."""
        for name, shown in (("loss", "loss"), (f"eval_{self._metric}", self._metric)):
            if logs and name in logs:
                self._shown[shown] = f"{shown} {logs[name]:.4f}"
        self._bar.update(self._task, shown="  ".join(self._shown.values()))

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.stop()


def journal_row(entry: Mapping[str, Any], *, metric: str) -> dict[str, Any] | None:
    """An entry of the Trainer's log in the words of the journal; None when it is of no interest.

    Keys of a training row: step (optimiser steps done), epoch, loss (mean over the steps since the last row),
    constant_loss (of the same pairs, if all had the one answer that is best for the whole training set; of binary
    cross-entropy alone, and where labels differ), gradient_norm (before clipping), learning_rate (encoder),
    head_learning_rate, tokens_per_s (all processes, padding not counted). Keys of a validation row: step, epoch, the
    name of the metric (macro over the sources), sources (its value in each).
    """
    if "loss" in entry:
        names = {
            "step": "step",
            "epoch": "epoch",
            "loss": "loss",
            "constant_loss": "constant_loss",
            "grad_norm": "gradient_norm",
            "learning_rate": "learning_rate",
            "head_learning_rate": "head_learning_rate",
            "tokens_per_s": "tokens_per_s",
        }
    elif f"eval_{metric}" in entry:
        names = {"step": "step", "epoch": "epoch", f"eval_{metric}": metric, "eval_sources": "sources"}
    else:
        return None
    return {new: entry[old] for old, new in names.items() if old in entry}


def journal_rows(history: Sequence[Mapping[str, Any]], *, metric: str) -> tuple[dict[str, Any], ...]:
    """The whole log of a Trainer in the words of the journal."""
    rows = (journal_row(entry, metric=metric) for entry in history)
    return tuple(row for row in rows if row is not None)


def _key(row: Mapping[str, Any]) -> str:
    return f"{row['step']} {'train' if 'loss' in row else 'validation'}"


def _cut_after(path: Path, step: int) -> None:
    """Take out the rows that the resumed run will write again."""
    if not path.exists():
        return
    with JsonlJournal(path, key=_key) as journal:  # also refuses a file that a living run writes
        n_kept = sum(int(key.split()[0]) <= step for key in journal.finished)
        with path.open("rb") as file:
            n_bytes = sum(len(file.readline()) for _ in range(n_kept))
        try:
            os.truncate(path, n_bytes)  # steps only rise, so the tail is what goes
        except OSError as error:
            raise OutputError.from_os_error(error, path=path) from error
