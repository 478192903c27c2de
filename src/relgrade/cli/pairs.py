"""`relgrade pairs`: files of labelled pairs converted, divided, checked, balanced and counted.

It knows options and tables; what is done to the pairs stands in `relgrade.data` and `relgrade.formats`.
"""

from __future__ import annotations

import inspect
import io
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_type_hints

import click

from relgrade.cli import outcome
from relgrade.settings import BalanceSettings, SplitSettings

if TYPE_CHECKING:
    from relgrade.data import LeakReport
    from relgrade.errors import InvalidData
    from relgrade.records import Pair

_Command = TypeVar("_Command", bound=Callable[..., Any])
_ON_LEAK = get_args(get_type_hints(SplitSettings)["on_leak"])
_EXIT_CODES = """

\b
Exit codes:
  0  done
  1  {one}
  2  bad input or usage; nothing is written"""  # \b keeps the lines of a paragraph as they are

_INPUTS = click.argument("inputs", metavar="IN...", nargs=-1, required=True, type=click.Path())
_OUTPUT = click.option("-o", "--output", required=True, type=click.Path(), help="File to write; the suffix decides.")
_SEED = click.option("--seed", default=0, show_default=True, help="Of the draw; the same seed gives the same file.")
_SKIP_BAD = click.option("--skip-bad", is_flag=True, help="Report lines that are no pair and go on; exit code 1.")
_NEAR = click.option(
    "--near-duplicate",
    type=click.FloatRange(0, 1, min_open=True),
    default=SplitSettings().near_duplicate,
    show_default=True,
    help="Share of common word 5-grams from which documents are nearly the same.",
)


@click.group()
def pairs() -> None:
    """Convert, divide, check, balance and count files of labelled pairs.

    IN is .jsonl, .csv or .tsv (perhaps .gz), .parquet, or a BEIR folder. Rows have `query`, `document`, and perhaps
    `label` (0 to 1), `query_id`, `doc_id`, `title`, `split`, `source` and fields of their own.
    """


def _command(one: str) -> Callable[[_Command], click.Command]:
    """A command of the group whose help ends with its exit codes; `one` says what 1 means."""

    def register(function: _Command) -> click.Command:
        text = inspect.cleandoc(function.__doc__ or "") + _EXIT_CODES.format(one=one)
        return pairs.command(help=text)(function)

    return register


@_command("lines were skipped")
@click.argument("source_path", metavar="IN", type=click.Path())
@click.argument("output", metavar="OUT", type=click.Path())
@click.option("--queries", type=click.Path(), help="TREC: texts of the queries (.jsonl, or .tsv of id and text).")
@click.option("--documents", type=click.Path(), help="TREC: texts of the documents.")
@click.option("--cut", default=1.0, show_default=True, help="BEIR and TREC: relevant from this score on.")
@click.option("--source", help="Name of the collection, for each row.")
@click.option("--split", help="Take rows of this split alone.")
@_SKIP_BAD
def convert(
    source_path: str,
    output: str,
    queries: str | None,
    documents: str | None,
    cut: float,
    source: str | None,
    split: str | None,
    skip_bad: bool,
) -> None:
    """Read IN and write OUT.

    The suffix of OUT decides its format: .jsonl, .csv or .tsv, perhaps .gz, or .parquet. With --queries and
    --documents, IN is a file of TREC qrels.
    """
    from dataclasses import replace

    from relgrade.formats import read_pairs, read_trec, write_pairs

    bad = _BadLines(is_skipped=skip_bad)
    if queries is None and documents is None:
        found = read_pairs(source_path, source=source, split=split, cut=cut, on_bad_line=bad.callback)
    elif queries is None or documents is None or split is not None or skip_bad:
        raise click.UsageError("TREC qrels need both --queries and --documents, and take no --split or --skip-bad")
    else:
        judged = read_trec(source_path, queries, documents, cut=cut)
        found = (replace(pair, source=source) for pair in judged)
    n_pairs = write_pairs(output, found)
    outcome.warn(f"{n_pairs:,} pairs written to {output}")
    bad.finish()


@_command("lines were skipped")
@_INPUTS
@_OUTPUT
@click.option("--validation", default=SplitSettings().validation, show_default=True, help="Share of the queries.")
@click.option("--calibration", default=SplitSettings().calibration, show_default=True, help="Share of the queries.")
@click.option("--test", default=SplitSettings().test, show_default=True, help="Share of queries of no split.")
@click.option(
    "--on-leak",
    type=click.Choice(_ON_LEAK),
    default=SplitSettings().on_leak,
    show_default=True,
    help="What is done when texts stand in two splits; drop removes the training rows, raise is exit code 2.",
)
@_NEAR
@_SEED
@_SKIP_BAD
def split(inputs: Sequence[str], output: str, seed: int, skip_bad: bool, **shares: Any) -> None:
    """Divide pairs by query into splits.

    The splits are train, validation, calibration and test. Rows that name another split than train keep it. A query
    never stands in two splits, and adding rows moves no other query.
    """
    from relgrade.data import drop_leaks, find_leaks, split_by_query
    from relgrade.formats import write_pairs

    settings = SplitSettings(**shares)
    bad = _BadLines(is_skipped=skip_bad)
    divided = split_by_query(_read(inputs, bad), settings, seed=seed)
    report = find_leaks(divided, near_duplicate=settings.near_duplicate)
    if settings.on_leak == "raise":
        report.raise_if_found()
    kept = drop_leaks(divided, report) if settings.on_leak == "drop" else divided
    n_pairs = write_pairs(output, kept)
    _show_leaks(report, to_stderr=True)
    dropped = f", {len(divided) - n_pairs:,} leaking training pairs dropped" if len(divided) > n_pairs else ""
    outcome.warn(f"{n_pairs:,} pairs written to {output}{dropped}")
    bad.finish()


