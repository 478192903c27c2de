"""`relgrade label run`: asks teachers over HTTP and writes labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from relgrade.cli import outcome
from relgrade.cli.label_options import API, METHOD, PlanOptions, pairs_reader, plan_options

if TYPE_CHECKING:
    from relgrade.label.estimating import Estimate
    from relgrade.label.plan import Plan, ReadPairs

MAX_REASON = 300  # characters; servers answer with whole pages

_HELP = """Label PAIRS by a teacher LLM and write them to LABELS, with P(relevant) as label.

Each answer is kept in a journal as it comes. Killed or interrupted, the same command goes on and pays for nothing
twice; two processes may share a journal. Pairs without a label are listed in LABELS.errors.jsonl, never labelled 0.

The key is read from the environment, from OPENAI_API_KEY unless --api-key-env names another variable. Unless it is
named, no key is sent over plain http to another machine.

\b
Exit codes:
  0  every pair has a label
  1  some have none: errors, a limit was reached, or they are out in a batch; LABELS is written
  2  bad input or usage, or the teacher answers nothing; the journal keeps what was answered
"""  # \b keeps the lines of a paragraph as they are


@click.command(help=_HELP)
@click.argument("pairs", type=click.Path())
@click.option("-o", "--output", required=True, metavar="LABELS", type=click.Path(), help="File to write.")
@click.option("--teacher", "urls", multiple=True, required=True, metavar="URL", help="Base URL; one, or one per model.")
@plan_options
@API
@METHOD
@click.option("--api-key-env", metavar="NAME", help="Environment variable that holds the key.")
@click.option("--source", help="Name of the collection, in place of what rows say.")
@click.option("--split", help="Only rows of this split.")
@click.option("--concurrency", default=16, show_default=True, type=click.IntRange(1, 1024), help="Requests in flight.")
@click.option("--requests-per-minute", type=float, help="Of each teacher, at most.")
@click.option("--tokens-per-minute", type=float, help="Of each teacher, at most.")
@click.option("--max-request-tokens", type=int, help="Of one request; longer ones are errors.")
@click.option("--max-request-cost", type=float, help="Of one request; dearer ones are errors.")
@click.option("--max-tokens", type=int, help="Of all requests of the journal.")
@click.option("--max-cost", type=float, help="Of all requests of the journal, in the currency of --prices.")
@click.option("--timeout", "timeout_s", default=120.0, show_default=True, help="Of a request, in seconds.")
@click.option("--retries", "max_retries", default=5, show_default=True, type=click.IntRange(0), help="Of a request.")
@click.option("--retry-errors", is_flag=True, help="Ask, and pay, again where a paid reply held no answer.")
@click.option("--dry-run", is_flag=True, help="Say what it would take, and ask nothing.")
@click.option("--no-progress", is_flag=True, help="No bar.")
def run(pairs: str, output: str, urls: tuple[str, ...], source: str | None, split: str | None, **options: Any) -> None:
    """Label and write; `_HELP` is what the user reads."""
    from relgrade.label.estimating import estimate

    is_dry, has_bar = options.pop("dry_run"), not options.pop("no_progress")
    retry_errors = options.pop("retry_errors")
    given = PlanOptions.take(options)
    plan = given.plan(urls, **options)
    read, journal = pairs_reader(pairs, source=source, split=split), given.journal_for(output)
    expected = estimate(read, plan, journal=journal)
    if is_dry:
        show_estimate(expected)
        return
    outcome.require_folder_of(output)
    _warn_of_open_text(plan)
    stopped = _ask(read, plan, journal, expected, retry_errors=retry_errors, has_bar=has_bar)
    write_and_report(read, plan, journal=journal, output=output, stopped=stopped)


def write_and_report(read: ReadPairs, plan: Plan, *, journal: Path, output: str, stopped: str | None = None) -> None:
    """Write what the journal has; exit code 1 where labels are missing."""
    from relgrade.label.output import write_labels

    written = write_labels(read, plan, journal=journal, output=output)
    click.echo(f"{output}: {written.n_labels:,} labels")
    if stopped:
        outcome.warn(f"stopped: {stopped}; raise the limit and run the same command to go on")
    if written.errors_path is not None:
        every = ", all for one reason" if written.n_errors > 1 else ""
        why = f"{every}: {written.reason:.{MAX_REASON}}" if written.reason else ""
        outcome.warn(f"{written.n_errors:,} pairs have no label{why}; see {written.errors_path}")
        click.get_current_context().exit(outcome.NOT_FOUND)


def show_estimate(expected: Estimate) -> None:
    """What a run would take."""
    click.echo(f"pairs             {expected.n_pairs:>14,}")
    click.echo(f"answers there     {expected.n_found:>14,}")
    if expected.n_exported:
        click.echo(f"out in a batch    {expected.n_exported:>14,}")
    click.echo(f"requests to make  {expected.n_requests:>14,}")
    click.echo(f"input tokens      {expected.input_tokens:>14,}  about; servers count 30 % more or less")
    click.echo(f"output tokens     {expected.output_tokens:>14,}  at most")
    if expected.cost is not None:
        click.echo(f"cost              {expected.cost:>14,.4f}  at most, in the currency of the prices")


def _ask(
    read: ReadPairs, plan: Plan, journal: Path, expected: Estimate, *, retry_errors: bool, has_bar: bool
) -> str | None:
    from relgrade.cli.label_progress import LabelProgress
    from relgrade.label.labelling import label_pairs

    has_prices = any(teacher.price is not None for teacher in plan.teachers)
    total = expected.n_requests + expected.n_found + expected.n_exported
    try:
        with LabelProgress(total, has_bar=has_bar, has_cost=has_prices) as progress:
            done = label_pairs(read, plan, journal=journal, retry_errors=retry_errors, on_progress=progress.update)
    except KeyboardInterrupt:
        raise outcome.Interrupted(f"interrupted; answers are in {journal}, the same command goes on") from None
    spent = done.spent
    money = f", cost {spent.cost:.4f}" if has_prices else ""
    unsure = f", {spent.unconfirmed:,} broke off and may have been paid" if spent.unconfirmed else ""
    outcome.warn(
        f"{done.n_answered:,} answers in this run, {done.n_found:,} were there, {done.n_errors:,} errors; "
        f"{spent.requests:,} paid requests, {spent.tokens:,} tokens{money}{unsure}"
    )
    return done.stopped


def _warn_of_open_text(plan: Plan) -> None:
    for teacher in plan.teachers:
        if teacher.api_key_env and not teacher.is_local and not teacher.url.lower().startswith("https://"):
            outcome.warn(f"the key of {teacher.api_key_env} goes over plain http to {teacher.url}")
    if not plan.rubric.is_fenced:
        outcome.warn(f"rubric {plan.rubric.name} does not fence documents: one that gives orders may be obeyed")
