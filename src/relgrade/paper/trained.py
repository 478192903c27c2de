"""Rows that train: all parameters (A, C), adapters, or a head on a frozen backbone (B).

What a row needs on disk stands in its folder: the training run with its checkpoints, the scores, the student.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from relgrade.errors import InvalidSettings
from relgrade.paper import frozen
from relgrade.paper.memory import available_memory, estimate_memory, require_memory
from relgrade.paper.samples import Samples, TrainingDraw, draw_training, pair_key
from relgrade.paper.scoring import Key, score_in_pieces
from relgrade.paper.settings import PaperSettings, RowSettings
from relgrade.probability import log_odds
from relgrade.records import Pair
from relgrade.settings import TrainingSettings
from relgrade.student.cross_encoder import CrossEncoderStudent
from relgrade.student.lora import add_adapters
from relgrade.student.losses import build_loss
from relgrade.student.student import Student
from relgrade.student.training import fit

LOSSES = {
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


def train_and_score(
    row: RowSettings,
    settings: PaperSettings,
    samples: Samples,
    *,
    folder: Path,
    shared: Path,
    on_piece: OnPiece,
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
    seed = settings.seed if row.seed is None else row.seed
    drawn = draw_training(samples, row, n_pairs=row.pairs or settings.pairs, seed=seed)
    weight = (len(drawn.pairs) - drawn.n_relevant) / drawn.n_relevant if row.loss == "class-weighted" else 1.0
    shift = drawn.prior_shift + log_odds(weight / (1.0 + weight))
    training = row_training(row, settings.training)
    work = _frozen_row if row.method == "B" else _whole_row
    made = work(row, settings, samples, drawn, training, weight, seed, folder, shared, on_piece)
    return Outcome(prior_shift=shift, n_train=len(drawn.pairs), n_train_relevant=drawn.n_relevant, **made)


def row_training(row: RowSettings, training: TrainingSettings) -> TrainingSettings:
    """The optimisation of the table with what the row changes."""
    changed = {name: getattr(row, name) for name in ("learning_rate", "head_learning_rate", "epochs")}
    given = {name: value for name, value in changed.items() if value is not None}
    return replace(training, loss=LOSSES[row.loss], **given)


def _whole_row(
    row: RowSettings,
    settings: PaperSettings,
    samples: Samples,
    drawn: TrainingDraw,
    training: TrainingSettings,
    weight: float,
    seed: int,
    folder: Path,
    shared: Path,
    on_piece: OnPiece,
) -> dict[str, Any]:
    student = _student(row, settings, seed=seed)
    require_memory(estimate := estimate_memory(student, training), available_mb=available_memory())
    report = fit(student, drawn.pairs, [], training, output=folder / "fit", seed=seed, positive_weight=weight)
    n_parameters = sum(parameter.numel() for parameter in student.parameters())
    started_s = time.monotonic()
    logits = _score(student, samples.judged(), folder / "scores.jsonl", settings.training, on_piece)
    return {
        "logits": logits,
        "n_parameters": n_parameters,
        "n_parameters_trained": report.n_parameters_trained,
        "seconds_training": report.seconds,
        "seconds_scoring": time.monotonic() - started_s,
        "details": {"steps": report.steps, "estimated_memory_mb": round(estimate.total_mb)},
    }


def _student(row: RowSettings, settings: PaperSettings, *, seed: int) -> Student:
    wanted = replace(settings.student, train_encoder=True)
    if row.method == "A":
        from relgrade.student.generative import GenerativeStudent

        return GenerativeStudent.build(wanted, seed=seed)
    student = CrossEncoderStudent.build(wanted, seed=seed)
    if row.method == "lora":
        return add_adapters(student, rank=row.rank, alpha=2.0 * row.rank if row.alpha is None else row.alpha, seed=seed)
    return student


def _frozen_row(
    row: RowSettings,
    settings: PaperSettings,
    samples: Samples,
    drawn: TrainingDraw,
    training: TrainingSettings,
    weight: float,
    seed: int,
    folder: Path,
    shared: Path,
    on_piece: OnPiece,
) -> dict[str, Any]:
    wanted = replace(settings.student, train_encoder=False)
    built: list[CrossEncoderStudent] = []

    def student() -> CrossEncoderStudent:
        if not built:
            built.append(CrossEncoderStudent.build(wanted, seed=settings.seed))
        return built[0]

    started_s = time.monotonic()
    store = frozen.FeatureStore(frozen.store_folder(shared / "features", wanted))
    judged = samples.judged()
    features = store.read(
        [*drawn.pairs, *judged], student, on_piece=lambda done, total: on_piece("features", done, total)
    )[row.pooling]
    seconds_features = time.monotonic() - started_s
    started_s = time.monotonic()
    own, others = features[: len(drawn.pairs)], features[len(drawn.pairs) :]
    head = _fitted_head(row, own, drawn.pairs, training, weight, seed)
    model = student()
    if row.pooling == "model":
        frozen.put_head(model, head)
        model.save(folder / "student")
    layer = frozen.head_layer(model)
    logits = head.logits(others)
    return {
        "logits": dict(zip(map(pair_key, judged), logits.tolist(), strict=True)),
        "n_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "n_parameters_trained": sum(parameter.numel() for parameter in layer.parameters()),
        "seconds_training": time.monotonic() - started_s,
        "seconds_scoring": seconds_features,
        "details": {"pooling": row.pooling, "fit": "to the end" if row.learning_rate is None else "AdamW"},
    }


def _fitted_head(
    row: RowSettings,
    features: frozen.Matrix,
    pairs: Sequence[Pair],
    training: TrainingSettings,
    weight: float,
    seed: int,
) -> frozen.FrozenHead:
    loss = build_loss(training, positive_weight=weight)
    labels = [float(pair.label or 0.0) for pair in pairs]
    query_ids = [pair.query_id for pair in pairs]
    if row.learning_rate is None:
        if row.loss == "contrastive":
            raise InvalidSettings(f"row {row.name}: the contrastive loss is one of batches; set rows.learning_rate")
        return frozen.fit_head(features, labels, loss, query_ids=query_ids)
    return frozen.train_head(
        features,
        labels,
        loss,
        query_ids=query_ids,
        learning_rate=row.learning_rate,
        epochs=training.epochs,
        batch_pairs=training.batch_pairs * training.accumulation,
        floor=training.floor,
        seed=seed,
    )


def _score(
    student: Student, pairs: Sequence[Pair], path: Path, training: TrainingSettings, on_piece: OnPiece
) -> dict[Key, float]:
    lengths = student.count_tokens(pairs)
    ordered = [pairs[i] for i in sorted(range(len(pairs)), key=lambda i: -lengths[i])]
    batch_pairs = max(1, min(training.batch_pairs, training.batch_tokens // max(lengths)))
    rows = score_in_pieces(
        ordered,
        path,
        lambda piece: [{"logit": logit} for logit in student.score(piece, batch_pairs=batch_pairs)],
        on_piece=lambda done, total: on_piece("score", done, total),
    )
    return {key: float(row["logit"]) for key, row in rows.items()}