@_command("something stands in two splits")
@_INPUTS
@_NEAR
def leaks(inputs: Sequence[str], near_duplicate: float) -> None:
    """Find what stands in two splits.

    The same query, the same document, and nearly the same documents, between any two splits of IN. Documents that
    train and test queries share are normal where the corpus is one; queries never are.
    """
    from relgrade.data import find_leaks

    report = find_leaks(_read(inputs, _BadLines(is_skipped=False)), near_duplicate=near_duplicate)
    _show_leaks(report, to_stderr=False)
    if not report.is_clean:
        click.get_current_context().exit(outcome.NOT_FOUND)


@_command("lines were skipped")
@click.argument("source_path", metavar="IN", type=click.Path())
@_OUTPUT
@click.option("--method", type=click.Choice(["oversample", "undersample"]), required=True)
@click.option(
    "--negatives-per-positive",
    default=BalanceSettings().negatives_per_positive,
    show_default=True,
    help="Ratio of the training rows to reach.",
)
@_SEED
@_SKIP_BAD
def balance(
    source_path: str, output: str, method: Any, negatives_per_positive: float, seed: int, skip_bad: bool
) -> None:
    """Resample the training pairs.

    Positives are repeated, or negatives left out; other splits stay as they are. Copies carry a number in field
    `copy`. Prints by how much the log-odds of a positive moved.
    """
    from relgrade.data import balance as balance_pairs
    from relgrade.data import prior_shift
    from relgrade.formats import write_pairs

    settings = BalanceSettings(method=method, negatives_per_positive=negatives_per_positive)
    bad = _BadLines(is_skipped=skip_bad)
    before = _read([source_path], bad)
    after = balance_pairs(before, settings, seed=seed)
    shift = prior_shift(before, after)
    n_pairs = write_pairs(output, after)
    outcome.warn(f"{n_pairs:,} pairs written to {output}, {len(before):,} read; log-odds moved by {shift:+.3f}")
    bad.finish()


@_command("lines were skipped")
@_INPUTS
@_SKIP_BAD
def stats(inputs: Sequence[str], skip_bad: bool) -> None:
    """Count pairs by source and split.

    The last column is the share of positives among the labelled pairs.
    """
    bad = _BadLines(is_skipped=skip_bad)
    _echo(_stats_table(_read(inputs, bad)))
    bad.finish()


@dataclass(slots=True)
class _BadLines:
    """Reports lines that are no pair, when the user wants to go on after them."""

    is_skipped: bool
    n: int = 0

    @property
    def callback(self) -> Callable[[InvalidData], None] | None:
        return self._report if self.is_skipped else None

    def finish(self) -> None:
        """End with code 1 when lines were skipped."""
        if self.n:
            outcome.warn(f"{self.n:,} lines skipped")
            click.get_current_context().exit(outcome.NOT_FOUND)

    def _report(self, error: InvalidData) -> None:
        self.n += 1
        outcome.warn(f"skipped: {error}")


def _read(inputs: Sequence[str], bad: _BadLines) -> list[Pair]:
    from relgrade.formats import read_pairs

    return [pair for path in inputs for pair in read_pairs(path, on_bad_line=bad.callback)]


def _show_leaks(report: LeakReport, *, to_stderr: bool) -> None:
    for line in report.summary().splitlines():
        if to_stderr:
            outcome.warn(line)
        else:
            _echo(line)


def _stats_table(found: Sequence[Pair]) -> str:
    """A table as text, as wide as the terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in found:
        groups.setdefault((pair.source or "-", pair.split or "-"), []).append(pair)
    table = Table(box=None, padding=(0, 1))
    for name in ("source", "split"):
        table.add_column(name)
    for name in ("queries", "pairs", "labelled", "positive"):
        table.add_column(name, justify="right", no_wrap=True)
    rows = [(*names, group) for names, group in sorted(groups.items())]
    for source, split_name, group in [*rows, ("all", "", found)] if len(rows) != 1 else rows:
        # Names come from the file: as `Text` they are never read as markup.
        table.add_row(Text(outcome.one_line(source)), Text(outcome.one_line(split_name)), *_counts(group))
    text = io.StringIO()
    Console(file=text, width=shutil.get_terminal_size().columns, highlight=False).print(table)
    return text.getvalue().rstrip()


def _counts(group: Sequence[Pair]) -> list[str]:
    labels = [pair.label for pair in group if pair.label is not None]
    n_queries = len({(pair.source, pair.query_id) for pair in group})
    share = f"{sum(label >= 0.5 for label in labels) / len(labels):.1%}" if labels else "-"
    return [f"{n_queries:,}", f"{len(group):,}", f"{len(labels):,}", share]


def _echo(text: str) -> None:
    """Write to stdout in the characters that it can take."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding))
