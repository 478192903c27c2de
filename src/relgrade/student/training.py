"""Fit a student to labelled pairs. The loop is transformers' Trainer; one process or many (`torchrun`) alike."""

import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerState, TrainingArguments

from relgrade.errors import InvalidInput, OutputError, TrainingError
from relgrade.records import Pair
from relgrade.settings import TrainingSettings
from relgrade.student import checkpoints
from relgrade.student.callbacks import best_step, validated
from relgrade.student.journal import JOURNAL_NAME, JournalCallback, ProgressCallback, journal_rows
from relgrade.student.losses import build_loss
from relgrade.student.sharding import ShardedTrainer, check_sharding
from relgrade.student.student import Student
from relgrade.student.trainer import LOG_STEPS, PairTrainer
from relgrade.student.validation import Validation, is_exhausted

CACHE_NAME = "cache"
STATE_NAME = "trainer_state.json"


@dataclass(frozen=True, slots=True)
class FitReport:
    """What a run did. The student holds the weights of `best_step`, or of the last step without validation."""

    steps: int  # optimiser steps, earlier runs that were continued included
    best_metric: float | None  # validation metric, macro over the sources; None without validation pairs
    best_step: int | None  # optimiser steps after which it was reached
    seconds: float  # of this call, what was resumed from not included
    n_parameters_trained: int  # numbers, not tensors
    history: tuple[Mapping[str, Any], ...] = field(repr=False)  # rows of journal.jsonl, from the first step on


def fit(
    student: Student,
    train: Sequence[Pair],
    validation: Sequence[Pair],
    settings: TrainingSettings,
    *,
    output: Path,
    seed: int,
    positive_weight: float = 1.0,
) -> FitReport:
    """Train in place, and leave the best weights in the student.

    The student ends on the device it was trained on, in evaluation mode. Killed at any moment and called again with
    a fresh student and the same arguments, it goes on from the last whole checkpoint: same batches in the same order,
    and on a CPU the same weights to the last bit. Called again after the end, it only loads the best weights.
    With several processes all call it, on one machine or one shared file system, and all return the same; only one
    of them should then save.

    Args:
        student: from `build_student`.
        train: labelled in [0, 1].
        validation: labelled; a label >= 0.5 is relevant. Empty: no early stopping, the last weights are the result.
        settings: of the optimisation. An epoch is one pass over `train`.
        output: folder of this run alone, made: `checkpoint-*/`, `journal.jsonl`, `run.json`, `cache/`.
        seed: of the batches and the dropout. The global random states are left as they were.
        positive_weight: weight of the relevant side of the loss, > 0.

    Raises:
        InvalidInput: no pairs, a pair without label, or validation pairs that nothing can be measured on.
        InvalidSettings: no such loss or metric.
        TrainingError: the folder belongs to another run, the loss or a gradient is not finite, memory is out, or the
            launcher asks for shards of its own, or the student cannot be sharded.
        OutputError: a file cannot be written.
    """
    started_s = time.monotonic()
    _check_labels(train)
    output = Path(output)
    loss = build_loss(settings, positive_weight=positive_weight)
    measure = Validation(validation, metric=settings.metric) if validation else None
    groups = student.parameter_groups()
    n_trained = sum(weight.numel() for weights in groups.values() for weight in weights)
    if n_trained == 0:
        raise TrainingError("the student has no parameters to train; set student.train_encoder or give it a head")
    _check_launcher()
    if settings.sharded:
        check_sharding(student)
    with _own_randomness(), _plain_errors(settings, output):
        output.mkdir(parents=True, exist_ok=True)
        arguments = _arguments(settings, output=output, seed=seed)
        identity = checkpoints.identify(
            student,
            train,
            validation,
            settings,
            seed=seed,
            positive_weight=positive_weight,
            n_processes=arguments.world_size,
        )
        with arguments.main_process_first(local=False):
            if arguments.process_index == 0:
                checkpoints.claim(output, identity)
                checkpoints.discard_torn(output)
        kind = ShardedTrainer if settings.sharded else PairTrainer
        trainer = kind(student, arguments, settings=settings, loss=loss, train=train, validation=measure, output=output)
        with arguments.main_process_first(local=False):
            student.prepare([*train, *validation], cache_folder=output / CACHE_NAME)
        _run(trainer, settings, output)
        student.eval()
    history = trainer.state.log_history
    best = best_step(history, metric=settings.metric)
    return FitReport(
        steps=trainer.state.global_step,
        best_metric=None if best is None else validated(history, metric=settings.metric)[best],
        best_step=best,
        seconds=time.monotonic() - started_s,
        n_parameters_trained=n_trained,
        history=journal_rows(history, metric=settings.metric),
    )


