"""The whole report: every measure of a grader beside its baselines, and what to look at. Plain data; nothing is drawn.

`Report.to_json` is the file `report.json`, held to `report.schema.json`; the page is made from it alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from relgrade.errors import InvalidInput
from relgrade.evaluate.confidence import Reliability, rows_reliability
from relgrade.evaluate.curve import ThresholdCurve, rows_curve
from relgrade.evaluate.diagnoses import diagnose
from relgrade.evaluate.evaluation import Evaluation, compare_scores
from relgrade.evaluate.flips import Flips, compare_verdicts
from relgrade.evaluate.intervals import LEVEL, Estimate
from relgrade.evaluate.judgements import Contender, Judgements
from relgrade.evaluate.mistakes import worst_mistakes
from relgrade.evaluate.rows import check_probabilities
from relgrade.evaluate.slices import Slices, evaluate_slices
from relgrade.evaluate.twins import ListScore, TwinLists, compare_twins
from relgrade.evaluate.wording import notes_on, summary_sentences

SCHEMA_VERSION = 1
WORD_OVERLAP = "BM25"  # name of the baseline that counts words
EXCERPT_CHARACTERS = 700  # of a document, in the list of mistakes


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSettings:
    """How a report is made."""

    by: tuple[str, ...] = ()  # fields of the judgements to slice by
    n_draws: int = 1000  # of the bootstrap
    seed: int = 0
    n_mistakes: int = 10  # of each kind
    list_score: ListScore | None = None  # of the grader, for the twin lists; None takes the top score
    list_score_name: str = "top score"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One contender, measured."""

    name: str
    kind: str
    note: str
    evaluation: Evaluation
    twins: TwinLists | None  # None without query ids or scores
    ap_difference: Estimate | None  # average precision of the grader minus this one's, paired; None for the grader


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """One wrong verdict."""

    row: int  # from 0
    score: float
    probability: float | None
    query_id: str | None
    doc_id: str | None
    query: str | None
    document: str | None  # the first `EXCERPT_CHARACTERS` characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What `relgrade evaluate` found out."""

    about: Mapping[str, Any]  # names of grader and data, versions; plain JSON
    data: Mapping[str, Any]
    method: Mapping[str, Any]
    summary: tuple[str, ...]  # sentences, the most important first
    contenders: tuple[Measured, ...]  # the grader first
    reliability: Reliability | None
    curve: ThresholdCurve | None
    slices: tuple[Slices, ...]
    against_name: str | None
    against: Flips | None
    false_keeps: tuple[Mistake, ...]
    false_drops: tuple[Mistake, ...]
    notes: tuple[str, ...] = field(default=())  # what the reader must know before believing a number

    @property
    def grader(self) -> Measured:
        """The one the report is about."""
        return self.contenders[0]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: numbers that do not exist are null, never NaN."""
        plain = asdict(self)
        slices = [
            {"field": each.field, "members": [{"value": name, **asdict(found)} for name, found in each.members.items()]}
            for each in self.slices
        ]
        reliability = plain["reliability"]
        if self.reliability is not None:
            reliability["is_within_noise"] = self.reliability.is_within_noise
        against = None
        if self.against is not None:
            counts = {"n_mended": self.against.n_mended, "n_broken": self.against.n_broken}
            against = {"name": self.against_name, **plain["against"], **counts}
        del plain["against_name"], plain["false_keeps"], plain["false_drops"]
        mistakes = {name: [asdict(each) for each in getattr(self, name)] for name in ("false_keeps", "false_drops")}
        plain |= {"slices": slices, "against": against, "mistakes": mistakes, "reliability": reliability}
        lists: dict[str, Any] = _with_lists({"schema_version": SCHEMA_VERSION, "kind": "relgrade-evaluation", **plain})
        return lists


def build_report(
    judgements: Judgements,
    contenders: Sequence[Contender],
    *,
    against: Contender | None = None,
    about: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    settings: ReportSettings | None = None,
) -> Report:
    """Measure everything.

    Args:
        judgements: the labelled rows.
        contenders: the grader, then its baselines; what each says about every row.
        against: an earlier grader whose verdicts are compared with the grader's; None: none.
        about: plain JSON that the report carries: `subject`, `data`, `relgrade_version` and the like.
        notes: sentences of the caller, put before those found here.
        settings: how; None takes the defaults.

    Raises:
        InvalidInput: no contender, two of one name, a column that does not fit the rows, a probability outside
            [0, 1], a score that is not finite, or `against` without verdicts on both sides.
    """
    chosen = settings or ReportSettings()
    names = [each.name for each in contenders]
    if not names or len(set(names)) < len(names):
        raise InvalidInput(f"a report needs a grader and baselines of different names, got {names}")
    grader, rows = contenders[0], judgements.rows
    measured = tuple(_measure(each, judgements, grader, chosen) for each in contenders)
    probabilities = None if grader.probabilities is None else check_probabilities(grader.probabilities, rows)
    false_keeps, false_drops = _mistakes(grader, judgements, chosen.n_mistakes)
    reliability = (
        None
        if probabilities is None
        else rows_reliability(rows, probabilities, n_draws=chosen.n_draws, seed=chosen.seed)
    )
    by_words = next((each.evaluation for each in measured if each.name == WORD_OVERLAP), None)
    failures = diagnose(rows, measured[0].evaluation, probabilities=probabilities, word_overlap=by_words)
    return Report(
        about=dict(about or {}),
        data=_describe(judgements),
        method=_method(judgements, chosen),
        summary=tuple(summary_sentences(measured[0].evaluation, measured[1:], reliability)),
        contenders=measured,
        reliability=reliability,
        curve=None if probabilities is None else rows_curve(rows, probabilities),
        slices=tuple(_slice(name, grader, judgements, chosen) for name in chosen.by),
        against_name=None if against is None else against.name,
        against=None if against is None else _compare(grader, against, judgements, chosen),
        false_keeps=false_keeps,
        false_drops=false_drops,
        notes=(*notes, *notes_on(rows, grader.ranking), *(each.sentence for each in failures)),
    )


def _measure(each: Contender, judgements: Judgements, grader: Contender, settings: ReportSettings) -> Measured:
    draws = {"n_draws": settings.n_draws, "seed": settings.seed}
    evaluation = each.evaluate(judgements, **draws)
    twins = difference = None
    if judgements.query_ids is not None and each.ranking is not None:
        is_grader = each is grader
        twins = compare_twins(
            each.ranking,
            judgements.labels,
            judgements.query_ids,
            is_kept=each.is_kept,
            list_score=settings.list_score if is_grader else None,
            scored_by=settings.list_score_name if is_grader else "top score",
            **draws,
        )
        if not is_grader and grader.ranking is not None:
            difference = compare_scores(grader.ranking, each.ranking, judgements.labels, judgements.query_ids, **draws)
    return Measured(
        name=each.name, kind=each.kind, note=each.note, evaluation=evaluation, twins=twins, ap_difference=difference
    )


def _slice(name: str, grader: Contender, judgements: Judgements, settings: ReportSettings) -> Slices:
    if name not in judgements.fields or judgements.query_ids is None:
        known = ", ".join(sorted(judgements.fields)) or "none"
        raise InvalidInput(f"the rows have no field {name!r} to slice by; they have: {known}")
    if grader.ranking is None:
        raise InvalidInput("slices need scores or probabilities, and these rows have verdicts alone")
    return evaluate_slices(
        name,
        judgements.fields[name],
        scores=grader.ranking,
        labels=judgements.labels,
        query_ids=judgements.query_ids,
        threshold=grader.threshold,
        probabilities=grader.probabilities,
        is_kept=grader.is_kept,
        grades=judgements.grades,
        n_draws=settings.n_draws,
        seed=settings.seed,
    )


def _compare(grader: Contender, other: Contender, judgements: Judgements, settings: ReportSettings) -> Flips:
    if grader.is_kept is None or other.is_kept is None or judgements.query_ids is None:
        raise InvalidInput("comparing two graders needs verdicts of both and query ids")
    return compare_verdicts(
        grader.is_kept,
        other.is_kept,
        judgements.labels,
        judgements.query_ids,
        scores=grader.ranking,
        other_scores=other.ranking,
        n_draws=settings.n_draws,
        seed=settings.seed,
    )


def _mistakes(grader: Contender, judgements: Judgements, limit: int) -> tuple[tuple[Mistake, ...], tuple[Mistake, ...]]:
    scores, is_kept = grader.ranking, grader.is_kept
    if scores is None or is_kept is None or judgements.query_ids is None:
        return (), ()

    def mistake(row: int) -> Mistake:
        columns = {"query_id": judgements.query_ids, "doc_id": judgements.doc_ids}
        texts = {"query": judgements.queries, "document": judgements.documents}
        return Mistake(
            row=row,
            score=float(scores[row]),
            probability=None if grader.probabilities is None else float(grader.probabilities[row]),
            **{name: None if column is None else str(column[row]) for name, column in columns.items()},
            **{name: None if column is None else _excerpt(column[row]) for name, column in texts.items()},
        )

    worst = worst_mistakes(scores, is_kept, judgements.labels, judgements.query_ids, limit=limit)
    return tuple(map(mistake, worst.false_keeps)), tuple(map(mistake, worst.false_drops))


def _excerpt(text: str) -> str:
    return text if len(text) <= EXCERPT_CHARACTERS else text[:EXCERPT_CHARACTERS].rstrip() + " …"


def _describe(judgements: Judgements) -> dict[str, Any]:
    rows = judgements.rows
    is_by_query = rows.is_by_query
    return {
        "n_pairs": rows.n_pairs,
        "n_relevant": int(rows.relevant.sum()),
        "base_rate": float(rows.relevant.mean()),
        "n_queries": rows.n_queries if is_by_query else None,
        "n_unanswerable": int((~rows.is_answerable).sum()) if is_by_query else None,
        "median_list_length": float(np.median(rows.sums(np.ones(rows.n_pairs)))) if is_by_query else None,
    }


def _method(judgements: Judgements, settings: ReportSettings) -> dict[str, Any]:
    rows = judgements.rows
    return {
        "interval": "percentile bootstrap",
        "level": LEVEL,
        "n_draws": settings.n_draws,
        "seed": settings.seed,
        "unit": "query" if rows.is_by_query else "block of rows",
        "n_units": rows.n_queries,
        "block_length": None if rows.is_by_query else judgements.unit_length,
    }


def _with_lists(value: Any) -> Any:
    """Tuples as lists, so that the mapping equals what is read back from the file."""
    if isinstance(value, Mapping):
        return {str(key): _with_lists(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_lists(item) for item in value]
    return value
