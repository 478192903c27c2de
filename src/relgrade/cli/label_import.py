"""`relgrade label import`: labels that people or other graders gave already, as labelled pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from relgrade.cli import outcome

if TYPE_CHECKING:
    from relgrade.errors import InvalidData
    from relgrade.records import Pair

_FORMATS = ("qrels", "csv", "yes-no", "label-studio")
_SHOWN = 5

_IMPORT_HELP = """Read LABELS that exist already and write labelled pairs.

\b
Formats:
  qrels         TREC judgements, with --queries and --documents
  csv           a table (.csv, .tsv) with query, document and a label in words or numbers
  yes-no        JSON lines as graders log them: question, document, and yes or no, also as {"binary_score": "yes"}
  label-studio  an export, JSON or JSON-MIN; several people become their mean, with their disagreement

\b
Exit codes:
  0  every row has a label
  1  some rows were left out, because they are no pair or their label is not understood
  2  bad input or usage; nothing is written
"""  # \b keeps the lines of a paragraph as they are


@click.command("import", help=_IMPORT_HELP)
@click.argument("labels", type=click.Path())
@click.option("-o", "--output", required=True, type=click.Path(), help="File of labelled pairs to write.")
@click.option("--format", "form", type=click.Choice(_FORMATS), required=True, help="Of LABELS.")
@click.option("--queries", type=click.Path(), help="qrels: texts of the queries (.jsonl, or .tsv of id and text).")
@click.option("--documents", type=click.Path(), help="qrels: texts of the documents.")
@click.option("--cut", default=1.0, show_default=True, help="qrels: relevant from this score on.")
@click.option("--column", help="Column, field or Label Studio name of the label; default: the usual names.")
@click.option("--rubric", help="What relevant meant to whoever labelled; kept with each label.")
@click.option("--source", help="Name of the collection, for each row.")
def import_labels(
    labels: str,
    output: str,
    form: str,
    queries: str | None,
    documents: str | None,
    cut: float,
    column: str | None,
    rubric: str | None,
    source: str | None,
) -> None:
    """Read LABELS that exist already and write labelled pairs; `_IMPORT_HELP` is what the user reads."""
    from relgrade.formats import read_trec, write_pairs
    from relgrade.label import existing

    problems: list[InvalidData] = []
    found: Iterable[Pair]
    if form == "qrels":
        if queries is None or documents is None:
            raise click.UsageError("qrels need the texts: --queries and --documents")
        found = read_trec(labels, queries, documents, cut=cut)
    elif form == "label-studio":
        found = existing.read_label_studio(labels, choice=column, on_problem=problems.append)
    else:
        found = existing.read_worded(labels, label=column, on_problem=problems.append)

    def named() -> Iterator[Pair]:
        for pair in found:
            fields = {**pair.fields, "rubric": rubric} if rubric else pair.fields
            yield replace(pair, source=source or pair.source, fields=fields)

    n_pairs = write_pairs(output, named())
    click.echo(f"{output}: {n_pairs:,} labels")
    for problem in problems[:_SHOWN]:
        outcome.warn(str(problem))
    if problems:
        outcome.warn(f"{len(problems):,} rows or answers were left out; none of them counts as not relevant")
        click.get_current_context().exit(outcome.NOT_FOUND)