def _run(trainer: PairTrainer, settings: TrainingSettings, output: Path) -> None:
    """Go on from the last whole checkpoint to the end, then take the best weights."""
    steps = checkpoints.whole_steps(output)
    last = checkpoints.checkpoint_folder(output, steps[-1]) if steps else None
    found = TrainerState.load_from_json(str(last / STATE_NAME)) if last else None
    if found is not None and _is_finished(found, settings):
        trainer.state = found
    else:
        reporters: list[JournalCallback | ProgressCallback] = []
        if trainer.is_world_process_zero():
            reporters.append(
                JournalCallback(output / JOURNAL_NAME, step=steps[-1] if steps else 0, metric=settings.metric)
            )
            reporters.append(ProgressCallback(metric=settings.metric))
        try:
            for reporter in reporters:
                trainer.add_callback(reporter)
            trainer.train(resume_from_checkpoint=str(last) if last else None)
        finally:
            for reporter in reporters:
                reporter.close()
        # bf16 puts a wrapped `forward` on the student, and unwrapping a bound one; the class's own is what came.
        trainer.accelerator.unwrap_model(trainer.model_wrapped, keep_fp32_wrapper=False)
        vars(trainer.model).pop("forward", None)
    best = best_step(trainer.state.log_history, metric=settings.metric)
    trainer.restore(trainer.state.global_step if best is None else best)


def _is_finished(state: Any, settings: TrainingSettings) -> bool:
    values = list(validated(state.log_history, metric=settings.metric).values())
    return state.global_step >= state.max_steps or is_exhausted(values, patience=settings.patience)


def _arguments(settings: TrainingSettings, *, output: Path, seed: int) -> TrainingArguments:
    # "auto" means a GPU: on most CPUs bf16 is emulated, slower and less exact.
    has_bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    arguments = TrainingArguments(
        output_dir=str(output),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps if settings.max_steps > 0 else -1,
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": settings.floor},  # a share of each group's own peak
        warmup_steps=min(settings.warmup, 1.0 - 1e-9),  # from 1 on it would be a number of steps
        max_grad_norm=settings.max_gradient_norm,
        use_cpu=not (torch.cuda.is_available() or torch.backends.mps.is_available()),  # else bf16 "on" is refused there
        bf16=has_bf16 if settings.bf16 == "auto" else settings.bf16 == "on",
        logging_steps=LOG_STEPS,
        logging_nan_inf_filter=False,  # a loss that is not finite is an error here, not something to average away
        eval_strategy="no",  # the trainer's own callback decides when to validate and save
        save_strategy="no",
        average_tokens_across_devices=True,
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
        seed=seed,
    )
    arguments._n_gpu = min(1, arguments.n_gpu)  # one process, one GPU; several GPUs are used with torchrun
    return arguments


def _check_launcher() -> None:
    """A plugin of accelerate's would shard the student itself, and write its checkpoints in another form."""
    for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"):
        if os.environ.get(name, "").lower() in ("1", "true"):
            raise TrainingError(
                f"{name} asks for a model in shards, which this loop makes itself: set training.sharded and start with "
                "torchrun --nproc-per-node N instead of a launcher's own plugin"
            )


def _check_labels(pairs: Sequence[Pair]) -> None:
    if not pairs:
        raise InvalidInput("there are no training pairs")
    for pair in pairs:
        if pair.label is None or not 0.0 <= pair.label <= 1.0:
            raise InvalidInput(
                f"training pair (query {pair.query_id!r}, document {pair.doc_id!r}) has label {pair.label!r}; "
                "a number in [0, 1] was expected"
            )


@contextmanager
def _own_randomness() -> Iterator[None]:
    """The Trainer seeds the global generators; give the caller's back."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the state that others may use
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002


@contextmanager
def _plain_errors(settings: TrainingSettings, output: Path) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"out of memory with batches of {settings.batch_tokens} tokens; lower training.batch_tokens and raise "
            "training.accumulation by the same factor, or set student.gradient_checkpointing"
        ) from error
    except OutputError:
        raise
    except OSError as error:
        raise OutputError.from_os_error(error, path=error.filename or output) from error
