"""`relgrade export` and `relgrade parity`: a trained student becomes graphs, and graphs are held against the student.

It knows options and tables; what is exported and measured stands in `relgrade.pipeline.exporting`.
"""

from __future__ import annotations

import json
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from relgrade.cli import outcome
from relgrade.errors import InvalidInput, ParityError
from relgrade.settings import ExportSettings

if TYPE_CHECKING:
    from relgrade.export import LogitDifference, ParityReport
    from relgrade.records import Pair

_DEFAULTS = ExportSettings()

_EXPORT_HELP = """Write the ONNX graphs of a trained student.

STUDENT is the folder of a student that training wrote, OUT the folder for its graphs in fp32 and int8, the tokenizer
and graphs.json. The fp32 graph of a cross-encoder is compared with the student on random tokens; `relgrade parity`
compares verdicts on real pairs.

\b
Exit codes:
  0  the graphs are written
  1  the fp32 graph does not say what the student says
  2  bad input or usage
"""  # \b keeps the lines of a paragraph as they are

_PARITY_HELP = """Hold graphs against the student they came from, on labelled or unlabelled pairs.

GRAPHS is the folder that `relgrade export` wrote; PAIRS is .jsonl, .csv or .tsv (perhaps .gz), .parquet, or a BEIR
folder. Pairs are scored alone, as a grader does, and in padded batches, which shows how far int8 logits move with
their neighbours. Errors are absolute differences of logits.

\b
Exit codes:
  0  the graphs judge as the student does
  1  a limit is passed
  2  bad input or usage
"""

_STUDENT = click.argument("student_folder", metavar="STUDENT", type=click.Path())
_MAX_ERROR = click.option(
    "--max-logit-error",
    type=click.FloatRange(min=0),
    default=_DEFAULTS.max_logit_error,
    show_default=True,
    help="Largest difference allowed between the student and fp32.",
)


@click.command(help=_EXPORT_HELP)
@_STUDENT
@click.argument("output", metavar="OUT", type=click.Path())
@click.option("--int8/--no-int8", default=_DEFAULTS.quantise, show_default=True, help="Write an int8 graph too.")
@click.option(
    "--arithmetic",
    type=click.Choice(["float", "two-digit"]),
    default=_DEFAULTS.arithmetic,
    show_default=True,
    help="How the int8 graph multiplies: with floats, or faster in int8 with two digits for each activation.",
)
@_MAX_ERROR
def export(
    student_folder: str, output: str, int8: bool, arithmetic: Literal["float", "two-digit"], max_logit_error: float
) -> None:
    """Write graphs and say what they are; `_EXPORT_HELP` is what the user reads."""
    from relgrade.pipeline.exporting import export_student

    settings = ExportSettings(max_logit_error=max_logit_error, quantise=int8, arithmetic=arithmetic)
    try:
        lines = export_student(Path(student_folder), Path(output), settings)
    except ParityError as error:
        outcome.warn(str(error))
        click.get_current_context().exit(outcome.NOT_FOUND)
    for line in lines:
        click.echo(outcome.one_line(line))


@click.command(help=_PARITY_HELP)
@_STUDENT
@click.argument("graphs_folder", metavar="GRAPHS", type=click.Path())
@click.argument("pairs_path", metavar="PAIRS", type=click.Path())
@click.option(
    "--threshold", type=float, default=0.0, show_default=True, help="Logit from which a pair counts as relevant."
)
@click.option("--split", help="Take rows of this split alone.")
@click.option("--max-pairs", type=click.IntRange(min=1), default=1000, show_default=True, help="Take the first N.")
@_MAX_ERROR
@click.option(
    "--max-verdict-flips",
    type=click.FloatRange(0, 1),
    default=_DEFAULTS.max_verdict_flips,
    show_default=True,
    help="Share of the pairs whose verdict int8 may change.",
)
@click.option("--format", "output_format", type=click.Choice(["table", "json"]), default="table", show_default=True)
def parity(
    student_folder: str,
    graphs_folder: str,
    pairs_path: str,
    threshold: float,
    split: str | None,
    max_pairs: int,
    max_logit_error: float,
    max_verdict_flips: float,
    output_format: str,
) -> None:
    """Measure, print the report, then judge it; `_PARITY_HELP` is what the user reads."""
    from relgrade.export import check_parity  # torch and transformers come with it
    from relgrade.pipeline.exporting import measure_graphs

    pairs = _read(pairs_path, split=split, max_pairs=max_pairs)
    report = measure_graphs(Path(student_folder), Path(graphs_folder), pairs, threshold=threshold)
    if output_format == "json":
        click.echo(json.dumps(report.to_json(), indent=2, allow_nan=False))
    else:
        _print_table(report)
    settings = ExportSettings(max_logit_error=max_logit_error, max_verdict_flips=max_verdict_flips)
    try:
        check_parity(report, settings)
    except ParityError as error:
        outcome.warn(str(error))
        click.get_current_context().exit(outcome.NOT_FOUND)


def _read(path: str, *, split: str | None, max_pairs: int) -> list[Pair]:
    from relgrade.formats import read_pairs

    pairs = list(islice(read_pairs(path, split=split), max_pairs))
    if not pairs:
        raise InvalidInput(f"{path}: no pairs; at least one is needed to compare on")
    return pairs


def _print_table(report: ParityReport) -> None:
    """One row per way of batching and pair of models."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 1))
    for name in ("batches", "compared"):
        table.add_column(name, no_wrap=True)
    for name in ("mean", "p99", "max", "flips"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.compositions:
        table.add_row(row.name, "fp32 : student", *_cells(row.fp32))
        if row.int8 is not None:
            table.add_row("", "int8 : fp32 alone", *_cells(row.int8))
        if row.int8_moved is not None:
            table.add_row("", "int8 : int8 alone", *_cells(row.int8_moved))
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    console.print(table)
    console.print(f"{report.n_pairs} pairs, relevant from logit {report.threshold:g} on")


def _cells(difference: LogitDifference) -> tuple[Any, ...]:
    numbers = (f"{value:.2g}" for value in (difference.mean, difference.p99, difference.max))
    return (*numbers, f"{difference.n_flips} ({difference.flips:.2%})")
