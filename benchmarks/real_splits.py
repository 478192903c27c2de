"""Promises on scored real collections: certify on one half of the queries, look at the other half."""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.labelled import read_labelled, texts_of
from benchmarks.naive import POINT
from relgrade.calibrate import certify
from relgrade.errors import InvalidData, InvalidInput, NoSafeThreshold
from relgrade.records import Promise

DELTA = 0.1
PROMISES = (
    (Promise("precision", 0.8, DELTA), None),
    (Promise("precision", 0.8, DELTA), 5),
    (Promise("recall", 0.8, DELTA), None),
    (Promise("recall", 0.8, DELTA), 5),
    (Promise("lost-queries", 0.1, DELTA), None),
    (Promise("false-keeps", 0.2, DELTA), None),
)


@dataclass(frozen=True, slots=True)
class Scored:
    """The scored pairs of one collection, each array of shape (n_pairs,)."""

    query: NDArray[np.int64]
    label: NDArray[np.float64]
    probability: NDArray[np.float64]

    def of(self, queries: NDArray[np.int64]) -> "Scored":
        """The pairs of some queries."""
        inside = np.isin(self.query, queries)
        return Scored(self.query[inside], self.label[inside], self.probability[inside])

    def share(self, kind: str, threshold: float, *, limit: int | None) -> float | None:
        """The promised share at a threshold; None where it has no value."""
        _, number = np.unique(self.query, return_inverse=True)
        is_kept, is_relevant = self.probability >= threshold, self.label == 1.0
        kept, relevant, found = (
            np.bincount(number, weights=mask.astype(float)) for mask in (is_kept, is_relevant, is_kept & is_relevant)
        )
        if kind == "lost-queries":
            return _mean(found[relevant > 0] == 0)
        if kind == "false-keeps":
            return _mean(kept[relevant == 0] > 0)
        whole = kept if kind == "precision" else relevant
        weight = 1.0 if limit is None else limit / np.maximum(whole, limit)
        total = float((whole * weight).sum())
        return float((found * weight).sum()) / total if total else None


def read_scores(path: Path) -> dict[str, Scored]:
    """Read rows of query_id, source, label and probability, by source.

    Raises:
        InvalidData: a line is no such row, or there is none.
    """
    rows: dict[str, list[tuple[str, float, float]]] = {}
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                values = (str(row["query_id"]), float(row["label"]), float(row["probability"]))
                rows.setdefault(str(row["source"]), []).append(values)
            except (ValueError, KeyError, TypeError) as error:
                raise InvalidData(f"not a scored pair: {error!r}", path=path, line=number) from error
    if not rows:
        raise InvalidData("holds no scored pair", path=path)
    return {source: _scored(of_source) for source, of_source in sorted(rows.items())}


def split_again(collections: Mapping[str, Scored], *, n_splits: int, seed: int) -> list[dict[str, Any]]:
    """Halve every collection `n_splits` times; one row for each collection, promise and method."""
    return [
        _row(source, scored, promise, limit, method, n_splits, seed)
        for source, scored in collections.items()
        for promise, limit in PROMISES
        for method in ("certify", POINT)
        if method == "certify" or limit is None
    ]


def grade_tests(options: argparse.Namespace) -> Path:
    """Score the test pairs of a folder of collections, once for each grader and number of queries."""
    from relgrade import Grader

    grader = Grader.load(options.bundle)
    path: Path = options.cache / f"scores-{grader.bundle.hash[:12]}-{options.limit_queries or 'all'}.jsonl"
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    with partial.open("w", encoding="utf-8") as file:
        for collection in read_labelled(options.data, seed=options.seed, limit_queries=options.limit_queries).tests:
            grades = grader.grade_pairs(texts_of(collection.pairs))
            for pair, grade in zip(collection.pairs, grades, strict=True):
                row = {"query_id": pair.query_id, "source": collection.name, "label": pair.label}
                file.write(json.dumps({**row, "probability": grade.probability}) + "\n")
    partial.replace(path)
    return path


def _row(
    source: str, scored: Scored, promise: Promise, limit: int | None, method: str, n_splits: int, seed: int
) -> dict[str, Any]:
    rng, queries = np.random.default_rng(seed), np.unique(scored.query)
    shown, n_returned = [], 0
    for _ in range(n_splits):
        order = rng.permutation(queries)
        half = scored.of(order[: queries.size // 2])
        threshold = _threshold(half, promise, limit, method)
        if threshold is not None:
            n_returned += 1
            share = scored.of(order[queries.size // 2 :]).share(promise.kind, threshold, limit=limit)
            shown += [] if share is None else [share]
    is_floor = promise.kind in ("precision", "recall")
    short = [share < promise.target if is_floor else share > promise.target for share in shown]
    return {
        "source": source,
        "n_queries": int(queries.size // 2),
        "kind": promise.kind,
        "target": promise.target,
        "delta": promise.delta,
        "method": method,
        "max_per_query": limit,
        "n_splits": n_splits,
        "returned": n_returned / n_splits,
        "other_half": float(np.mean(shown)) if shown else None,
        "falls_short": sum(short) / n_splits,
    }


def _threshold(half: Scored, promise: Promise, limit: int | None, method: str) -> float | None:
    if method == POINT:
        return _by_point(half, promise)
    try:
        return certify(
            half.probability, half.label, half.query, promise=promise, name="benchmark", max_per_query=limit
        ).threshold
    except (NoSafeThreshold, InvalidInput):  # too few queries, or of one class only
        return None


def _by_point(half: Scored, promise: Promise) -> float | None:
    is_rising = promise.kind in ("precision", "false-keeps")  # the lowest threshold is wanted
    candidates = np.unique(half.probability)
    if candidates.size > 200:
        candidates = candidates[np.linspace(0, candidates.size - 1, 200).astype(int)]
    for threshold in candidates if is_rising else candidates[::-1]:
        share = half.share(promise.kind, float(threshold), limit=None)
        is_floor = promise.kind in ("precision", "recall")
        if share is not None and (share >= promise.target if is_floor else share <= promise.target):
            return float(threshold)
    return None


def _scored(rows: list[tuple[str, float, float]]) -> Scored:
    _, query = np.unique([row[0] for row in rows], return_inverse=True)
    return Scored(query, np.array([row[1] for row in rows]), np.array([row[2] for row in rows]))


def _mean(values: NDArray[Any]) -> float | None:
    return float(values.mean()) if values.size else None
