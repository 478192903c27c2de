"""Calibrations and points per collection, shrunk towards the pooled ones as far as the data are scarce."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade.calibrate.arrays import Floats, Ids, Labelled, check_labelled
from relgrade.calibrate.logistic import fit_logistic
from relgrade.calibrate.points import find_points
from relgrade.calibrate.selection import choose, folds_of
from relgrade.errors import InvalidInput, NoSafeThreshold, UndefinedMeasure
from relgrade.probability import calibrated_log_odds, calibrated_probability, log_odds, logit_at, sigmoid
from relgrade.records import Calibration, CollectionPoints, Collections, OperatingPoint
from relgrade.settings import PointSettings

MIN_QUERIES = 5  # of a collection before anything of its own is fitted
MIN_POINT_QUERIES = 20  # before a threshold of its own is looked for, the best F1 too
# Pull of slope and intercept towards the pooled ones, in queries, the strongest first; infinity is the pooled itself.
STRENGTHS = (np.inf, 100.0, 30.0, 10.0, 3.0, 1.0)
_FLATTEST = 0.1  # of the pooled slope; less would all but lose the ranking


def fit_collections(
    logits: Floats,
    labels: NDArray[Any] | Sequence[float],
    *,
    query_ids: Ids,
    values: Sequence[str | None],
    pooled: Calibration,
    seed: int = 0,
) -> dict[str, Calibration]:
    """A calibration for each value that has 5 queries and both classes, shrunk towards the pooled one.

    On the log-odds z of the pooled calibration each collection fits z + a z + b by penalised logistic regression, which
    pulls a and b towards 0. A pair weighs as 1 / (pairs per query), so that the likelihood counts queries, and the pull
    is worth a number of queries: with few of its own a collection stays near the pooled calibration, with many it
    leaves it. One strength holds for all collections, chosen by grouped cross-validation: the strongest within one
    standard error of the best. The strongest of all is the pooled calibration itself.

    Args:
        logits: finite, shape (n_pairs,).
        labels: in [0, 1], shape (n_pairs,).
        query_ids: shape (n_pairs,).
        values: of the field that tells collections apart, shape (n_pairs,); None takes no part.
        pooled: fitted on all pairs, before any base rate is set.
        seed: of the folds.

    Returns:
        By value; `slope`, `intercept` and `knots` are those of the pooled calibration, changed. Empty when no value has
        enough.

    Raises:
        InvalidInput: arrays that do not fit together.
    """
    data = check_labelled(logits, labels, weights=None, query_ids=query_ids)
    if len(values) != data.logits.size:
        raise InvalidInput(f"need one value per pair, {data.logits.size} in all, got {len(values)}")
    rows = {
        value: np.flatnonzero([each == value for each in values]) for value in sorted(set(values) - {None}, key=str)
    }
    rows = {value: own for value, own in rows.items() if _has_enough(data.take(own))}
    if not rows:
        return {}
    z = calibrated_log_odds(pooled, data.logits)
    members = np.sort(np.concatenate(list(rows.values())))
    folds = folds_of(data, seed=seed)
    held_out = {f"{strength:g}": z.copy() for strength in STRENGTHS}
    for test in folds:
        for own in rows.values():
            train, held = np.setdiff1d(own, test), np.intersect1d(own, test)
            for strength in STRENGTHS:
                a, b = _change(z, data, train, strength=strength)
                held_out[f"{strength:g}"][held] = (1.0 + a) * z[held] + b
    choice = choose({name: found[members] for name, found in held_out.items()}, data.take(members))
    fitted = {}
    for value, own in rows.items():
        a, b = _change(z, data, own, strength=float(choice.name))
        evidence = {
            "n_pairs": int(own.size),
            "n_queries": len(np.unique(data.query[own])),
            "n_relevant": float(data.labels[own].sum()),
            "pull_in_queries": None if choice.name == "inf" else float(choice.name),
            "pull_because": choice.reason,
            "slope_change": float(a),
            "intercept_change": float(b),
            "shrunk_towards": "the pooled calibration" if choice.name != "inf" else "the pooled calibration, wholly",
        }
        fitted[str(value)] = _changed(pooled, a, b, z=z[own], evidence=evidence)
    return fitted


def find_collection_points(
    calibrations: Mapping[str, Calibration],
    logits: Floats,
    labels: NDArray[Any] | Sequence[float],
    *,
    query_ids: Ids,
    values: Sequence[str | None],
    field: str,
    wanted: Sequence[PointSettings],
    pooled: Calibration,
    pooled_points: Sequence[OperatingPoint],
    label_source: str,
    seed: int = 0,
) -> Collections | None:
    """The points of each collection, tested on its own queries alone.

    Where its own queries do not support a point, the pooled threshold stands in for it, at the same logit. Its evidence
    says so under "fallback", and its promise is None: the pooled promise is about all collections together.

    Args:
        calibrations: of `fit_collections`, with any base rate set.
        logits: shape (n_pairs,).
        labels: 0 or 1, shape (n_pairs,).
        query_ids: shape (n_pairs,).
        values: shape (n_pairs,).
        field: whose values they are.
        wanted: settings of the points; those without a pooled point are passed over.
        pooled: the pooled calibration.
        pooled_points: in their order.
        label_source: whose labels they are.
        seed: fixed beforehand, see `certify`.
    """
    x, y, query = np.asarray(logits, dtype=np.float64), np.asarray(labels), np.asarray(query_ids)
    settings = {each.name: each for each in wanted}
    members = []
    for value, calibration in calibrations.items():
        own = np.flatnonzero([str(each) == value for each in values])
        probabilities = calibrated_probability(calibration, x[own])
        n_queries = len(np.unique(query[own]))
        points = []
        for point in pooled_points:
            try:
                if n_queries < MIN_POINT_QUERIES:
                    raise InvalidInput(f"{n_queries} queries are too few for a threshold of its own")
                (found,) = find_points(
                    probabilities,
                    y[own],
                    query_ids=query[own],
                    wanted=[settings[point.name]],
                    label_source=label_source,
                    seed=seed,
                ).points
            except (NoSafeThreshold, InvalidInput, UndefinedMeasure) as error:
                found = _stand_in(point, error, pooled=pooled, own=calibration)
            points.append(found)
        members.append(CollectionPoints(value, calibration, tuple(points)))
    return Collections(field, tuple(members)) if members else None


def _stand_in(point: OperatingPoint, error: Exception, *, pooled: Calibration, own: Calibration) -> OperatingPoint:
    """The pooled threshold on the collection's own scale of probabilities."""
    logit = logit_at(pooled, point.threshold)
    is_end = point.threshold in (0.0, 1.0)  # keeps everything, or what is certain: no logit stands for that
    threshold = point.threshold if is_end else float(calibrated_probability(own, [logit])[0])
    evidence = {
        "fallback": f"the pooled point, at the same logit: {error}",
        "guarantee": "none here: what the pooled point promises is about all collections together",
        "pooled_threshold": point.threshold,
    }
    return OperatingPoint(point.name, threshold, evidence)


