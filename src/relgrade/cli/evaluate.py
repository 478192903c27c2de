"""`relgrade evaluate`: the options, and the way from files to a report."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from relgrade.cli import outcome
from relgrade.cli.grading import load_grader

if TYPE_CHECKING:
    from relgrade.cli.evaluate_contenders import Calibrating
    from relgrade.cli.evaluate_rows import LabelledRow
    from relgrade.evaluate import Report, ReportSettings
    from relgrade.evaluate.judgements import Contender
    from relgrade.grade.grader import Grader
    from relgrade.records import Pair

_FILE = click.Path(dir_okay=False, path_type=Path)

_HELP = """Measure a grader on labelled pairs that neither trained nor calibrated it.

\b
relgrade evaluate --pairs test.jsonl --by domain --html report.html   grade, then report
relgrade evaluate --scores scores.jsonl --bundle B                    scores of `relgrade score`, labels in them
relgrade evaluate --scores graded.jsonl                               rows of `relgrade grade`, with labels
relgrade evaluate --predictions table.csv                             columns true and pred, perhaps query_id

Every measure has a 95 % interval from drawing whole queries. Beside the grader stand keeping everything, BM25, and the
cosine of the bundle's own encoder where it has one. A baseline has a threshold only with --calibration-pairs, whose
queries must not be among the test queries. The page loads nothing from anywhere, and texts of documents stand in it as
text: whoever gets the page gets them.

\b
Exit codes:
  0  the report is made, however bad the grader
  2  bad input or usage
