"""What a row that trains is given, and what it hands back: the same for every method."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from relgrade.errors import InvalidData
from relgrade.paper.readings import Reply
from relgrade.paper.samples import RELEVANT, Samples, TrainingDraw, draw_training
from relgrade.paper.scoring import Key
from relgrade.paper.settings import PaperSettings, RowLoss, RowSettings
from relgrade.probability import log_odds
from relgrade.settings import TrainingSettings

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


def make_job(
    row: RowSettings, settings: PaperSettings, samples: Samples, *, folder: Path, shared: Path, on_piece: OnPiece
) -> Job:
    """Draw the training pairs of a row, and put what it changes into the table's settings.

    Args:
        row: of method A, B, C or lora.
        settings: of the table.
        samples: of the table.
        folder: of the row.
        shared: of what rows share.
        on_piece: see `OnPiece`.

    Raises:
        InvalidData: the pairs drawn are all relevant, or none is.
    """
    seed = settings.seed if row.seed is None else row.seed
    drawn = draw_training(samples, row, n_pairs=row.pairs or settings.pairs, seed=seed)
    if not 0 < drawn.n_relevant < len(drawn.pairs):
        raise InvalidData(
            f"row {row.name}: {drawn.n_relevant} of its {len(drawn.pairs)} training pairs are labelled {RELEVANT} or "
            "more; pairs of both kinds are needed. Draw more of them, or correct its labels",
            path=row.labels,
        )
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


def outcome_of(job: Job, **made: Any) -> Outcome:
    """The outcome of a job, with what the job itself knows; `made` is the rest."""
    drawn, weight = job.drawn, job.positive_weight
    shift = drawn.prior_shift + log_odds(weight / (1.0 + weight))  # a weight is as good as so many more pairs
    return Outcome(prior_shift=shift, n_train=len(drawn.pairs), n_train_relevant=drawn.n_relevant, **made)
