"""What happens between the steps of training: when to log, validate, save and stop, and what must never be saved."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from relgrade.errors import TrainingError
from relgrade.settings import TrainingSettings
from relgrade.student.checkpoints import checkpoint_folder, prune, seal, whole_steps
from relgrade.student.validation import best_index, is_exhausted


class Flow(TrainerCallback):  # type: ignore[misc]
    """Log, validate and save together, so that a resumed run logs what an uninterrupted one does; stop in time."""

    def __init__(self, settings: TrainingSettings, has_validation: bool) -> None:
        self._settings = settings
        self._has_validation = has_validation

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the Trainer after each optimiser step."""
        if state.global_step % self._settings.checkpoint_steps == 0 or state.global_step >= state.max_steps:
            control.should_log = control.should_save = True
            control.should_evaluate = self._has_validation

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the Trainer after each validation."""
        # Read from the history, which checkpoints carry, so that a resumed run is as patient as one that was not.
        values = list(validated(state.log_history, metric=self._settings.metric).values())
        if is_exhausted(values, patience=self._settings.patience):
            control.should_training_stop = True


class Guard(TrainerCallback):  # type: ignore[misc]
    """Stop before a gradient that is not finite reaches the weights, and with them the next checkpoint."""

    def __init__(self, output: Path) -> None:
        self._output = output

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Called by the Trainer when gradients are there and weights are old."""
        norms = [weight.grad.norm() for weight in model.parameters() if weight.grad is not None]
        if norms and not torch.isfinite(torch.stack(norms)).all():
            raise TrainingError(
                f"a gradient is not finite at step {state.global_step + 1}; {last_good(self._output)}. "
                "A lower training.learning_rate, or bf16 off, usually helps"
            )


class Keeper(TrainerCallback):  # type: ignore[misc]
    """Seal a finished checkpoint, then remove older ones but the best."""

    def __init__(self, settings: TrainingSettings, output: Path) -> None:
        self._settings = settings
        self._output = output

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the Trainer when a checkpoint is written."""
        if args.world_size > 1:
            torch.distributed.barrier()  # every process adds a file of its own
        if args.should_save:
            seal(checkpoint_folder(self._output, state.global_step))
            best = best_step(state.log_history, metric=self._settings.metric)
            prune(self._output, n_kept=self._settings.keep_checkpoints, best_step=best)


def validated(history: Sequence[dict[str, Any]], *, metric: str) -> dict[int, float]:
    """Step -> value of the metric, from the Trainer's log."""
    name = f"eval_{metric}"
    return {entry["step"]: entry[name] for entry in history if name in entry}


def best_step(history: Sequence[dict[str, Any]], *, metric: str) -> int | None:
    """Step of the best validation, the first of equals; None when there was none."""
    values = validated(history, metric=metric)
    best = best_index(list(values.values()))
    return None if best is None else list(values)[best]


def last_good(output: Path) -> str:
    """Where the last whole checkpoint is, as text for a message."""
    steps = whole_steps(output)
    return f"the last good checkpoint is {checkpoint_folder(output, steps[-1])}" if steps else "there is no checkpoint"
