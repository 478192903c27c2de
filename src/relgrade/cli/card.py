"""`relgrade card`: the options, and what is written."""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from relgrade.cli import outcome

_FILE = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)
_PATH = click.Path(path_type=Path)
_METHODS = ("bm25", "dense", "hybrid")  # as in candidates.settings, which a test compares

_HELP = """Measure what grading is worth to your own RAG system.

\b
relgrade card --queries questions.jsonl --corpus docs/            lists retrieved here
relgrade card --queries questions.jsonl --lists retrieved.jsonl   lists of your retriever
relgrade card --queries questions.jsonl --json card.json          each question brings its list

A question has `query`, and what is known of its answer: `relevant` (ids of documents), `answers` (texts), or
`answerable` (false: the corpus cannot answer it). An empty list says that there is none; what is left out is not known
and does not count. Lists stand in the field `retrieved`, or in a file of rows with `query_id` and a document, as
`relgrade candidates` writes them. A BEIR folder says what is relevant in its qrels.

The card compares no filter, the top few, a share of the best BM25 score, a cosine limit, and the grader at each of its
points, with a limit of your own, and with compression: precision and recall of the context, questions whose relevant
document or answer survives, unanswerable ones left with nothing, tokens, milliseconds; intervals by whole questions.
Limits are chosen on --calibration questions; without them, on the other half of the questions.

\b
Exit codes:
  0  the card is made, whatever it says
  2  bad input or usage; what was read stays in the folder of --work, and the same command goes on
"""  # \b keeps the lines of a paragraph as they are


@click.command(help=_HELP)
@click.option("--queries", required=True, type=_PATH, help="Questions to report on: a file, or a BEIR folder.")
@click.option("--split", help="Of a BEIR folder: its qrels/SPLIT.tsv.")
@click.option("--corpus", type=_PATH, help="File or folder to retrieve lists from.")
@click.option("--method", type=click.Choice(_METHODS), default="bm25", show_default=True, help="To search --corpus by.")
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True, help="Documents of a list, at most.")
@click.option("--lists", type=_FILE, help="Retrieved documents of each question, a row each.")
@click.option("--calibration", type=_PATH, help="Other questions, to choose limits on.")
@click.option("--calibration-lists", type=_FILE, help="Retrieved documents of these.")
@click.option("--bundle", metavar="FOLDER|HUB-ID@COMMIT", help="Grader.  [default: the embedded one]")
@click.option("--point", metavar="NAME", help="Operating point to compress at.  [default: the grader's]")
@click.option("--few", type=click.IntRange(min=1), default=5, show_default=True, help="Of the row `top few`.")
@click.option("--max-keep", type=click.IntRange(min=1), help="Adds a row: what the point keeps, at most so many.")
@click.option("--no-compress", is_flag=True, help="Leave compression out: half the time.")
@click.option("--timed", type=click.IntRange(min=0), default=20, show_default=True, help="Questions with a clock.")
@click.option("--json", "json_path", type=_FILE, help="Card to write as JSON.")
@click.option("--html", type=_FILE, help="Page to write.")
@click.option("--markdown", "markdown_path", type=_FILE, help="Tables to write.")
@click.option("--work", type=_FOLDER, help="Folder that keeps what is read.  [default: JSON.work, where --json is]")
@click.option("--threads", type=click.IntRange(min=1), help="Texts read at once; default: the cores.")
@click.option("--draws", type=click.IntRange(min=1), default=1000, show_default=True, help="Of the bootstrap.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the bootstrap.")
@click.option("--no-progress", is_flag=True, help="Never draw a bar.")
def card(
    json_path: Path | None, html: Path | None, markdown_path: Path | None, work: Path | None, **options: Any
) -> None:
    """Measure and write; `_HELP` is what the user reads."""
    from relgrade.card import render_page
    from relgrade.card.render import markdown, sections
    from relgrade.cli.card_run import CardOptions, make_card

    with ExitStack() as stack:
        folder = work or (json_path.with_name(f"{json_path.name}.work") if json_path else None)
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relgrade-card-")))
        made = make_card(CardOptions(folder=folder, **options))
    if json_path is not None:
        _write(json_path, json.dumps(made, indent=1, allow_nan=False) + "\n")
    if html is not None:
        _write(html, render_page(made))
    if markdown_path is not None:
        parts = [each if isinstance(each, str) else markdown(each) for each in sections(made)]
        _write(markdown_path, "\n\n".join(parts) + "\n")
    for each in sections(made):
        if isinstance(each, str):
            click.echo(outcome.one_line(each))
        else:
            lines = markdown(each, is_aligned=True).splitlines()
            click.echo("\n" + "\n".join(map(outcome.escape_controls, lines)) + "\n")


def _write(path: Path, text: str) -> None:
    from relgrade.formats.write import replaced_file

    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))
