"""`relgrade grade`: the options, checked against each other, and which of the two modes they mean."""

from __future__ import annotations

from pathlib import Path

import click

from relgrade.cli import outcome
from relgrade.cli.grade_pairs import PairsJob, grade_pairs_file
from relgrade.cli.grade_query import QueryJob, grade_query
from relgrade.cli.grading import load_grader
from relgrade.records import KeepPolicy

_FILE = click.Path(dir_okay=False, path_type=Path)


_HELP = """Grade documents against a query, or every row of a file of pairs.

\b
relgrade grade --query "..." FILE|DIR...   documents of files (.txt .md .rst .html .jsonl)
relgrade grade --query "..." -             documents from stdin, one a line, text or JSON
relgrade grade pairs.jsonl -o graded.jsonl rows with `query` and `document`, and their verdicts
relgrade grade - < pairs.jsonl             the same through a pipe

A folder is read whole: hidden files left out, other kinds of files skipped and counted. A JSON document has `text`
and may have `title` and `id`. A row of pairs keeps all its fields and gains `id`, `probability`, `logit`,
`relevant`, `verdict`, `truncated`, `windows` and `operating_point`, or `error` where the model gave no number. What is
kept is what is `relevant` at the operating point; `verdict` is relevant, unsure or not relevant by the two points that
the bundle names for it. A bundle with points by collection judges a document by the field of its row, and says so in
`collection`.

With --evidence a row has `evidence`: the sentences that carry the verdict, the best first, each with `start` and
`end` in code points of the document, `text`, `probability` and `logit`; in csv as JSON. The table shows the best one.

A run with -o graded.jsonl that was interrupted goes on where it stopped when the same command is run again; the
file graded.jsonl.state.json beside it makes sure that input and grader are the same.

Values in csv stand as they are in the documents. A spreadsheet may run those that begin with = + - or @.

\b
Exit codes:
  0    something relevant was found, or the pairs were graded
  1    with --query: nothing relevant; pairs: lines were skipped or rows have no verdict
  2    bad input or usage, or no space left
  3    a fault of relgrade
  130  interrupted
  141  whoever read the output stopped reading
"""  # \b keeps the lines of a paragraph as they are


@click.command(help=_HELP)
@click.argument("inputs", nargs=-1, metavar="INPUT...")
@click.option("-q", "--query", help="The question. Without it, INPUT is one file of pairs.")
@click.option("-o", "--output", type=_FILE, help="Write here instead of stdout; a jsonl file of pairs is resumable.")
@click.option("--overwrite", is_flag=True, help="Throw an existing output away.")
@click.option(
    "-f",
    "--format",
    "format_",
    type=click.Choice(["table", "jsonl", "csv"]),
    help="Default: table with --query, jsonl for pairs.",
)
@click.option("--bundle", metavar="FOLDER|HUB-ID", help="Grader to use. Default: the embedded one.")
@click.option("--revision", metavar="COMMIT", help="Commit of the Hub id, where it is no HUB-ID@COMMIT.")
@click.option(
    "--operating-point",
    "--point",
    "operating_point",
    metavar="NAME",
    help="Threshold to judge at. Default: the bundle's first choice.",
)
@click.option(
    "--base-rate",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of the documents that are relevant; corrects probabilities, keeps the same.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Documents read at a time. Default: one a core.")
@click.option(
    "--cache",
    "cache_folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder that keeps what the model read of documents, for other queries: see relgrade cache.",
)
@click.option("--only-relevant", is_flag=True, help="With --query: leave out what was judged not relevant.")
@click.option("--top-k", type=click.IntRange(min=1), help="With --query: show this many at most, the best.")
@click.option(
    "--min-keep",
    type=click.IntRange(min=0),
    help="With --query: like --only-relevant, but fill up to this many with the best of the rest.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    help="With --query: like --only-relevant, but stop at this many tokens of text, the best first.",
)
@click.option(
    "--evidence", is_flag=True, help="Tell the sentences that carry a verdict; reads what is relevant or unsure twice."
)
@click.option("--skip-bad", is_flag=True, help="Pass over lines that cannot be read: reported, counted, exit code 1.")
@click.option("--bad", type=_FILE, help="Copy the lines that --skip-bad passes over here.")
def grade(
    inputs: tuple[str, ...],
    query: str | None,
    output: Path | None,
    overwrite: bool,
    format_: str | None,
    bundle: str | None,
    revision: str | None,
    operating_point: str | None,
    base_rate: float | None,
    threads: int | None,
    cache_folder: Path | None,
    only_relevant: bool,
    top_k: int | None,
    min_keep: int | None,
    max_tokens: int | None,
    evidence: bool,
    skip_bad: bool,
    bad: Path | None,
) -> None:
    """Check the options and run the mode they mean; `_HELP` is what the user reads."""
    selection = {
        "--only-relevant": only_relevant,
        "--min-keep": min_keep is not None,
        "--max-tokens": max_tokens is not None,
        "--top-k": top_k is not None,
    }
    _check_usage(inputs, is_query=query is not None, format_=format_, selection=selection)
    if bad and not skip_bad:
        raise click.UsageError("--bad needs --skip-bad")
    policy = None
    if only_relevant or min_keep is not None or max_tokens is not None:
        policy = KeepPolicy(min_keep=min_keep or 0, max_keep=top_k, max_tokens=max_tokens)
    grader = load_grader(
        bundle,
        operating_point=operating_point,
        base_rate=base_rate,
        revision=revision,
        threads=threads,
        document_cache=cache_folder,
    )
    if query is None:
        code = grade_pairs_file(
            grader,
            PairsJob(
                source=inputs[0],
                output=output,
                format=format_ or "jsonl",
                overwrite=overwrite,
                skip_bad=skip_bad,
                bad_path=bad,
                has_evidence=evidence,
            ),
        )
    else:
        code = grade_query(
            grader,
            QueryJob(
                query=query,
                sources=inputs,
                format=format_ or "table",
                output=output,
                overwrite=overwrite,
                skip_bad=skip_bad,
                bad_path=bad,
                top_k=top_k,
                policy=policy,
                has_evidence=evidence,
            ),
        )
    if grader.document_cache is not None:
        stats = grader.document_cache.stats
        if stats.hit_ratio is not None:
            outcome.warn(f"{stats.hit_ratio:.1%} of the documents were in the cache")
        grader.document_cache.close()
    click.get_current_context().exit(code)


def _check_usage(inputs: tuple[str, ...], *, is_query: bool, format_: str | None, selection: dict[str, bool]) -> None:
    """Refuse options that do not go together, before a model is loaded."""
    if not inputs:
        raise click.UsageError("no INPUT: name files or folders, or - for stdin")
    if inputs.count("-") > 1:
        raise click.UsageError("stdin (-) can be read once")
    if is_query:
        return
    given = [name for name, is_given in selection.items() if is_given]
    if given:
        raise click.UsageError(f"{', '.join(given)} only with --query: rows of a file of pairs are all written")
    if len(inputs) > 1:
        raise click.UsageError(f"one file of pairs was expected, got {len(inputs)}; documents need --query")
    if format_ == "table":
        raise click.UsageError("a table needs --query; pairs are written as jsonl or csv")