"""  # \b keeps the lines of a paragraph as they are


@dataclass(frozen=True, slots=True)
class _Job:
    """The options as they were given."""

    bundle: str | None
    pairs: Path | None
    scores: Path | None
    predictions: Path | None
    calibration_pairs: Path | None
    against: str | None
    point: str | None
    threshold: float | None
    cut: float | None
    split: str | None
    by: tuple[str, ...]
    html: Path | None
    json: Path | None
    draws: int
    seed: int
    block_length: int | None
    mistakes: int
    threads: int | None
    has_baselines: bool

    @property
    def data(self) -> Path:
        """The file that is reported on."""
        found = self.pairs or self.scores or self.predictions
        assert found is not None
        return found


@click.command(help=_HELP)
@click.option(
    "--bundle", metavar="FOLDER|HUB-ID@COMMIT", help="Grader to measure. Default with --pairs: the embedded one."
)
@click.option("--pairs", type=_FILE, help="Labelled pairs: .jsonl, .csv, .tsv, .parquet.")
@click.option("--scores", type=_FILE, help="JSON lines with logit or probability; with --pairs, of the same pairs.")
@click.option("--predictions", type=_FILE, help="csv with the columns true and pred.")
@click.option("--calibration-pairs", type=_FILE, help="Labelled pairs of other queries: thresholds of the baselines.")
@click.option("--against", metavar="FOLDER|HUB-ID@COMMIT", help="Another grader, whose verdicts are compared.")
@click.option("--point", metavar="NAME", help="Operating point. Default: the bundle's first choice.")
@click.option("--threshold", type=click.FloatRange(0, 1), help="Of probabilities in --scores without --bundle.")
@click.option("--cut", type=float, help="Graded labels: relevant from this grade, or label, on.")
@click.option("--split", help="Take rows of this split alone.")
@click.option("--by", multiple=True, metavar="FIELD", help="Report each value of a field; may be repeated.")
@click.option("--html", type=_FILE, help="Page to write.")
@click.option("--json", type=_FILE, help="Report to write as JSON.")
@click.option("--draws", type=click.IntRange(min=1), default=1000, show_default=True, help="Of the bootstrap.")
@click.option("--seed", default=0, show_default=True, help="Of the bootstrap.")
@click.option("--block-length", type=click.IntRange(min=1), help="Rows of a block, for predictions without query ids.")
@click.option("--mistakes", type=click.IntRange(min=0), default=10, show_default=True, help="Worst ones of each kind.")
@click.option("--threads", type=click.IntRange(min=1), help="Documents read at a time. Default: one a core.")
@click.option("--no-baselines", is_flag=True, help="Measure the grader alone.")
def evaluate(no_baselines: bool, **options: Any) -> None:
    """Check the options, measure, and write; `_HELP` is what the user reads."""
    job = _Job(**options, has_baselines=not no_baselines)
    _check_usage(job)
    report = _predictions_report(job) if job.predictions else _report(job)
    plain = report.to_json()
    if job.json:
        _write(job.json, json.dumps(plain, indent=1, allow_nan=False, ensure_ascii=True) + "\n")
    if job.html:
        from relgrade.evaluate.page import render_page

        _write(job.html, render_page(plain))
    from relgrade.cli.evaluate_table import report_lines

    for line in report_lines(plain):
        click.echo(outcome.escape_controls(line))
    for path in filter(None, (job.json, job.html)):
        outcome.warn(f"written: {path}")


def _check_usage(job: _Job) -> None:
    if job.predictions is None and job.pairs is None and job.scores is None:
        raise click.UsageError("nothing to measure: name --pairs, --scores or --predictions")
    if job.predictions is not None:
        others = (
            "bundle",
            "pairs",
            "scores",
            "calibration_pairs",
            "against",
            "point",
            "threshold",
            "cut",
            "split",
            "by",
        )
        given = [f"--{name.replace('_', '-')}" for name in others if getattr(job, name)]
        if given:
            raise click.UsageError(f"--predictions holds labels and verdicts and takes no {', '.join(given)}")
    elif job.block_length is not None:
        raise click.UsageError("--block-length is for --predictions without query ids")
    if job.threshold is not None and (job.scores is None or job.bundle is not None):
        raise click.UsageError("--threshold is for --scores without --bundle: a bundle has its own, see --point")
    if job.against is not None and job.pairs is None:
        raise click.UsageError("--against needs --pairs: the other grader has to read them")
    if job.split is not None and job.pairs is None:
        raise click.UsageError("--split needs --pairs")


def _predictions_report(job: _Job) -> Report:
    from relgrade.evaluate import build_report, read_predictions

    found = read_predictions(job.data, block_length=job.block_length)
    return build_report(
        found.judgements, [found.contender], about=_about(job, subject=None), settings=_settings(job, grader=None)
    )


def _report(job: _Job) -> Report:
    from relgrade.cli import evaluate_contenders as contenders
    from relgrade.cli import evaluate_rows as files
    from relgrade.evaluate import build_report

    pairs = files.read_labelled_pairs(job.pairs, split=job.split, cut=job.cut) if job.pairs else None
    rows = _rows(job, pairs)
    judgements = files.judgements_of(rows, by=job.by, cut=job.cut, path=job.data)
    calibrating = _calibrating(job, rows)
    grader = None
    if job.bundle is not None or job.scores is None:
        grader = load_grader(job.bundle, operating_point=job.point, revision=None, threads=job.threads)
        files.refuse_calibration_queries(rows, grader.bundle)
    subject = grader.bundle.manifest.name if grader is not None else job.data.name
    if job.scores is not None:
        measured = contenders.score_contender(
            rows, grader=grader, threshold=job.threshold, name=subject, path=job.scores
        )
    else:
        assert grader is not None
        assert pairs is not None
        measured = contenders.grade_contender(grader, pairs, name=subject, progress=subject)
    found = list(contenders.baselines(rows, calibrating, grader=grader)) if job.has_baselines else []
    return build_report(
        judgements,
        [measured, *(each for each in found if not isinstance(each, str))],
        against=_other(job, pairs, subject),
        about=_about(job, subject=subject, grader=grader),
        notes=[each for each in found if isinstance(each, str)],
        settings=_settings(job, grader=grader),
    )


def _rows(job: _Job, pairs: list[Pair] | None) -> list[LabelledRow]:
    from relgrade.cli.evaluate_rows import join_scores, read_score_rows, rows_of_pairs

    if job.scores is None:
        return rows_of_pairs(pairs or [])
    scores = read_score_rows(job.scores)
    return scores if pairs is None else join_scores(rows_of_pairs(pairs), scores, path=job.scores)


def _calibrating(job: _Job, rows: list[LabelledRow]) -> Calibrating | None:
    """Read here, before any model runs: a leak must not cost an hour of grading."""
    if job.calibration_pairs is None:
        return None
    from relgrade.cli.evaluate_contenders import Calibrating
    from relgrade.cli.evaluate_rows import judgements_of, read_labelled_pairs, refuse_shared_queries, rows_of_pairs

    if any(row.query is None or row.document is None for row in rows):
        raise click.UsageError("--calibration-pairs needs --pairs: these scores hold no texts to compare")
    others = rows_of_pairs(read_labelled_pairs(job.calibration_pairs, split=None, cut=job.cut))
    refuse_shared_queries(rows, others)
    judged = judgements_of(others, by=(), cut=job.cut, path=job.calibration_pairs)
    return Calibrating(others, judged.labels)


def _other(job: _Job, pairs: list[Pair] | None, subject: str) -> Contender | None:
    if job.against is None or pairs is None:
        return None
    from relgrade.cli.evaluate_contenders import grade_contender

    other = load_grader(job.against, operating_point=None, revision=None, threads=job.threads)
    name = other.bundle.manifest.name
    name = name if name != subject else f"{name} ({other.bundle.hash[:8]})"
    return grade_contender(other, pairs, name=name, progress=name)


def _settings(job: _Job, *, grader: Grader | None) -> ReportSettings:
    from relgrade.evaluate import ReportSettings

    list_score = None if grader is None else _list_score(grader)
    return ReportSettings(
        by=job.by,
        n_draws=job.draws,
        seed=job.seed,
        n_mistakes=job.mistakes,
        list_score=list_score,
        list_score_name="top score" if list_score is None else "P(any relevant)",
    )


def _list_score(grader: Grader) -> Callable[[Any], float] | None:
    """P(any relevant) of a list's logits, where the bundle was calibrated for it."""
    calibration = grader.bundle.manifest.any_relevant
    if calibration is None:
        return None
    from relgrade.probability import list_probability

    return lambda logits: list_probability(calibration, logits)


def _about(job: _Job, *, subject: str | None, grader: Grader | None = None) -> dict[str, Any]:
    from datetime import UTC, datetime
    from importlib.metadata import version

    return {
        "subject": subject,
        "data": job.data.name,
        "bundle_hash": None if grader is None else grader.bundle.hash,
        "operating_point": None if grader is None else grader.operating_point.name,
        "relgrade_version": version("relgrade"),
        "created": datetime.now(UTC).date().isoformat(),
    }


def _write(path: Path, text: str) -> None:
    from relgrade.formats.write import replaced_file

    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))
