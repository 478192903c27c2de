"""A table of rows: runs those that are not done. It knows nothing of how a row is made."""

import gc
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from relgrade.errors import InvalidInput, OutputError
from relgrade.formats.locking import lock_exclusively
from relgrade.label.rubric import read_rubric
from relgrade.paper.bases import base_fingerprint
from relgrade.paper.row import FORMAT, Place, run_row
from relgrade.paper.samples import read_samples
from relgrade.paper.settings import PaperSettings, RowSettings
from relgrade.pipeline.ledger import file_sha256, write_json
from relgrade.pipeline.processes import is_main_process

LOCK_NAME = ".lock"

OnRow = Callable[[str, str], None]
"""Is told the name of a row and what became of it (`running`, `done`, `unchanged`), then each failure recognised."""


def run_rows(
    settings: PaperSettings,
    *,
    output: Path,
    results: Path,
    only: Sequence[str] = (),
    base_folder: Path | None = None,
    on_row: OnRow = lambda name, state: None,
    on_piece: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> list[Path]:
    """Run the rows of a table one after another.

    A row whose file in `results` was made with the same settings, data and base is not run again. Killed at any moment
    and called again, the row goes on from its last checkpoint and the pairs that were scored.

    Args:
        settings: of the table.
        output: folder of the runs, made: `rows/NAME-KEY/`, `features/`.
        results: folder of the rows' files, made: `TABLE.NAME.json`.
        only: names of rows; none: all.
        base_folder: a local copy of the table's base model; the rows' files name the base, not the folder.
        on_row: see `OnRow`.
        on_piece: see `relgrade.paper.job.OnPiece`.

    Returns:
        The files of the rows, in the order of the table.

    Raises:
        InvalidInput: no row of this name, or another process runs in `output`.
        RelgradeError: as the row's method raises; rows done before stay.
    """
    unknown = sorted(set(only) - {row.name for row in settings.rows})
    if unknown:
        known = ", ".join(row.name for row in settings.rows)
        raise InvalidInput(f"table {settings.name} has no row {', '.join(unknown)}; it has {known}")
    rows = [row for row in settings.rows if not only or row.name in only]
    try:
        output.mkdir(parents=True, exist_ok=True)
        results.mkdir(parents=True, exist_ok=True)
        lock = (output / LOCK_NAME).open("ab")
    except OSError as error:
        raise OutputError.from_os_error(error, path=output) from error
    with lock:
        if is_main_process():
            lock_exclusively(lock, output, doing="is running a table here")
        return _run(rows, settings, output, results, base_folder, on_row, on_piece)


def _run(
    rows: Sequence[RowSettings],
    settings: PaperSettings,
    output: Path,
    results: Path,
    base_folder: Path | None,
    on_row: OnRow,
    on_piece: Callable[[str, int, int], None],
) -> list[Path]:
    local = settings
    if base_folder is not None:
        local = replace(settings, student=replace(settings.student, base=str(base_folder)))
    paths = [results / f"{settings.name}.{row.name}.json" for row in rows]
    hashes = {path: file_sha256(Path(path)) for path in _data_files(settings, rows) if Path(path).is_file()}
    keys = [row_key(row, settings, hashes) for row in rows]  # all of them first: a bad rubric is told before hours
    samples, of_base = None, base_fingerprint(local.student.base)
    for row, path, key in zip(rows, paths, keys, strict=True):
        # A judge does not read the base: another one must not cost its replies again.
        base, weights = (row.model, None) if row.method == "judge" else (settings.student.base, of_base)
        if _is_done(path, key, weights):
            on_row(row.name, "unchanged")
            continue
        on_row(row.name, "running")
        samples = samples or read_samples(settings)
        # A row that changed is another run: its folder is named after what decides it.
        place = Place(output / "rows" / f"{row.name}-{_short(key, weights)}", output)
        found = run_row(row, local, samples, place=place, on_piece=on_piece)
        _free_memory()
        if found is None:  # this process only helps to train
            continue
        write_json(path, {"key": key, "base": base, "weights": weights, **found})
        shutil.rmtree(place.folder / "fit", ignore_errors=True)  # checkpoints: the row will not go on from them
        on_row(row.name, "done")
        for sentence in found["diagnoses"]:
            on_row(row.name, sentence)
    return paths


def row_key(row: RowSettings, settings: PaperSettings, hashes: Mapping[str, str]) -> str:
    """sha256 of all that decides a row: its settings, the table's without the other rows, the bytes of the data.

    Raises:
        InvalidSettings: a judge whose rubric cannot be read.
    """
    table = {name: value for name, value in asdict(settings).items() if name not in ("rows", "name", "train", "tests")}
    del table["training"]["sharded"]  # where the weights lie decides nothing
    files = [[test.name, hashes.get(test.path), test.split, test.base_rate] for test in settings.tests]
    content = {
        "format": FORMAT,
        "row": {**{name: value for name, value in asdict(row).items() if name != "labels"}, **_method_key(row)},
        "labels": None if row.labels is None else hashes.get(row.labels),
        "table": table,
        "train": [hashes.get(settings.train)],
        "tests": files,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("ascii")).hexdigest()


def _method_key(row: RowSettings) -> dict[str, Any]:
    """What decides rows of one method alone."""
    if row.method == "judge":
        rubric = read_rubric(row.rubric)
        return {"rubric": rubric.hash, "sampling": asdict(rubric.sampling)}
    return {"ends": True} if row.method == "A" else {}  # before, A was not taught to stop after its word


def _data_files(settings: PaperSettings, rows: Sequence[RowSettings]) -> list[str]:
    return [settings.train, *(test.path for test in settings.tests), *(row.labels for row in rows if row.labels)]


def _is_done(path: Path, key: str, weights: str | None) -> bool:
    """Whether a row's file is of this key, and of these weights where both are known: a Hub id's are not looked at."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if not isinstance(content, dict) or content.get("key") != key:
        return False
    found = content.get("weights")
    return weights is None or found is None or found == weights


def _short(key: str, weights: str | None) -> str:
    return hashlib.sha256(f"{key} {weights}".encode("ascii")).hexdigest()[:8]


def _free_memory() -> None:
    """A row's trainer lies in cycles, and a GPU's memory stays with torch; the next row's check would see both."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
