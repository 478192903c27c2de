"""Step `calibrate`: scores of the calibration queries become probabilities and operating points."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from relgrade.bundle import Decision
from relgrade.calibrate import (
    MIN_PAIRS,
    MIN_QUERIES,
    apply,
    find_collection_points,
    find_points,
    fit_any_relevant,
    fit_calibration,
    fit_collections,
    source_weights,
)
from relgrade.errors import InvalidInput, InvalidSettings, UndefinedMeasure
from relgrade.formats import read_pairs
from relgrade.pipeline.ledger import read_json, write_json
from relgrade.probability import at_base_rate, log_odds, logit_at, sigmoid
from relgrade.records import Calibration, ListCalibration, OperatingPoint, Pair, Score, VerdictPoints
from relgrade.settings import CalibrationSettings, PointSettings


@dataclass(frozen=True, slots=True)
class _Rows:
    """Labelled scores, one entry per pair."""

    logits: list[float]
    soft: list[float]  # labels as they were given: P(relevant)
    labels: list[float]  # 0 or 1
    sources: list[str]
    query_ids: list[str]  # of one collection each
    values: list[str | None]  # of the field that tells collections apart


def calibrate_scores(
    scores: Sequence[Score],
    *,
    settings: CalibrationSettings,
    points: Sequence[PointSettings],
    values: Sequence[str | None] | None = None,
    prior_shift: float = 0.0,
    seed: int = 0,
) -> Decision:
    """Fit the probability, find the points; each source counts the same in the probability and in the best F1.

    Args:
        scores: of calibration queries; those without a label take no part.
        settings: methods, cut, base rate and the rest.
        points: what to look for; the first found is the default.
        values: of the field `settings.by`, one per score; None takes the sources where the field is `source`.
        prior_shift: that resampling put on the log-odds the model learned, see `fit_calibration`.
        seed: of folds and draws, fixed beforehand.

    Raises:
        InvalidInput: no labels, one class only, too few pairs or queries, or labels that need a cut.
        NoSafeThreshold: a required point cannot be had, or none of all.
    """
    rows = _labelled(scores, settings, values)
    fitted = fit_calibration(
        rows.logits,
        rows.soft,
        query_ids=rows.query_ids,
        weights=source_weights(rows.sources),
        methods=settings.methods,
        prior_shift=prior_shift,
        seed=seed,
    )
    pooled = fitted if settings.base_rate is None else at_base_rate(fitted, settings.base_rate)
    found = find_points(
        apply(pooled, rows.logits),
        rows.labels,
        query_ids=rows.query_ids,
        wanted=points,
        sources=rows.sources,
        label_source=settings.label_source,
        seed=seed,
    )
    decision = Decision(
        calibration=pooled,
        operating_points=found.points,
        verdict_points=_verdict_points(found.points, settings),
        any_relevant=_any_relevant(rows, settings, seed=seed),
        left_out_points=found.left_out,
    )
    return decision if settings.by is None else _with_collections(decision, fitted, rows, settings, points, seed=seed)


def require_enough(path: Path) -> None:
    """Refuse a file of calibration pairs that has too few, before anything is trained for it.

    Raises:
        InvalidSettings: fewer labelled pairs or queries than a calibration needs.
    """
    labelled = [pair for pair in read_pairs(path) if pair.label is not None]
    n_queries = len({(pair.source, pair.query_id) for pair in labelled})
    if len(labelled) < MIN_PAIRS or n_queries < MIN_QUERIES:
        raise InvalidSettings(
            f"the calibration split has {len(labelled)} labelled pairs of {n_queries} queries; {MIN_PAIRS} of "
            f"{MIN_QUERIES} are needed: raise splits.calibration, or label more"
        )


def threshold_logit(calibration: Calibration, point: OperatingPoint) -> float:
    """The logit, before calibration, at which the probability is the threshold."""
    return logit_at(calibration, point.threshold)


def values_of(pairs: Sequence[Pair], field: str) -> list[str | None]:
    """What each pair says in a field: its source, or an entry of its `fields`; None where it says nothing."""
    if field == "source":
        return [pair.source for pair in pairs]
    found = (pair.fields.get(field) for pair in pairs)
    return [None if value is None or value == "" else str(value) for value in found]


def write_decision(path: Path, decision: Decision) -> None:
    """Write it as JSON."""
    write_json(path, decision.to_json())


def read_decision(path: Path) -> Decision:
    """Inverse of `write_decision`.

    Raises:
        InvalidInput: not such a file, or without an operating point.
    """
    try:
        return Decision.from_json(read_json(path))
    except InvalidInput as error:
        raise InvalidInput(f"{path}: a calibration with operating points was expected: {error}") from error


def describe_decision(decision: Decision) -> list[str]:
    """What was found, as lines of text; one that begins with `! ` is a warning."""
    return list(_describe(decision))


def _describe(decision: Decision) -> Iterator[str]:
    yield from _describe_calibration(decision.calibration)
    for point in decision.operating_points:
        yield _describe_point(point)
    for entry in decision.left_out_points:
        yield f"! no point {entry['name']}: {entry['reason']}"
    if decision.verdict_points is not None:
        upper, lower = decision.verdict_points.upper, decision.verdict_points.lower
        yield f"verdict: relevant from {upper} on, not relevant below {lower}, unsure between them"
    for member in decision.collections.members if decision.collections is not None else ():
        own = [point for point in member.operating_points if "fallback" not in point.evidence]
        pooled = [point.name for point in member.operating_points if "fallback" in point.evidence]
        text = ", ".join(f"{point.name} {point.threshold:.4f}" for point in own) or "no point of its own"
        yield f"{member.value}: {text}{'; pooled: ' + ', '.join(pooled) if pooled else ''}"
    if decision.any_relevant is not None:
        held_out = decision.any_relevant.evidence["held_out"]
        yield f"anything relevant: AUROC {held_out['auroc']:.3f} on lists of queries held out"


def _describe_calibration(calibration: Calibration) -> Iterator[str]:
    evidence = calibration.evidence
    shape = f"{len(calibration.knots)} knots" if calibration.knots else f"slope {calibration.slope:.4g}"
    before, after = evidence.get("log_loss_before", math.nan), evidence.get("log_loss_after", math.nan)
    yield f"{calibration.method}: {shape}, intercept {calibration.intercept:+.4g}, log loss {before:.4f} -> {after:.4f}"
    if "cross_validation" in evidence:
        yield f"{evidence['cross_validation']['chosen']}: {evidence['cross_validation']['because']}"
    if "trust" in evidence:
        yield f"trust: {evidence['trust']}"
    if "fallback" in evidence:
        yield f"! calibration fell back to {evidence['fallback']}"


def _describe_point(point: OperatingPoint) -> str:
    evidence = point.evidence
    head = f"{point.name}: threshold {point.threshold:.4f}"
    reached = f"precision {_share(evidence.get('precision'))}, recall {_share(evidence.get('recall'))}"
    if point.promise is None:
        held_out = evidence.get("held_out", {})
        honest = f"precision {_share(held_out.get('precision'))}, recall {_share(held_out.get('recall'))}"
        return f"{head}, best F1, promises nothing; {honest} on queries held out ({evidence.get('n_queries')} in all)"
    sign = ">=" if point.promise.kind in ("precision", "recall") else "<="
    return (
        f"{head}, {point.promise.kind} {sign} {point.promise.target:g} at delta {point.promise.delta:g} "
        f"(bound {_share(evidence.get('bound'))}) on {evidence.get('n_queries')} queries; {reached}"
    )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _labelled(scores: Sequence[Score], settings: CalibrationSettings, values: Sequence[str | None] | None) -> _Rows:
    if values is None:
        values = [score.source if settings.by == "source" else None for score in scores]
    if len(values) != len(scores):
        raise InvalidInput(f"need one value of {settings.by!r} per score, {len(scores)} in all, got {len(values)}")
    kept = [(score, value) for score, value in zip(scores, values, strict=True) if score.label is not None]
    if not kept:
        raise InvalidInput(f"calibration needs labelled scores, got none among {len(scores)}")
    if settings.by is not None and all(value is None for _, value in kept):
        raise InvalidInput(f"no pair has a field {settings.by!r}; name another field, or calibrate without --by")
    given = [float(score.label or 0.0) for score, _ in kept]
    labels = _cut(given, settings.cut)
    is_graded = any(label > 1.0 for label in given)  # grades say nothing as probabilities
    return _Rows(
        logits=[score.logit for score, _ in kept],
        soft=labels if is_graded else given,
        labels=labels,
        sources=[score.source or "" for score, _ in kept],
        query_ids=[f"{score.source}\t{score.query_id}" for score, _ in kept],
        values=[value for _, value in kept],
    )


def _cut(labels: Sequence[float], cut: float | None) -> list[float]:
    if cut is not None:
        return [float(label >= cut) for label in labels]
    between = [label for label in labels if label not in (0.0, 1.0)]
    if between:
        raise InvalidInput(
            f"{len(between)} labels are neither 0 nor 1, such as {between[0]:g}; say from which label on a document is "
            "relevant (--cut)"
        )
    return list(labels)


def _verdict_points(found: Sequence[OperatingPoint], settings: CalibrationSettings) -> VerdictPoints | None:
    names = [point.name for point in found]
    has_both = settings.upper in names and settings.lower in names
    return VerdictPoints(settings.upper, settings.lower) if has_both else None


def _any_relevant(rows: _Rows, settings: CalibrationSettings, *, seed: int) -> ListCalibration | None:
    if not settings.any_relevant:
        return None
    try:
        return fit_any_relevant(
            rows.logits, rows.labels, query_ids=rows.query_ids, answerable=settings.answerable, seed=seed
        )
    except (InvalidInput, UndefinedMeasure):  # too few lists of one kind; the grader says None
        return None


def _with_collections(
    decision: Decision,
    fitted: Calibration,
    rows: _Rows,
    settings: CalibrationSettings,
    points: Sequence[PointSettings],
    *,
    seed: int,
) -> Decision:
    """Fitted on the pairs as they are; a base rate then moves every collection by the same log-odds."""
    members = fit_collections(
        rows.logits, rows.soft, query_ids=rows.query_ids, values=rows.values, pooled=fitted, seed=seed
    )
    shift = decision.calibration.intercept - fitted.intercept
    moved = {
        value: replace(
            own,
            intercept=own.intercept + shift,
            prevalence=None if own.prevalence is None else float(sigmoid(log_odds(own.prevalence) + shift)),
        )
        for value, own in members.items()
    }
    collections = find_collection_points(
        moved,
        rows.logits,
        rows.labels,
        query_ids=rows.query_ids,
        values=rows.values,
        field=str(settings.by),
        wanted=points,
        pooled=decision.calibration,
        pooled_points=decision.operating_points,
        label_source=settings.label_source,
        seed=seed,
    )
    return replace(decision, collections=collections)
