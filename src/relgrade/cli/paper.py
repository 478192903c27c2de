"""`relgrade paper`: run the configurations of the paper, and print their table.

It knows options and lines of text; what is done stands in `relgrade.paper`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from relgrade.cli import outcome
from relgrade.cli.paper_progress import PieceProgress

_RUN_HELP = """Train and measure the rows of a table, one after another.

A row that is done with the same settings and data is not done again; interrupted, the same command goes on where it
was. Each row becomes a file of JSON in the folder of results.

\b
Exit codes:
  0  every row is done
  2  bad input or usage, no access to a base model, too little memory, or a diverged training
"""


@click.group()
def paper() -> None:
    """Run the paper's configurations on your pairs, and print them as one table."""


@paper.command(help=_RUN_HELP)
@click.option(
    "--config", required=True, type=click.Path(), help="The table, a TOML file, such as recipes/*-paper.toml."
)
@click.option("-o", "--output", type=click.Path(), help="Folder of the runs; default: runs/NAME of the table.")
@click.option("--results", type=click.Path(), help="Folder of the rows' JSON; default: OUTPUT/results.")
@click.option(
    "--data-folder",
    type=click.Path(),
    envvar="RELGRADE_DATA",
    show_envvar=True,
    help="Where relative paths of pairs start; default: the folder of the table.",
)
@click.option("--base-folder", type=click.Path(), help="Local copy of the table's base model; default: from the Hub.")
@click.option(
    "--pairs",
    type=click.IntRange(0),
    help="Training pairs of each row that names no number of its own; 0: all; default: the table's.",
)
@click.option("--test-queries", type=click.IntRange(0), help="Queries of each test set; 0: all; default: the table's.")
@click.option("--row", "only", multiple=True, help="Only this row; repeatable.")
@click.option("--seed", type=int, help="Of draws, new weights and batches; rows that name a seed of their own keep it.")
def run(
    config: str,
    output: str | None,
    results: str | None,
    data_folder: str | None,
    base_folder: str | None,
    pairs: int | None,
    test_queries: int | None,
    only: Sequence[str],
    seed: int | None,
) -> None:
    """Run rows; `_RUN_HELP` is what the user reads."""
    from relgrade.cli.train import quiet_libraries
    from relgrade.paper import PaperSettings, run_rows
    from relgrade.pipeline.processes import end

    settings = PaperSettings.read(config, data_folder=data_folder)
    if pairs is not None:
        settings = replace(settings, pairs=pairs or None)
    if test_queries is not None:
        settings = replace(settings, test_queries=test_queries or None)
    if seed is not None:
        settings = replace(settings, seed=seed)
    quiet_libraries()
    folder = Path(output) if output else Path("runs") / settings.name
    try:
        with PieceProgress() as progress:

            def say(row: str, state: str) -> None:
                progress.end_stage()
                click.echo(f"{row}: {state}")

            paths = run_rows(
                settings,
                output=folder,
                results=Path(results) if results else folder / "results",
                only=only,
                base_folder=None if base_folder is None else Path(base_folder),
                on_row=say,
                on_piece=progress.report,
            )
    except KeyboardInterrupt:
        raise outcome.Interrupted(f"interrupted; the same command goes on from {folder}") from None
    click.echo(f"{len(paths)} rows in {paths[0].parent}")
    end()


@paper.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--test", required=True, help="Name of the test set.")
@click.option("--rule", help="Only readings by this rule, such as argmax; default: all.")
def table(results: Sequence[Path], test: str, rule: str | None) -> None:
    """Print rows as a Markdown table, and below it what failed in a way that is known.

    RESULTS are files of rows, or folders of them, as `relgrade paper run` writes them. Intervals are 95 %, from drawing
    whole queries.
    """
    from relgrade.paper import read_results, render_diagnoses, render_table

    rows = read_results(results)
    click.echo(render_table(rows, test=test, rule=rule))
    diagnoses = render_diagnoses(rows)
    if diagnoses:
        click.echo(f"\n{diagnoses}")
