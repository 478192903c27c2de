"""`relgrade fit` and `score`: the steps of a recipe that have no command elsewhere, one at a time.

It knows options and lines of text; what is done stands in `relgrade.pipeline`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_type_hints

import click

from relgrade.cli import outcome
from relgrade.settings import Recipe, StudentSettings

_ARCHITECTURES = get_args(get_type_hints(StudentSettings)["architecture"])

_FIT_HELP = """Train a student.

TRAIN is a file of labelled pairs that were divided, and balanced, already (`relgrade pairs`). Settings are those of the
tables [student] and [training] of --config, changed by options. Writes OUT/student, which `relgrade export` reads,
OUT/fit with checkpoints and the journal, and OUT/fit.json. Interrupted, the same command goes on from the last
checkpoint.

\b
Exit codes:
  0  the student is written
  2  bad input or usage, or training failed
"""  # \b keeps the lines of a paragraph as they are

_SCORE_HELP = """Write the logit of each pair.

GRADER is a bundle, or the folder that `relgrade export` wrote. A line of the output has query_id, doc_id, logit, label
and source. Nothing is calibrated and no verdict is made; `relgrade grade` does both.

\b
Exit codes:
  0  every pair has its logit
  2  bad input or usage, or a logit that is not finite
"""


@click.command(help=_FIT_HELP)
@click.argument("train_path", metavar="TRAIN", type=click.Path())
@click.option("--validation", "validation_path", type=click.Path(), help="Pairs that decide when to stop.")
@click.option("-o", "--output", required=True, type=click.Path(), help="Folder, made.")
@click.option("--config", type=click.Path(), help="Recipe whose [student] and [training] hold.")
@click.option("--base", help="Pretrained model: a folder, or a Hub id.")
@click.option(
    "--architecture",
    type=click.Choice(get_args(get_type_hints(StudentSettings)["architecture"])),
    help="Of the student.",
)
@click.option("--epochs", type=float, help="Passes over the training pairs.")
@click.option("--max-steps", type=int, help="Optimiser steps, at most.")
@click.option("--learning-rate", type=float, help="Peak.")
@click.option(
    "--positive-weight", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, help="In the loss."
)
@click.option("--seed", type=int, help="Of new weights and batches.")
def fit(
    train_path: str,
    validation_path: str | None,
    output: str,
    config: str | None,
    positive_weight: float,
    seed: int | None,
    **changes: Any,
) -> None:
    """Fit a student and say how it did; `_FIT_HELP` is what the user reads."""
    from relgrade.cli.train import change_settings, quiet_libraries

    recipe = change_settings(Recipe.read(config) if config else Recipe(), {**changes, "seed": seed})
    quiet_libraries()
    from relgrade.pipeline.fitting import fit_alone

    lines = fit_alone(
        Path(train_path),
        None if validation_path is None else Path(validation_path),
        Path(output),
        student=recipe.student,
        training=recipe.training,
        seed=recipe.seed,
        positive_weight=positive_weight,
    )
    for line in [*lines, f"{Path(output) / 'student'}: export it with `relgrade export`"]:
        click.echo(outcome.one_line(line))


@click.command(help=_SCORE_HELP)
@click.argument("grader_folder", metavar="GRADER", type=click.Path())
@click.argument("pairs_path", metavar="PAIRS", type=click.Path())
@click.option("-o", "--output", required=True, type=click.Path(), help="File of JSON lines to write.")
@click.option("--split", help="Take rows of this split alone.")
@click.option("--threads", type=click.IntRange(min=1), help="Sequences read at once; default: the cores.")
def score(grader_folder: str, pairs_path: str, output: str, split: str | None, threads: int | None) -> None:
    """Score pairs; `_SCORE_HELP` is what the user reads."""
    from relgrade.formats import read_pairs
    from relgrade.pipeline.graphs import open_runtime
    from relgrade.pipeline.scoring import score_pairs, write_scores

    runtime = open_runtime(Path(grader_folder), n_threads=threads)
    pairs = list(read_pairs(pairs_path, split=split))
    write_scores(Path(output), score_pairs(pairs, runtime))
    click.echo(f"{outcome.one_line(output)}: {len(pairs):,} scores")
