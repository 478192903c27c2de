"""The operating points that settings ask for: each with its promise, or left out with the reason, never replaced."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade.calibrate.arrays import Floats, Ids, Labelled, check_labelled, clustered_error
from relgrade.calibrate.certify import certify
from relgrade.calibrate.selection import folds_of
from relgrade.calibrate.threshold import pick_best_f1
from relgrade.errors import NoSafeThreshold, UndefinedMeasure
from relgrade.records import OperatingPoint, Promise
from relgrade.settings import PointSettings


@dataclass(frozen=True, slots=True)
class FoundPoints:
    """The points that hold, in the order asked for, and those that do not."""

    points: tuple[OperatingPoint, ...]
    left_out: tuple[dict[str, Any], ...]  # JSON: the settings of each, "reason", and what would do instead


def find_points(
    probabilities: Floats,
    labels: NDArray[Any] | Sequence[float],
    *,
    query_ids: Ids,
    wanted: Sequence[PointSettings],
    sources: Ids | None = None,
    label_source: str,
    seed: int = 0,
) -> FoundPoints:
    """Look for each point on its own; delta is the risk of each, not of all of them together.

    Args:
        probabilities: calibrated P(relevant), shape (n_pairs,).
        labels: 0 or 1, shape (n_pairs,).
        query_ids: shape (n_pairs,).
        wanted: what to look for.
        sources: collections that count the same in the best F1, shape (n_pairs,); promises are about all pairs alike.
        label_source: whose labels they are.
        seed: fixed beforehand, see `certify`.

    Raises:
        InvalidInput: as `certify`.
        NoSafeThreshold: a required point, or every point, cannot be had; the message names the point.
    """
    points: list[OperatingPoint] = []
    left_out: list[dict[str, Any]] = []
    for each in wanted:
        if each.kind == "best-f1":
            point = pick_best_f1(probabilities, labels, sources=sources, query_ids=query_ids, name=each.name)
            held_out = held_out_shares(probabilities, labels, query_ids=query_ids, sources=sources, seed=seed)
            points.append(
                replace(point, evidence={**point.evidence, "held_out": held_out, "label_source": label_source})
            )
            continue
        try:
            points.append(_certified(probabilities, labels, query_ids, each, label_source=label_source, seed=seed))
        except NoSafeThreshold as error:
            if each.required:
                raise named(error, each.name) from error
            left_out.append(_left_out(each, error))
    if not points:
        raise NoSafeThreshold("; ".join(f"{entry['name']}: {entry['reason']}" for entry in left_out))
    return FoundPoints(tuple(points), tuple(left_out))


def held_out_shares(
    probabilities: Floats,
    labels: NDArray[Any] | Sequence[float],
    *,
    query_ids: Ids,
    sources: Ids | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """What the best-F1 threshold reaches on queries that did not choose it: no bound, but no optimism either.

    Each fold of queries is judged at the threshold that the other folds choose. Standard errors are clustered by query.

    Returns:
        "precision", "recall", and their standard errors; a share without a value is None.
    """
    data = check_labelled(probabilities, labels, weights=None, query_ids=query_ids)
    source = None if sources is None else np.asarray(sources)
    is_kept = np.zeros(data.logits.size)
    for test in folds_of(data, seed=seed):
        train = np.setdiff1d(np.arange(data.logits.size), test)
        try:
            at = pick_best_f1(
                data.logits[train], data.labels[train], sources=None if source is None else source[train]
            ).threshold
        except UndefinedMeasure:  # every relevant document lies in the fold that was held out
            at = 1.0
        is_kept[test] = data.logits[test] >= at
    found: dict[str, Any] = {}
    for name, values, among in (("precision", data.labels, is_kept), ("recall", is_kept, data.labels)):
        has_value = bool(among.any())
        counted = Labelled(data.logits, data.labels, among, data.query)
        found[name] = float(np.average(values, weights=among)) if has_value else None
        found[f"{name}_standard_error"] = clustered_error(values, counted) if has_value else None
    return found


def named(error: NoSafeThreshold, name: str) -> NoSafeThreshold:
    """The same error, whose message begins with the name of the point."""
    return NoSafeThreshold(
        f"{name}: {error}",
        closest_threshold=error.closest_threshold,
        bound=error.bound,
        n_queries_needed=error.n_queries_needed,
    )


def _certified(
    probabilities: Floats,
    labels: NDArray[Any] | Sequence[float],
    query_ids: Ids,
    wanted: PointSettings,
    *,
    label_source: str,
    seed: int,
) -> OperatingPoint:
    assert wanted.kind != "best-f1", "a best F1 promises nothing"
    assert wanted.target is not None, "the settings see to it"
    return certify(
        np.asarray(probabilities, dtype=np.float64),
        np.asarray(labels),
        query_ids,
        promise=Promise(wanted.kind, wanted.target, wanted.delta),
        name=wanted.name,
        seed=seed,
        label_source=label_source,
        max_per_query=wanted.max_per_query,
    )


def _left_out(wanted: PointSettings, error: NoSafeThreshold) -> dict[str, Any]:
    return {
        "name": wanted.name,
        "kind": wanted.kind,
        "target": wanted.target,
        "delta": wanted.delta,
        "reason": str(error),
        "closest_threshold": error.closest_threshold,
        "bound": error.bound,
        "n_queries_needed": error.n_queries_needed,
    }
