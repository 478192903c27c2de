"""Rows that train: all parameters (A, C), adapters, or a head on a frozen backbone (B).

What a row needs on disk stands in its folder: the training run with its checkpoints, the scores, the student.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from relgrade.errors import InvalidSettings
from relgrade.paper import frozen
from relgrade.paper.memory import available_memory, estimate_memory, require_memory
from relgrade.paper.prompted import ask_in_words, read_reply
from relgrade.paper.readings import Reply
from relgrade.paper.samples import Samples, TrainingDraw, draw_training, pair_key
from relgrade.paper.scoring import Key, reading_precision, score_in_pieces
from relgrade.paper.settings import PaperSettings, RowLoss, RowSettings
from relgrade.pipeline.ledger import read_json, write_json
from relgrade.probability import log_odds
from relgrade.settings import TrainingSettings
from relgrade.student.cross_encoder import CrossEncoderStudent
from relgrade.student.diagnoses import diagnose_training
from relgrade.student.generative import GenerativeStudent
from relgrade.student.lora import LoraStudent, add_adapters
from relgrade.student.losses import build_loss
from relgrade.student.student import Student
from relgrade.student.training import FitReport, fit

LOSSES: dict[RowLoss, Literal["binary-cross-entropy", "focal", "contrastive"]] = {
    "cross-entropy": "binary-cross-entropy",
    "class-weighted": "binary-cross-entropy",
    "focal": "focal",
    "contrastive": "contrastive",
}
OnPiece = Callable[[str, int, int], None]
"""Is told what is done (`features`, `score`), how many pairs, of how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a row's model says, and what making it took."""

    logits: Mapping[Key, float]
    prior_shift: float  # log-odds that training put on "relevant"
    n_parameters: int
    n_parameters_trained: int
    n_train: int
    n_train_relevant: int
    seconds_training: float
    seconds_scoring: float
    details: Mapping[str, Any]  # JSON
    replies: Mapping[Key, Reply] | None = None  # of a model that answers in words
    diagnoses: tuple[str, ...] = ()  # sentences on a training that learned nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a row needs to know to train."""

    row: RowSettings
    settings: PaperSettings
    samples: Samples
    drawn: TrainingDraw
    training: TrainingSettings  # with what the row changes
    positive_weight: float  # of the loss
    seed: int
    folder: Path  # of the row
    shared: Path  # of what rows share: features of frozen backbones
    on_piece: OnPiece


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
    job = _job(row, settings, samples, folder=folder, shared=shared, on_piece=on_piece)
    return _frozen_row(job) if row.method == "B" else _whole_row(job)


def help_to_train(row: RowSettings, settings: PaperSettings, samples: Samples, *, folder: Path) -> None:
    """What a process other than the first does for a row: its share of the training."""
    job = _job(row, settings, samples, folder=folder, shared=folder, on_piece=lambda what, done, total: None)
    _fit(_student(job), job)


def _job(
    row: RowSettings, settings: PaperSettings, samples: Samples, *, folder: Path, shared: Path, on_piece: OnPiece
) -> Job:
    seed = settings.seed if row.seed is None else row.seed
    drawn = draw_training(samples, row, n_pairs=row.pairs or settings.pairs, seed=seed)
    weight = (len(drawn.pairs) - drawn.n_relevant) / drawn.n_relevant if row.loss == "class-weighted" else 1.0
    return Job(
        row=row,
        settings=settings,
        samples=samples,
        drawn=drawn,
        training=row_training(row, settings.training),
        positive_weight=weight,
        seed=seed,
        folder=folder,
        shared=shared,
        on_piece=on_piece,
    )


def row_training(row: RowSettings, training: TrainingSettings) -> TrainingSettings:
    """The optimisation of the table with what the row changes."""
    changed = {name: getattr(row, name) for name in ("learning_rate", "head_learning_rate", "epochs")}
    given = {name: value for name, value in changed.items() if value is not None}
    return replace(training, loss=LOSSES[row.loss], **given)


def _outcome(job: Job, **made: Any) -> Outcome:
    drawn, weight = job.drawn, job.positive_weight
    shift = drawn.prior_shift + log_odds(weight / (1.0 + weight))  # a weight is as good as so many more pairs
    return Outcome(prior_shift=shift, n_train=len(drawn.pairs), n_train_relevant=drawn.n_relevant, **made)


