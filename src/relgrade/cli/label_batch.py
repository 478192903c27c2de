"""`relgrade label export-batch` and `import-batch`: requests as a file, results back."""

from __future__ import annotations

from typing import Any

import click

from relgrade.cli import outcome
from relgrade.cli.label_options import PlanOptions, pairs_reader, plan_options
from relgrade.cli.label_run import write_and_report
from relgrade.label.rubric import METHODS

_ANYWHERE = "http://localhost/v1"  # batch files name no server

_METHOD = click.option(
    "--method", type=click.Choice(METHODS), default="json_schema", show_default=True, help="How answers are asked for."
)

_EXPORT_BATCH_HELP = """Write requests in the OpenAI Batch format, for services that answer files at half the price.

vLLM takes the same file: vllm run-batch -i FILE -o RESULTS --model MODEL; with --method logprobs it gives soft
labels. Requests that are out are noted in the journal (default: OUTPUT.journal) and neither exported nor asked
again until their results are imported.

\b
Exit codes:
  0  done
  2  bad input or usage; nothing is out that is not in a file
"""  # \b keeps the lines of a paragraph as they are

_IMPORT_BATCH_HELP = """Take RESULTS of batches, files of errors too, into the journal.

With --pairs and -o, write labels. Results may be partial, in any order, and repeated. What failed can be exported
again, or asked by `label run`.

\b
Exit codes:
  0  done
  1  lines were no results, results were unknown, or pairs have no label
  2  bad input or usage
"""  # \b keeps the lines of a paragraph as they are


@click.command("export-batch", help=_EXPORT_BATCH_HELP)
@click.argument("pairs", type=click.Path())
@click.option("-o", "--output", required=True, type=click.Path(), help="File of requests; more get -2, -3 ...")
@plan_options
@_METHOD
@click.option("--source", help="Name of the collection, in place of what rows say.")
@click.option("--split", help="Only rows of this split.")
def export_batch(pairs: str, output: str, method: str, source: str | None, split: str | None, **options: Any) -> None:
    """Write requests in the OpenAI Batch format; `_EXPORT_BATCH_HELP` is what the user reads."""
    from relgrade.label import batch

    given = PlanOptions.take(options)
    plan = given.plan([_ANYWHERE])
    done = batch.export_batch(
        pairs_reader(pairs, source=source, split=split),
        plan,
        journal=given.journal_for(output),
        output=output,
        method=method,  # type: ignore[arg-type]  # click holds it to the names
    )
    for path in done.files:
        click.echo(str(path))
    outcome.warn(
        f"{done.n_requests:,} requests in {len(done.files)} files; {done.n_found:,} were answered, {done.n_out:,} are "
        f"out already, {done.n_elsewhere:,} are being asked by another process"
    )


@click.command("import-batch", help=_IMPORT_BATCH_HELP)
@click.argument("results", nargs=-1, required=True, type=click.Path())
@click.option("--pairs", type=click.Path(), help="Pairs to write as labels, once all results are taken.")
@click.option("-o", "--output", type=click.Path(), metavar="LABELS", help="File of labels, with --pairs.")
@plan_options
def import_batch(results: tuple[str, ...], pairs: str | None, output: str | None, **options: Any) -> None:
    """Take RESULTS of batches into the journal; `_IMPORT_BATCH_HELP` is what the user reads."""
    from relgrade.label import batch

    given = PlanOptions.take(options)
    if given.journal is None:
        raise click.UsageError("--journal must name the journal that the batch was exported with")
    if (pairs is None) != (output is None):
        raise click.UsageError("--pairs and -o go together")
    plan = given.plan([_ANYWHERE])
    is_odd = False
    for path in results:
        report = batch.import_batch(path, journal=given.journal)
        outcome.warn(
            f"{path}: {report.n_answers:,} answers, {report.n_unusable:,} replies without one, {report.n_failed:,} "
            f"failed, {report.n_repeated:,} repeated, {report.n_unknown:,} unknown, {len(report.bad_lines):,} bad lines"
        )
        for problem in report.bad_lines[:5]:
            outcome.warn(str(problem))
        is_odd = is_odd or bool(report.bad_lines or report.n_unknown)
    if pairs is not None and output is not None:
        write_and_report(pairs_reader(pairs), plan, journal=given.journal_for(output), output=output)
    if is_odd:
        click.get_current_context().exit(outcome.NOT_FOUND)
