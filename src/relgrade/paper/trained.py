"""Rows that train: all parameters (A, C), adapters, or a head on a frozen backbone (B).

What a row needs on disk stands in its folder: the training run with its checkpoints, the scores, the student.
"""

import time
from dataclasses import replace
from pathlib import Path

from relgrade.paper.frozen_row import frozen_row
from relgrade.paper.job import Job, OnPiece, Outcome, make_job, outcome_of
from relgrade.paper.memory import available_memory, estimate_memory, require_memory
from relgrade.paper.prompted import ask_in_words, read_reply
from relgrade.paper.samples import Samples
from relgrade.paper.scoring import score_logits
from relgrade.paper.settings import PaperSettings, RowSettings
from relgrade.pipeline.ledger import read_json, write_json
from relgrade.student.cross_encoder import CrossEncoderStudent
from relgrade.student.diagnoses import diagnose_training
from relgrade.student.generative import GenerativeStudent
from relgrade.student.lora import LoraStudent, add_adapters
from relgrade.student.student import Student
from relgrade.student.training import FitReport, fit

SCORES_NAME, REPLIES_NAME = "scores.jsonl", "replies.jsonl"


def train_and_score(
    row: RowSettings, settings: PaperSettings, samples: Samples, *, folder: Path, shared: Path, on_piece: OnPiece
) -> Outcome:
    """Do a row that trains.

    Args:
        row: of method A, B, C or lora.
        settings: of the table.
        samples: of the table.
        folder: of the row.
        shared: folder of what rows share: features of frozen backbones.
        on_piece: see `OnPiece`.

    Raises:
        TrainingError: the base cannot be loaded, memory is short, or the loss is not finite.
    """
    job = make_job(row, settings, samples, folder=folder, shared=shared, on_piece=on_piece)
    return frozen_row(job) if row.method == "B" else _whole_row(job)


def help_to_train(row: RowSettings, settings: PaperSettings, samples: Samples, *, folder: Path) -> None:
    """What a process other than the first does for a row: its share of the training."""
    job = make_job(row, settings, samples, folder=folder, shared=folder, on_piece=lambda what, done, total: None)
    _fit(_student(job), job)


def _whole_row(job: Job) -> Outcome:
    n_starts = _count_start(job.folder)
    if not (job.folder / "fit").is_dir():  # scores that lie here are of a model that was trained before this one
        for name in (SCORES_NAME, REPLIES_NAME):
            (job.folder / name).unlink(missing_ok=True)
    student = _student(job)
    estimate = estimate_memory(student, job.training)
    require_memory(estimate, available_mb=available_memory())
    started_cpu_s = time.process_time()
    report = _fit(student, job)
    n_parameters = sum(parameter.numel() for parameter in student.parameters())
    started_s, fitted_cpu_s = time.monotonic(), time.process_time()
    replies = None
    if isinstance(student, GenerativeStudent):
        judged, path = job.samples.judged(), job.folder / REPLIES_NAME
        said = ask_in_words(student, judged, path, job.settings, job.on_piece)
        replies = {key: read_reply(each) for key, each in said.items()}
        logits = {key: float(each["logit"]) for key, each in said.items()}
    else:
        logits = score_logits(
            student,
            job.samples.judged(),
            job.folder / SCORES_NAME,
            training=job.training,
            on_piece=lambda done, total: job.on_piece("score", done, total),
        )
    seconds, scored_cpu_s = time.monotonic() - started_s, time.process_time()
    _keep(student, job.folder / "student")
    return outcome_of(
        job,
        logits=logits,
        replies=replies,
        n_parameters=n_parameters,
        n_parameters_trained=report.n_parameters_trained,
        seconds_training=report.seconds,
        seconds_scoring=seconds,
        # Of a row that was killed, seconds are those since its last start. On a machine that others use too, those of
        # the processor say more than those of the clock.
        details={
            "steps": report.steps,
            "starts": n_starts,
            "estimated_memory_mb": round(estimate.total_mb),
            "cpu_seconds_training": round(fitted_cpu_s - started_cpu_s, 1),
            "cpu_seconds_scoring": round(scored_cpu_s - fitted_cpu_s, 1),
        },
        diagnoses=_diagnoses(report, job),
    )


def _diagnoses(report: FitReport, job: Job) -> tuple[str, ...]:
    if job.row.method == "A":  # its loss is over words; the base rate is no measure of it
        return ()
    found = diagnose_training(
        report.history,
        [float(pair.label or 0.0) for pair in job.drawn.pairs],
        student=replace(job.settings.student, train_encoder=True),
        training=job.training,
        positive_weight=job.positive_weight,
        has_adapters=job.row.method == "lora",
    )
    return tuple(found)


def _count_start(folder: Path) -> int:
    """How often the row was started, this time included."""
    path = folder / "starts.json"
    n_starts = 1 + (read_json(path)["starts"] if path.exists() else 0)
    write_json(path, {"starts": n_starts})
    return n_starts


def _fit(student: Student, job: Job) -> FitReport:
    output, weight = job.folder / "fit", job.positive_weight
    return fit(student, job.drawn.pairs, [], job.training, output=output, seed=job.seed, positive_weight=weight)


def _student(job: Job) -> Student:
    row, wanted = job.row, replace(job.settings.student, train_encoder=True)
    if row.method == "A":
        return GenerativeStudent.build(wanted, seed=job.seed)
    student = CrossEncoderStudent.build(wanted, seed=job.seed)
    if row.method == "lora":
        alpha = 2.0 * row.rank if row.alpha is None else row.alpha
        return add_adapters(student, rank=row.rank, alpha=alpha, seed=job.seed)
    return student


def _keep(student: Student, folder: Path) -> None:
    """Save what was trained, adapters merged, so that it can be exported without training it again."""
    (student.merged() if isinstance(student, LoraStudent) else student).to("cpu").save(folder)
