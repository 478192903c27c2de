"""`relgrade shadow`: the options, and the way from a log to a report."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from relgrade.cli import outcome
from relgrade.shadow.readers import LOG_KINDS

_FILE = click.Path(dir_okay=False, path_type=Path)

_HELP = """Hold the logged verdicts of an LLM grader beside those of this one.

\b
relgrade shadow runs.jsonl                               traces of LangGraph, exported as JSON lines
relgrade shadow chats.jsonl --input-price 0.15 --output-price 0.6    chat logs; prices for a million tokens
relgrade shadow out.jsonl --requests in.jsonl            a batch: its output, and the input with the prompts
relgrade shadow verdicts.csv --verdict-field llm         a table with query, document and a verdict
relgrade shadow shadow.jsonl                             what ShadowGrader wrote; nothing is graded again

Reports agreement and kappa with intervals over queries, what each grader drops alone, money and time. --pairs writes
pairs worth labelling: that is a choice, not a sample, and finds errors without measuring them. Agreement says nothing
about who is right.

\b
Exit codes:
  0  the report is made, however much they differ
  1  it is made, and lines of the log were passed over
  2  bad input or usage
"""  # \b keeps the lines of a paragraph as they are


@click.command(help=_HELP)
@click.argument("log", type=_FILE)
@click.option("--format", "kind", type=click.Choice(LOG_KINDS), default="auto", show_default=True, help="Of the log.")
@click.option("--grader", metavar="FOLDER|HUB-ID@COMMIT|URL", help="Default: the embedded one.")
@click.option("--point", metavar="NAME", help="Operating point. Default: the grader's first choice.")
@click.option("--api-key", envvar="RELGRADE_API_KEY", help="Of a `relgrade serve`. Default: $RELGRADE_API_KEY.")
@click.option("--verdict-field", metavar="NAME", help="Of a table. Default: the first known name.")
@click.option("--pattern", metavar="REGEX", help="Of prompts: with the groups (?P<query>...) and (?P<document>...).")
@click.option("--requests", type=_FILE, help="Batch input that belongs to the log, joined by custom_id.")
@click.option("--input-price", type=click.FloatRange(min=0), help="For a million tokens, where the log has no costs.")
@click.option("--output-price", type=click.FloatRange(min=0), help="For a million tokens.")
@click.option("--verdict-price", type=click.FloatRange(min=0), help="Flat, for a verdict.")
@click.option("--json", "json_path", type=_FILE, help="Report to write as JSON.")
@click.option("--html", type=_FILE, help="Page to write; texts of the log stand in it.")
@click.option("--pairs", type=_FILE, help="Pairs worth labelling to write, as JSON lines.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="Of --pairs.")
@click.option("--draws", type=click.IntRange(min=1), default=1000, show_default=True, help="Of the bootstrap.")
@click.option("--seed", default=0, show_default=True, help="Of the bootstrap.")
def shadow(
    log: Path,
    kind: Any,
    grader: str | None,
    point: str | None,
    api_key: str | None,
    verdict_field: str | None,
    pattern: str | None,
    requests: Path | None,
    input_price: float | None,
    output_price: float | None,
    verdict_price: float | None,
    json_path: Path | None,
    html: Path | None,
    pairs: Path | None,
    limit: int,
    draws: int,
    seed: int,
) -> None:
    """Read, grade, compare and write; `_HELP` is what the user reads."""
    from relgrade.errors import InvalidData
    from relgrade.formats.write import write_pairs
    from relgrade.integrations.source import is_url, open_grader
    from relgrade.shadow import LogSettings, Prices, ReportSettings, build_report, read_log, replay
    from relgrade.shadow.summary import sentences

    settings = LogSettings(kind=kind, verdict_field=verdict_field, pattern=pattern, requests=requests)
    found = list(read_log(log, settings))
    errors = [each for each in found if isinstance(each, InvalidData)]
    verdicts = [each for each in found if not isinstance(each, InvalidData)]
    for error in errors[:3]:
        outcome.warn(str(error))
    if not verdicts:
        raise outcome.Stop(f"{log}: no verdict was found; name the --format, or a --pattern that fits the prompts")
    opened = open_grader(grader, operating_point=point, api_key=api_key if is_url(grader) else None)
    compared = replay(verdicts, opened)
    report = build_report(
        compared,
        ReportSettings(
            n_draws=draws,
            seed=seed,
            n_wanted=limit,
            prices=Prices(input_per_million=input_price, output_per_million=output_price, per_verdict=verdict_price),
        ),
        about=_about(log, opened, n_passed_over=len(errors)),
    )
    if json_path is not None:
        _write(json_path, json.dumps(report.plain, indent=1, allow_nan=False) + "\n")
    if html is not None:
        from relgrade.shadow.page import render_page

        _write(html, render_page(report.plain))
    if pairs is not None:
        write_pairs(pairs, (each.to_pair() for each in report.wanted))
    for line in sentences(report.plain):
        click.echo(outcome.one_line(line))
    if pairs is not None:
        click.echo(f"{outcome.one_line(str(pairs))}: {len(report.wanted):,} pairs to label")
    if errors:
        outcome.warn(f"{len(errors):,} lines of {log} hold no verdict and were passed over")
        raise click.exceptions.Exit(outcome.NOT_FOUND)


def _about(log: Path, grader: Any, *, n_passed_over: int) -> dict[str, Any]:
    from relgrade.integrations.source import grader_name

    point = getattr(grader, "operating_point", None)
    bundle = getattr(grader, "bundle", None)
    return {
        "log": log.name,
        "grader": grader_name(grader),
        "bundle_hash": getattr(bundle, "hash", None),
        "operating_point": getattr(point, "name", None),
        "lines_passed_over": n_passed_over,
        "created": datetime.now(UTC).date().isoformat(),
    }


def _write(path: Path, text: str) -> None:
    from relgrade.formats.write import replaced_file

    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))
