"""`relgrade train`: a recipe end to end, from a TOML file, from options, or from both.

It knows options and lines of text; the steps stand in `relgrade.pipeline`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import click

from relgrade.cli import outcome
from relgrade.errors import NoSafeThreshold, ParityError
from relgrade.settings import BalanceSettings, Recipe, SourceSettings, StudentSettings

if TYPE_CHECKING:
    from relgrade.pipeline import StepReport

_TRAIN_HELP = """Make a grader from labelled pairs.

The recipe is a TOML file given by --config; or PAIRS, a source each, with defaults for everything else. Options change
single settings of either. PAIRS are .jsonl, .csv or .tsv (perhaps .gz), .parquet, or a BEIR folder.

\b
The steps, each with files of its own in the output folder:
  read, split, balance, fit, export, score, calibrate, parity, bundle

Interrupted, the same command goes on where it was. A step is done again when its settings or inputs change.

Several GPUs share the training under torchrun --nproc-per-node N -m relgrade train; training.batch_pairs is each one's.
With training.sharded they share the model too (FSDP).

\b
Exit codes:
  0  the bundle is written
  1  the exported graphs do not judge as the trained model does, or no threshold keeps a promise that is required
  2  bad input or usage, or training failed
"""  # \b keeps the lines of a paragraph as they are

_STUDENT = get_type_hints(StudentSettings)


@click.command(help=_TRAIN_HELP)
@click.argument("pairs", metavar="[PAIRS...]", nargs=-1, type=click.Path())
@click.option("--config", type=click.Path(), help="Recipe, a TOML file.")
@click.option("-o", "--output", type=click.Path(), help="Folder of the run; default: runs/NAME, as the recipe's file.")
@click.option(
    "--data-folder",
    type=click.Path(),
    envvar="RELGRADE_DATA",
    show_envvar=True,
    help="Where relative paths of the sources start; default: the folder of the recipe.",
)
@click.option("--seed", type=int, help="Of splits, new weights and batches.")
@click.option("--base", help="Pretrained model: a folder, or a Hub id.")
@click.option("--architecture", type=click.Choice(get_args(_STUDENT["architecture"])), help="Of the student.")
@click.option("--train-encoder/--freeze-encoder", default=None, help="Train the backbone, or only the head.")
@click.option("--max-tokens", type=int, help="Of a pair (cross-encoder) or of a window (interaction).")
@click.option("--epochs", type=float, help="Passes over the training pairs.")
@click.option("--max-steps", type=int, help="Optimiser steps, at most.")
@click.option("--learning-rate", type=float, help="Peak.")
@click.option(
    "--balance", type=click.Choice(get_args(get_type_hints(BalanceSettings)["method"])), help="Against class imbalance."
)
@click.option("--name", help="Of the bundle.")
@click.option("--rubric", help="What relevant means in these pairs.")
def train(
    pairs: Sequence[str], config: str | None, output: str | None, data_folder: str | None, **changes: Any
) -> None:
    """Run a recipe and say where the bundle is; `_TRAIN_HELP` is what the user reads."""
    recipe = change_settings(_recipe(pairs, config, data_folder), changes)
    folder = Path(output) if output else Path("runs") / (Path(config).stem if config else recipe.bundle.name)
    from relgrade.pipeline import run_recipe
    from relgrade.pipeline.processes import end, is_main_process

    quiet_libraries()
    try:
        bundle = run_recipe(recipe, output=folder, on_step=show_step)
    except (NoSafeThreshold, ParityError) as error:
        outcome.warn(str(error))
        click.get_current_context().exit(outcome.NOT_FOUND)
    except KeyboardInterrupt:
        raise outcome.Interrupted(f"interrupted; the same command goes on from {folder}") from None
    if is_main_process():
        click.echo(f"{bundle.folder}: load it with Grader.load({str(bundle.folder)!r})")
    end()


def quiet_libraries() -> None:
    """Keep bars and notes of the training libraries off the terminal; errors still show."""
    from relgrade.student.backbone import silence  # the door of student names the extra where a library is missing

    silence()


def show_step(report: StepReport) -> None:
    """What a step found on stdout, its warnings on stderr."""
    for number, line in enumerate(report.found or ("",)):
        head = f"{report.name}:{' (unchanged)' if report.is_skipped else ''}" if number == 0 else " " * 2
        click.echo(outcome.escape_controls(f"{head} {line}".rstrip()))
    for warning in report.warnings:
        outcome.warn(f"{report.name}: {warning}")


def _recipe(pairs: Sequence[str], config: str | None, data_folder: str | None) -> Recipe:
    if config is not None and pairs:
        raise click.UsageError("give a recipe with --config, which names its sources, or PAIRS, not both")
    if config is not None:
        return Recipe.read(config, data_folder=data_folder)
    if not pairs:
        raise click.UsageError("nothing to train on: give --config FILE.toml, or files of labelled PAIRS")
    folder = Path(data_folder) if data_folder else Path()
    return Recipe(sources=tuple(SourceSettings(name=_source_name(path), path=str(folder / path)) for path in pairs))


def _source_name(path: str) -> str:
    """The name of the file without its suffixes."""
    name = Path(path).name
    for suffix in (".gz", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet"):
        name = name.removesuffix(suffix)
    return name


def change_settings(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """The recipe with the settings of the options that were given; None means not given."""
    given = {name: value for name, value in changes.items() if value is not None}
    tables = {
        "student": ("base", "architecture", "train_encoder", "max_tokens"),
        "training": ("epochs", "max_steps", "learning_rate"),
        "bundle": ("name", "rubric"),
    }
    changed: dict[str, Any] = {}
    for table, names in tables.items():
        values = {name: given[name] for name in names if name in given}
        changed[table] = replace(getattr(recipe, table), **values)
    if "balance" in given:
        changed["balance"] = replace(recipe.balance, method=given["balance"])
    if "seed" in given:
        changed["seed"] = given["seed"]
    return replace(recipe, **changed)