def _whole_row(job: Job) -> Outcome:
    n_starts = _count_start(job.folder)
    student = _student(job)
    estimate = estimate_memory(student, job.training)
    require_memory(estimate, available_mb=available_memory())
    started_cpu_s = time.process_time()
    report = _fit(student, job)
    n_parameters = sum(parameter.numel() for parameter in student.parameters())
    started_s, fitted_cpu_s = time.monotonic(), time.process_time()
    replies = None
    if isinstance(student, GenerativeStudent):
        judged, path = job.samples.judged(), job.folder / "replies.jsonl"
        said = ask_in_words(student, judged, path, job.settings, job.on_piece)
        replies = {key: read_reply(each) for key, each in said.items()}
        logits = {key: float(each["logit"]) for key, each in said.items()}
    else:
        logits = _score(student, job)
    seconds, scored_cpu_s = time.monotonic() - started_s, time.process_time()
    _keep(student, job.folder / "student")
    return _outcome(
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


def _frozen_row(job: Job) -> Outcome:
    wanted = replace(job.settings.student, train_encoder=False)
    built: list[CrossEncoderStudent] = []

    def student() -> CrossEncoderStudent:
        if not built:
            built.append(CrossEncoderStudent.build(wanted, seed=job.settings.seed))
        return built[0]

    started_s, started_cpu_s = time.monotonic(), time.process_time()
    store = frozen.FeatureStore(frozen.store_folder(job.shared / "features", wanted))
    pairs, judged = job.drawn.pairs, job.samples.judged()
    with reading_precision(job.settings):
        found = store.read([*pairs, *judged], student, on_piece=lambda done, n: job.on_piece("features", done, n))
    features = found[job.row.pooling]
    seconds_features, read_cpu_s = time.monotonic() - started_s, time.process_time()
    started_s = time.monotonic()
    layer = frozen.head_layer(student())
    head = _fitted_head(job, features[: len(pairs)], has_bias=layer.bias is not None)
    logits = head.logits(features[len(pairs) :])
    seconds_training, fitted_cpu_s = time.monotonic() - started_s, time.process_time()
    model = student()
    if job.row.pooling == "model":
        frozen.put_head(model, head)
        model.save(job.folder / "student")
    return _outcome(
        job,
        logits=dict(zip(map(pair_key, judged), logits.tolist(), strict=True)),
        n_parameters=sum(parameter.numel() for parameter in model.parameters()),
        n_parameters_trained=sum(parameter.numel() for parameter in layer.parameters()),
        seconds_training=seconds_training,
        seconds_scoring=seconds_features,  # of the first row that reads them; later ones find them
        details={
            "pooling": job.row.pooling,
            "fit": "to the end" if job.row.learning_rate is None else "AdamW",
            "cpu_seconds_training": round(fitted_cpu_s - read_cpu_s, 1),
            "cpu_seconds_scoring": round(read_cpu_s - started_cpu_s, 1),
        },
    )


def _fitted_head(job: Job, features: frozen.Matrix, *, has_bias: bool) -> frozen.FrozenHead:
    row, pairs, training = job.row, job.drawn.pairs, job.training
    loss = build_loss(training, positive_weight=job.positive_weight)
    labels = [float(pair.label or 0.0) for pair in pairs]
    query_ids = [pair.query_id for pair in pairs]
    if row.learning_rate is None:
        if row.loss == "contrastive":
            raise InvalidSettings(f"row {row.name}: the contrastive loss is one of batches; set rows.learning_rate")
        return frozen.fit_head(features, labels, loss, query_ids=query_ids, has_bias=has_bias)
    return frozen.train_head(
        features,
        labels,
        loss,
        query_ids=query_ids,
        has_bias=has_bias,
        learning_rate=row.learning_rate,
        epochs=training.epochs,
        batch_pairs=training.batch_pairs * training.accumulation,
        floor=training.floor,
        seed=job.seed,
    )


def _score(student: Student, job: Job) -> dict[Key, float]:
    pairs, training = job.samples.judged(), job.training
    lengths = student.count_tokens(pairs)
    ordered = [pairs[i] for i in sorted(range(len(pairs)), key=lambda i: -lengths[i])]
    batch_pairs = max(1, min(training.batch_pairs, training.batch_tokens // max(lengths)))
    rows = score_in_pieces(
        ordered,
        job.folder / "scores.jsonl",
        lambda piece: [{"logit": logit} for logit in student.score(piece, batch_pairs=batch_pairs)],
        on_piece=lambda done, total: job.on_piece("score", done, total),
    )
    return {key: float(row["logit"]) for key, row in rows.items()}
