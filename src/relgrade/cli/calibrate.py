"""`relgrade calibrate`: labelled pairs or scores become a calibration file, or a bundle with new points.

It knows options and lines of text; what is done stands in `relgrade.pipeline`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from relgrade.cli import outcome
from relgrade.cli.bundle_folder import bundle_folder
from relgrade.errors import InvalidInput, NoSafeThreshold
from relgrade.settings import DEFAULT_POINTS, CalibrationSettings, PointSettings, Recipe

if TYPE_CHECKING:
    from relgrade.bundle import Decision
    from relgrade.records import Pair, Score

_HELP = """Fit the probability and find operating points, each with a promise.

\b
relgrade calibrate --bundle B --pairs labelled.jsonl -o NEW   score the pairs by the bundle's graphs; a new bundle
relgrade calibrate --bundle B --scores scores.jsonl -o NEW    the same from what `relgrade score` wrote
relgrade calibrate scores.jsonl -o calibration.json           a file for `relgrade bundle make`

The pairs are of queries that trained nothing and will test nothing: 50 labelled pairs of 20 queries at least, a few
hundred queries for promises worth having. Without --bundle, --pairs are scored by the embedded grader. Without -o it
says what it finds and writes nothing.

Points: `balanced` has the best F1 and promises nothing; `high-precision` and `high-recall` promise what --precision and
--recall say, with a chance of --delta at most, over the draw of the queries, of being wrong. A recipe (--config) can
name others. A point that no threshold keeps ends the command with what would help, unless --leave-out.

\b
Exit codes:
  0  the points are found, and written
  1  a promise cannot be kept at any threshold; nothing is written
  2  bad input or usage
