"""Checkpoints that kill -9 cannot spoil, and the identity of the run they belong to.

A checkpoint counts once its seal is there, which is written last and lists every file with its size. What is torn is
removed at the next start; what is removed loses its seal first.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from relgrade.errors import OutputError, TrainingError
from relgrade.records import Pair
from relgrade.settings import TrainingSettings
from relgrade.student.student import Student

PREFIX = "checkpoint-"  # as transformers names them
SEAL_NAME = "seal.json"
RUN_NAME = "run.json"

# May change between a run and its continuation: they decide when to stop and what to keep, not what is computed.
_FREE_SETTINGS = ("keep_checkpoints", "patience")


def checkpoint_folder(output: Path, step: int) -> Path:
    """Where the checkpoint of an optimiser step lies."""
    return output / f"{PREFIX}{step}"


def seal(folder: Path) -> None:
    """Declare a checkpoint whole. The seal appears at once or not at all."""
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    _write_json(folder / SEAL_NAME, {"files": sizes})


def is_whole(folder: Path) -> bool:
    """Whether the checkpoint is sealed and every file still has its size."""
    try:
        sizes = json.loads((folder / SEAL_NAME).read_text(encoding="utf-8"))["files"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def whole_steps(output: Path) -> list[int]:
    """Optimiser steps of the whole checkpoints, rising."""
    return sorted(step for step, folder in _folders(output).items() if is_whole(folder))


def discard_torn(output: Path) -> None:
    """Remove every checkpoint that is not whole."""
    for folder in _folders(output).values():
        if not is_whole(folder):
            _discard(folder)


def prune(output: Path, *, n_kept: int, best_step: int | None) -> None:
    """Remove all but the last `n_kept` checkpoints and the best one; the last one always stays."""
    folders = _folders(output)
    for step in sorted(folders)[: -max(1, n_kept)]:
        if step != best_step:
            _discard(folders[step])


def claim(output: Path, identity: Mapping[str, Any]) -> None:
    """Note in the folder which run it belongs to, or check that it is this one.

    Raises:
        TrainingError: the checkpoints there are of a run with other data or settings.
    """
    path = output / RUN_NAME
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if whole_steps(output):
            raise TrainingError(
                f"{output} holds checkpoints without {RUN_NAME}, which says what they were trained on; "
                "choose another output folder or remove them"
            ) from None
        _write_json(path, identity)
        return
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path}: cannot be read ({error}); choose another output folder or remove it") from error
    wanted = json.loads(json.dumps(identity))
    if found != wanted:
        differing = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
        raise TrainingError(
            f"{output} holds a run that differs in {', '.join(differing)}; it cannot be continued with these. "
            "Choose another output folder, or remove this one to start again"
        )


def identify(
    student: Student,
    train: Sequence[Pair],
    validation: Sequence[Pair],
    settings: TrainingSettings,
    *,
    seed: int,
    positive_weight: float,
    n_processes: int,
) -> dict[str, Any]:
    """All that decides what a run computes, as plain JSON. The weights it starts from enter by names and shapes."""
    shapes = [(name, list(weight.shape), weight.requires_grad) for name, weight in student.named_parameters()]
    return {
        "architecture": student.architecture,
        "weights": _sha256(json.dumps(shapes)),
        "train": _pairs_sha256(train),
        "validation": _pairs_sha256(validation),
        "seed": seed,
        "positive_weight": positive_weight,
        "processes": n_processes,
        **{f"training.{name}": value for name, value in asdict(settings).items() if name not in _FREE_SETTINGS},
    }


def _folders(output: Path) -> dict[int, Path]:
    folders = {}
    for path in output.glob(f"{PREFIX}*"):
        number = path.name.removeprefix(PREFIX)
        if path.is_dir() and number.isascii() and number.isdigit():
            folders[int(number)] = path
    return folders


def _discard(folder: Path) -> None:
    (folder / SEAL_NAME).unlink(missing_ok=True)
    shutil.rmtree(folder)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    whole = path.with_name(path.name + ".part")
    try:
        with whole.open("w", encoding="utf-8") as file:
            json.dump(value, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        whole.replace(path)
    except OSError as error:
        raise OutputError.from_os_error(error, path=path) from error


def _pairs_sha256(pairs: Sequence[Pair]) -> str:
    digest = hashlib.sha256()
    for pair in pairs:
        row = [pair.query_id, pair.query, pair.doc_id, pair.document, pair.label, pair.source]
        digest.update(json.dumps(row).encode("ascii"))
    return digest.hexdigest()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
