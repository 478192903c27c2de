"""Step `fit`: a student trained on the balanced pairs, early stopping on the validation pairs."""

import shutil
from dataclasses import asdict
from pathlib import Path

from relgrade.formats import read_pairs
from relgrade.pipeline.ledger import Ledger, read_json, write_json
from relgrade.pipeline.processes import share
from relgrade.pipeline.provenance import library_versions
from relgrade.settings import StudentSettings, TrainingSettings

REPORT_NAME = "fit.json"
_KEY_NAME = "inputs.json"
_CACHE_NAME = "cache"  # of `student.training`: what was computed with a frozen encoder, by the hash of its inputs


def fit_student(
    train_path: Path,
    validation_path: Path | None,
    output: Path,
    *,
    student: StudentSettings,
    training: TrainingSettings,
    seed: int,
    positive_weight: float = 1.0,
    key: str,
) -> list[str]:
    """Train, and save the student of the best validation.

    Killed and called again it goes on from its last checkpoint; called with another `key`, it starts anew.

    Args:
        train_path: training pairs.
        validation_path: pairs that decide when to stop; None, or a file without pairs: nothing stops it early.
        output: folder for `student/`, `fit/` with checkpoints and journal, and `fit.json`.
        student: what is trained.
        training: how.
        seed: of new weights, batches and dropout.
        positive_weight: of the relevant side of the loss, > 0.
        key: names everything that decides the outcome.

    Raises:
        TrainingError: the base cannot be loaded, the loss is not finite, memory is out.
        InvalidInput, InvalidSettings: as `student.fit`.
    """
    from relgrade.student import build_student, fit
    from relgrade.student.diagnoses import diagnose_padding, diagnose_training

    train = list(read_pairs(train_path))
    validation = [] if validation_path is None else list(read_pairs(validation_path))
    work = output / "fit"
    _claim(work, key)
    share(True)  # the folder is as it should be: the other processes come in
    built = build_student(student, seed=seed)
    report = fit(built, train, validation, training, output=work, seed=seed, positive_weight=positive_weight)
    saved = output / "student"
    if saved.exists():
        shutil.rmtree(saved)
    built.to("cpu").save(saved)
    told = {
        "steps": report.steps,
        "best_step": report.best_step,
        "best_metric": report.best_metric,
        "metric": training.metric,
        "n_parameters_trained": report.n_parameters_trained,
    }
    write_json(output / REPORT_NAME, told)
    failures = [
        *diagnose_training(
            report.history,
            [float(pair.label or 0.0) for pair in train],
            student=student,
            training=training,
            positive_weight=positive_weight,
        ),
        *diagnose_padding(built, validation or train),
    ]
    best = "no validation" if report.best_metric is None else f"{training.metric} {report.best_metric:.4f}"
    return [
        f"{report.n_parameters_trained:,} parameters, {report.steps:,} steps, "
        f"best after {report.best_step or report.steps:,}: {best}",
        *(f"! {failure}" for failure in failures),
    ]


def help_to_fit(
    train_path: Path,
    validation_path: Path,
    output: Path,
    *,
    student: StudentSettings,
    training: TrainingSettings,
    seed: int,
    positive_weight: float,
) -> None:
    """What a process other than the first of `torchrun` does for `fit_student`; called when that has said `share`."""
    from relgrade.student import build_student, fit

    train, validation = list(read_pairs(train_path)), list(read_pairs(validation_path))
    built = build_student(student, seed=seed)
    fit(built, train, validation, training, output=output / "fit", seed=seed, positive_weight=positive_weight)


def fit_alone(
    train_path: Path,
    validation_path: Path | None,
    output: Path,
    *,
    student: StudentSettings,
    training: TrainingSettings,
    seed: int,
    positive_weight: float = 1.0,
) -> list[str]:
    """The step outside of a recipe: done again only when a setting or the bytes of a file have changed.

    Arguments, files and errors are those of `fit_student`.
    """
    lines: list[str] = []

    def work(key: str) -> list[str]:
        return fit_student(
            train_path,
            validation_path,
            output,
            student=student,
            training=training,
            seed=seed,
            positive_weight=positive_weight,
            key=key,
        )

    base = Path(student.base)
    inputs = [train_path, *([] if validation_path is None else [validation_path]), *([base] if base.is_dir() else [])]
    settings = [asdict(student), asdict(training), seed, positive_weight, library_versions()]
    with Ledger(output, on_step=lambda report: lines.extend(report.found)) as ledger:
        ledger.run("fit", work, settings=settings, inputs=inputs, outputs=["student", REPORT_NAME])
    return lines


def _claim(work: Path, key: str) -> None:
    """Remove what another run left, but for its cache, which names its own inputs."""
    place = work / _KEY_NAME
    if place.exists() and read_json(place).get("inputs") == key:
        return
    if work.exists():
        place.unlink(missing_ok=True)
        for path in work.iterdir():
            if path.name != _CACHE_NAME:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_json(place, {"inputs": key})
