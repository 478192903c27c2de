"""`relgrade cascade`: fit a first stage that settles what a grader would hardly keep."""

from __future__ import annotations

from pathlib import Path

import click

from relgrade.cli import outcome
from relgrade.cli.bar import StageBars
from relgrade.errors import NoSafeThreshold

_HELP = """Fit the first stage of a cascade on the labelled pairs of a file, and write it.

PAIRS is a file of labelled pairs of queries like those to come, which trained nothing, with documents about something
else among them: those are what a first stage settles without reading. The grader grades all of them; half of the
queries teach the first stage which it keeps, the other half test the promise. Use it with
`Grader.load(cascade=FILE)`; it is for this one bundle.

\b
Exit codes:
  0  the cascade is written; the promises are shown
  1  no promise can be kept on these queries
  2  bad input or usage
"""  # \b keeps the lines of a paragraph as they are


@click.command(help=_HELP)
@click.argument("pairs", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--output", "-o", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File to write.")
@click.option("--bundle", metavar="FOLDER|HUB-ID", help="Grader to fit to. Default: the embedded one.")
@click.option("--revision", metavar="COMMIT", help="Commit of the Hub id, where it is no HUB-ID@COMMIT.")
@click.option("--share", default=0.98, show_default=True, help="Of what the grader keeps, to be passed on at least.")
@click.option("--delta", default=0.1, show_default=True, help="Chance that the promise is broken.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Divides the queries.")
@click.option("--no-progress", is_flag=True, help="Never draw a bar.")
def cascade(
    pairs: Path,
    output: Path,
    bundle: str | None,
    revision: str | None,
    share: float,
    delta: float,
    seed: int,
    no_progress: bool,
) -> None:
    """Fit and write; `_HELP` is what the user reads."""
    from relgrade.formats import read_pairs
    from relgrade.grade.grader import open_bundle
    from relgrade.pipeline.cascading import CascadeSettings, fit_cascade

    settings = CascadeSettings(share=share, delta=delta, seed=seed)
    outcome.require_folder_of(output)
    labelled = list(read_pairs(pairs))
    try:
        with StageBars(has_bar=not no_progress) as progress:
            fitted = fit_cascade(
                open_bundle(bundle, revision=revision),
                labelled,
                settings,
                on_progress=lambda n_more: progress.advance("pairs", n_more, len(labelled)),
            )
    except NoSafeThreshold as error:
        outcome.warn(str(error))
        click.get_current_context().exit(outcome.NOT_FOUND)
    fitted.save(output)
    outcome.warn(f"{output}: written")
    for point in fitted.points:
        found = point.evidence
        outcome.warn(
            f"{point.name}: {found['settled']:.1%} of the documents of {found['n_queries']:,} queries settled, "
            f"{found['lost']:.2%} of what the grader keeps is lost, at most {100 * (1 - share):.2g}% at delta {delta:g}"
        )