def _has_enough(data: Labelled) -> bool:
    return data.has_both_classes and len(np.unique(data.query)) >= MIN_QUERIES


def _change(z: NDArray[np.float64], data: Labelled, rows: NDArray[Any], *, strength: float) -> tuple[float, float]:
    """Changes of slope and intercept of one collection."""
    if not np.isfinite(strength) or rows.size == 0:
        return 0.0, 0.0
    n_queries = len(np.unique(data.query[rows]))
    a, b = fit_logistic(
        np.column_stack([z[rows], np.ones(rows.size)]),
        data.labels[rows],
        weights=np.full(rows.size, n_queries / rows.size),
        ridge=[strength, strength],
        offset=z[rows],
    )
    return max(float(a), _FLATTEST - 1.0), float(b)


def _changed(
    pooled: Calibration, a: float, b: float, *, z: NDArray[np.float64], evidence: Mapping[str, Any]
) -> Calibration:
    """(1 + a) z + b as a calibration of the logits, z being what the pooled one makes of them."""
    share = float(sigmoid((1.0 + a) * z + b).mean())
    return replace(
        pooled,
        slope=(1.0 + a) * pooled.slope,
        intercept=(1.0 + a) * pooled.intercept + b,
        knots=tuple((x, (1.0 + a) * y) for x, y in pooled.knots),
        evidence=evidence,
        prevalence=float(sigmoid(log_odds(share))),  # kept off 0 and 1
    )
