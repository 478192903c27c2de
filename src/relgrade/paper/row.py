"""One row of the table from nothing to a file of JSON: what it was, what it cost, and every reading of it."""

import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from relgrade import __version__
from relgrade.paper.job import OnPiece, Outcome
from relgrade.paper.memory import Peak, cpu_count, peak_memory
from relgrade.paper.readings import replied_readings, trained_readings
from relgrade.paper.reply_diagnoses import diagnose_replies
from relgrade.paper.samples import Samples
from relgrade.paper.settings import PaperSettings, RowSettings
from relgrade.paper.trained import help_to_train, train_and_score
from relgrade.pipeline.processes import is_main_process

FORMAT = 1  # of the JSON of a row


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row works."""

    folder: Path  # of the row alone
    shared: Path  # of the table: features of frozen backbones, replies of prompted models


def run_row(
    row: RowSettings, settings: PaperSettings, samples: Samples, *, place: Place, on_piece: OnPiece
) -> dict[str, Any] | None:
    """Do a row, or what is left of it.

    Args:
        row: the row.
        settings: of the table.
        samples: of the table.
        place: made; a row that was killed goes on from what is there.
        on_piece: is told how far the row is.

    Returns:
        Plain JSON: `row`, `data`, `cost`, `diagnoses`, `readings`, `made_by`. None in the other processes of
        `torchrun`, which take part in training alone.

    Raises:
        TrainingError: the base cannot be loaded, memory is short, or the loss is not finite.
        TeacherError: a judge answers nothing.
    """
    if not is_main_process():
        if row.method not in ("stock", "judge", "B"):
            help_to_train(row, settings, samples, folder=place.folder)
        return None
    work: Callable[..., dict[str, Any]] = _prompted if row.method in ("stock", "judge") else _trained
    place.folder.mkdir(parents=True, exist_ok=True)
    with peak_memory() as peak:
        found = work(row, settings, samples, place=place, on_piece=on_piece)
    return {
        "format": FORMAT,
        "table": settings.name,
        "row": {**asdict(row), **_file_names(row)},
        "data": {**_data(settings, samples), **found.pop("data")},
        "cost": {**found.pop("cost"), **_memory(peak)},
        **found,
        "made_by": _made_by(),
    }


def _trained(
    row: RowSettings, settings: PaperSettings, samples: Samples, *, place: Place, on_piece: OnPiece
) -> dict[str, Any]:
    made: Outcome = train_and_score(row, settings, samples, folder=place.folder, shared=place.shared, on_piece=on_piece)
    readings = trained_readings(samples, made.logits, settings, prior_shift=made.prior_shift)
    diagnoses = list(made.diagnoses)
    if made.replies is not None:
        readings += replied_readings(samples, made.replies, settings, has_probabilities=False)
        diagnoses += diagnose_replies(made.replies.values(), row.method)
    return {
        "data": {"n_train": made.n_train, "n_train_relevant": made.n_train_relevant},
        "cost": {
            "n_parameters": made.n_parameters,
            "n_parameters_trained": made.n_parameters_trained,
            "seconds_training": round(made.seconds_training, 1),
            "seconds_scoring": round(made.seconds_scoring, 1),
            **made.details,
        },
        "prior_shift": made.prior_shift,
        "diagnoses": diagnoses,
        "readings": readings,
    }


def _prompted(
    row: RowSettings, settings: PaperSettings, samples: Samples, *, place: Place, on_piece: OnPiece
) -> dict[str, Any]:
    if row.method == "judge":
        from relgrade.paper.judge import ask_judge as ask
    else:
        from relgrade.paper.prompted import ask_stock as ask
    said = ask(row, settings, samples, folder=place.folder, on_piece=on_piece)
    readings = replied_readings(samples, said.replies, settings, has_probabilities=said.has_probabilities)
    return {
        "data": {"n_train": 0, "n_train_relevant": 0},
        "cost": {
            "n_parameters": said.n_parameters,
            "n_parameters_trained": 0,
            "seconds_training": 0.0,
            "seconds_scoring": round(said.seconds, 1),
            **said.details,
        },
        "prior_shift": 0.0,
        "diagnoses": list(diagnose_replies(said.replies.values(), row.method)),
        "readings": readings,
    }


def _data(settings: PaperSettings, samples: Samples) -> dict[str, Any]:
    return {
        "train": Path(settings.train).name,
        "n_pool": len(samples.pool),
        "n_calibration": len(samples.calibration),
        "n_judged": len(samples.judged()),
        "tests": {name: len(pairs) for name, pairs in samples.tests.items()},
        "seed": settings.seed,
    }


def _file_names(row: RowSettings) -> dict[str, str | None]:
    """A record names files, not where a copy lay."""
    return {"labels": None if row.labels is None else Path(row.labels).name, "rubric": Path(row.rubric).name}


def _memory(peak: Peak) -> dict[str, Any]:
    return {"peak_memory_mb": round(peak.mb), "peak_memory_of": peak.of}


def _made_by() -> dict[str, Any]:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU"
    return {"relgrade": __version__, "torch": torch.__version__, "device": device, "threads": cpu_count()}