"""  # \b keeps the lines of a paragraph as they are

_SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)
# Which option asks for which point, under which name.
_PROMISES = {
    "precision": ("high-precision", "precision"),
    "recall": ("high-recall", "recall"),
    "lost_queries": ("few-lost", "lost-queries"),
    "false_keeps": ("few-false-keeps", "false-keeps"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """What is to be calibrated, and where it goes."""

    bundle: Path | None  # whose graphs score the pairs, and what is written anew
    pairs: Path | None
    scores: Path | None
    output: Path | None
    apart_from: tuple[Path, ...]
    overwrite: bool
    threads: int | None


@click.command(help=_HELP)
@click.argument("scores_argument", metavar="[SCORES]", required=False, type=click.Path(path_type=Path))
@click.option("--bundle", type=click.Path(path_type=Path), help="Grader to calibrate.")
@click.option("--pairs", type=click.Path(path_type=Path), help="Labelled pairs.")
@click.option("--scores", type=click.Path(path_type=Path), help="Labelled scores, instead of pairs.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder of the new bundle, or JSON file.")
@click.option("--overwrite", is_flag=True, help="Replace a bundle at --output.")
@click.option("--config", type=click.Path(), help="Recipe whose [calibration] and [[points]] hold.")
@click.option("--precision", type=_SHARE, help="That `high-precision` promises at least. Default: 0.8.")
@click.option("--recall", type=_SHARE, help="That `high-recall` promises at least. Default: 0.9.")
@click.option(
    "--lost-queries", type=_SHARE, help="Point `few-lost`: queries that lose every relevant document, at most."
)
@click.option(
    "--false-keeps", type=_SHARE, help="Point `few-false-keeps`: unanswerable queries that keep any, at most."
)
@click.option("--delta", type=_SHARE, help="Chance that a promise is broken, of each point. Default: 0.1.")
@click.option(
    "--max-per-query",
    type=click.IntRange(min=1),
    help="Documents that one query counts for at most, in promises of precision and recall. Fewer queries do then.",
)
@click.option("--leave-out", is_flag=True, help="Leave out what no threshold keeps, instead of ending.")
@click.option("--by", metavar="FIELD", help="Points per value of a field of the pairs, such as `source`.")
@click.option("--cut", type=float, help="Relevant from this grade (field `grade`) or label on.")
@click.option("--base-rate", type=_SHARE, help="Share of relevant documents at work, if not that of the pairs.")
@click.option("--label-source", help="Who labelled the pairs; stands on the card.")
@click.option(
    "--apart-from",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Pairs of training or test, whose queries are refused here.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of folds and draws. Fix it before you look.")
@click.option("--threads", type=click.IntRange(min=1), help="Sequences read at once; default: the cores.")
def calibrate(
    scores_argument: Path | None,
    bundle: Path | None,
    pairs: Path | None,
    scores: Path | None,
    output: Path | None,
    overwrite: bool,
    config: str | None,
    precision: float | None,
    recall: float | None,
    lost_queries: float | None,
    false_keeps: float | None,
    delta: float | None,
    max_per_query: int | None,
    leave_out: bool,
    by: str | None,
    cut: float | None,
    base_rate: float | None,
    label_source: str | None,
    apart_from: tuple[Path, ...],
    seed: int,
    threads: int | None,
) -> None:
    """Calibrate; `_HELP` is what the user reads."""
    given = [each for each in (scores_argument, scores, pairs) if each is not None]
    if len(given) != 1:
        raise click.UsageError(f"give --pairs, or a file of scores, and one of them; got {len(given)}")
    scores = scores or scores_argument
    if apart_from and pairs is None:
        raise click.UsageError("--apart-from needs --pairs: a file of scores has no queries in it")
    recipe = Recipe.read(config) if config else Recipe(calibration=CalibrationSettings(cut=None))
    targets = {"precision": precision, "recall": recall, "lost_queries": lost_queries, "false_keeps": false_keeps}
    points = wanted_points(
        recipe.points if config else DEFAULT_POINTS, targets, delta=delta, max_per_query=max_per_query
    )
    changes: dict[str, Any] = {"by": by, "cut": cut, "base_rate": base_rate, "label_source": label_source}
    settings = replace(recipe.calibration, **{name: each for name, each in changes.items() if each is not None})
    job = _Job(
        bundle=None if bundle is None and pairs is None else bundle_folder(bundle),
        pairs=pairs,
        scores=scores,
        output=output,
        apart_from=apart_from,
        overwrite=overwrite,
        threads=threads,
    )
    try:
        decision, queries = _decide(job, settings, points, seed=seed)
    except NoSafeThreshold as error:
        outcome.warn(f"{error}; nothing is written")
        click.get_current_context().exit(outcome.NOT_FOUND)
    _tell(decision)
    if decision.left_out_points and not leave_out:
        outcome.warn("nothing is written; change the targets, or leave out what cannot be had with --leave-out")
        click.get_current_context().exit(outcome.NOT_FOUND)
    _write(job, decision, queries)


def wanted_points(
    points: Sequence[PointSettings],
    targets: dict[str, float | None],
    *,
    delta: float | None,
    max_per_query: int | None = None,
) -> tuple[PointSettings, ...]:
    """The points with the targets of the options; an option without a point adds one.

    Args:
        points: of the recipe, or the usual ones.
        targets: option -> share, None where it was not given.
        delta: of every point that promises something; None keeps theirs.
        max_per_query: of every point that promises precision or recall; None keeps theirs.
    """
    # Not required here: all that cannot be had are told at once, and then decided on.
    found = {point.name: replace(point, required=False) for point in points}
    for option, target in targets.items():
        if target is not None:
            name, kind = _PROMISES[option]
            old = found.get(name, PointSettings(name=name, kind=kind, target=target))  # type: ignore[arg-type]
            if old.kind != kind:
                raise InvalidInput(f"the point {name} of the recipe is {old.kind}, not {kind}; change the recipe")
            found[name] = replace(old, target=target)
    if delta is not None:
        found = {name: replace(point, delta=delta) for name, point in found.items()}
    if max_per_query is not None:
        found = {
            name: replace(point, max_per_query=max_per_query) if point.kind in ("precision", "recall") else point
            for name, point in found.items()
        }
    return tuple(found.values())


def cut_grades(pairs: Sequence[Pair], settings: CalibrationSettings) -> tuple[list[Pair], CalibrationSettings]:
    """Labels from the field `grade`, where there is a cut and a pair that has one.

    Args:
        pairs: their labels may be soft, which a cut of grades does not concern.
        settings: with the cut, on the scale of the grades.

    Returns:
        The pairs, every label 0 or 1 and those without a grade left out, and settings without the cut; or both as they
        were, when no pair has a grade.
    """
    grades = [pair.fields.get("grade") for pair in pairs]
    is_graded = [isinstance(grade, int | float) and not isinstance(grade, bool) for grade in grades]
    if settings.cut is None or not any(is_graded):
        return list(pairs), settings
    cut = settings.cut
    labelled = [
        replace(pair, label=float(grade >= cut))  # type: ignore[operator]
        for pair, grade, is_number in zip(pairs, grades, is_graded, strict=True)
        if is_number
    ]
    return labelled, replace(settings, cut=None)


def _decide(
    job: _Job, settings: CalibrationSettings, points: Sequence[PointSettings], *, seed: int
) -> tuple[Decision, list[str]]:
    """The decision, and the texts of the queries where they are known."""
    from relgrade.pipeline.calibrating import calibrate_scores, values_of
    from relgrade.pipeline.scoring import read_scores

    if job.scores is not None:
        if settings.by not in (None, "source"):
            raise InvalidInput(f"a file of scores has no field {settings.by!r}, only the source; give --pairs")
        return calibrate_scores(read_scores(job.scores), settings=settings, points=points, seed=seed), []
    from relgrade.calibrate import require_apart
    from relgrade.formats import read_pairs

    assert job.pairs is not None, "the command sees to it"
    found, settings = cut_grades(list(read_pairs(job.pairs)), settings)
    pairs = [pair for pair in found if pair.label is not None]
    queries = list(dict.fromkeys(pair.query for pair in pairs))
    for path in job.apart_from:
        require_apart(queries, (pair.query for pair in read_pairs(path)), what=str(path))
    values = None if settings.by is None else values_of(pairs, settings.by)
    scores = _score(pairs, job)
    decision = calibrate_scores(scores, settings=settings, points=points, values=values, seed=seed)
    return decision, queries


def _score(pairs: Sequence[Pair], job: _Job) -> list[Score]:
    from relgrade.pipeline.graphs import open_runtime
    from relgrade.pipeline.scoring import score_pairs

    assert job.bundle is not None, "pairs have a bundle to score them"
    return score_pairs(pairs, open_runtime(job.bundle, n_threads=job.threads))


def _tell(decision: Decision) -> None:
    from relgrade.pipeline.calibrating import describe_decision

    for line in describe_decision(decision):
        if line.startswith("! "):
            outcome.warn(line[2:])
        else:
            click.echo(outcome.one_line(line))


def _write(job: _Job, decision: Decision, queries: Sequence[str]) -> None:
    if job.output is None:
        return
    if job.bundle is None:
        from relgrade.pipeline.calibrating import write_decision

        write_decision(job.output, decision)
        click.echo(f"{outcome.one_line(str(job.output))}: for `relgrade bundle make --calibration`")
        return
    from relgrade.bundle import load_bundle
    from relgrade.pipeline.bundling import recalibrated_bundle

    made = recalibrated_bundle(
        load_bundle(job.bundle),
        job.output,
        decision=decision,
        calibration_queries=queries,
        overwrite=job.overwrite,
    )
    click.echo(f"{outcome.one_line(str(job.output))}: hash {made.hash}")
