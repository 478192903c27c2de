"""What `relgrade evaluate` compares: the grader, and the baselines it has to beat, each as columns of numbers.

This is where models run, so that `relgrade.evaluate` sees arrays alone. A baseline's threshold is chosen on calibration
pairs, or not at all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from relgrade.cli.evaluate_rows import LabelledRow, field_of, query_keys
from relgrade.errors import InvalidData, InvalidInput, MissingExtra
from relgrade.evaluate.judgements import Contender
from relgrade.evaluate.report import WORD_OVERLAP

if TYPE_CHECKING:
    from relgrade.grade.grader import Grader
    from relgrade.records import Pair

KEEP_EVERYTHING = "keep everything"
NO_THRESHOLD = "No threshold: one must not be chosen on these pairs; name others with --calibration-pairs."
CHUNK_TEXTS = 64

Score = Callable[[Sequence[tuple[str, str]]], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Calibrating:
    """Pairs that choose the baselines' thresholds."""

    rows: Sequence[LabelledRow]
    labels: NDArray[Any]  # (n_pairs,)


def grade_contender(grader: Grader, pairs: Sequence[Pair], *, name: str, progress: str) -> Contender:
    """The grader's logits, probabilities and verdicts.

    Raises:
        GradingError: the model gave no finite logit for a pair.
    """
    grades = list(_shown(grader.grade_pairs(pairs), total=len(pairs), label=progress))
    point = grader.operating_point
    return Contender(
        name=name,
        kind="grader",
        note=collections_note(grader),
        scores=np.asarray([grade.logit for grade in grades]),
        probabilities=np.asarray([grade.probability for grade in grades]),
        is_kept=np.asarray([grade.relevant for grade in grades]),
        threshold=point.threshold,
    )


def score_contender(
    rows: Sequence[LabelledRow], *, grader: Grader | None, threshold: float | None, name: str, path: Path
) -> Contender:
    """A grader that has spoken already: its logits calibrated here, or the probabilities of the file.

    Args:
        rows: with `values`.
        grader: whose calibration and threshold hold; None: the file has probabilities.
        threshold: in place of the verdicts of the file; not with a grader.
        name: of the grader.
        path: for messages.

    Raises:
        InvalidData: the file lacks what is needed.
    """
    if grader is not None:
        return _calibrated_contender(rows, grader, name=name, path=path)
    probabilities = _column(rows, "probability", path)
    has_logits = all("logit" in row.values for row in rows)
    if threshold is None and not all("relevant" in row.values for row in rows):
        raise InvalidData(
            "rows without `relevant` have no verdict: name the --bundle they come from, or a --threshold", path=path
        )
    kept = probabilities >= threshold if threshold is not None else np.asarray([row.values["relevant"] for row in rows])
    return Contender(
        name=name,
        kind="grader",
        scores=_column(rows, "logit", path) if has_logits else None,
        probabilities=probabilities,
        is_kept=kept,
        threshold=threshold,
    )


def _calibrated_contender(rows: Sequence[LabelledRow], grader: Grader, *, name: str, path: Path) -> Contender:
    """Logits judged as the grader judges them, by the collection of each row where the bundle tells them apart."""
    from relgrade.probability import calibrated_probability

    manifest, point = grader.bundle.manifest, grader.operating_point
    logits = _column(rows, "logit", path)
    probabilities = calibrated_probability(manifest.calibration, logits)
    is_kept = probabilities >= point.threshold
    field = "" if manifest.collections is None else manifest.collections.field
    for member in () if manifest.collections is None else manifest.collections.members:
        own = np.asarray([str(field_of(row, field)) == member.value for row in rows])
        cut = next(each.threshold for each in member.operating_points if each.name == point.name)
        probabilities[own] = calibrated_probability(member.calibration, logits[own])
        is_kept[own] = probabilities[own] >= cut
    return Contender(
        name=name,
        kind="grader",
        note=collections_note(grader),
        scores=logits,
        probabilities=probabilities,
        is_kept=is_kept,
        threshold=point.threshold,
    )


def collections_note(grader: Grader) -> str:
    """What the report must say where one threshold does not decide everywhere; empty where it does."""
    collections = grader.bundle.manifest.collections
    if collections is None:
        return ""
    values = ", ".join(member.value for member in collections.members)
    return f"Rows whose {collections.field} is {values} are judged by thresholds of their own; the one shown is pooled."


def baselines(
    rows: Sequence[LabelledRow], calibrating: Calibrating | None, *, grader: Grader | None
) -> Iterator[Contender | str]:
    """Each baseline that can be measured, and a sentence for each that cannot."""
    nothing = np.zeros(len(rows))
    yield Contender(name=KEEP_EVERYTHING, kind="baseline", scores=nothing, is_kept=np.ones(len(rows)))
    if any(row.query is None or row.document is None for row in rows):
        yield "No BM25 beside the grader: the rows hold no texts."
        return
    texts = _texts(rows)
    others = [] if calibrating is None else _texts(calibrating.rows)
    try:
        from relgrade.evaluate.baselines import BM25

        bm25 = BM25(document for _, document in [*texts, *others])
        note = "Word matching by bm25s, word frequencies counted on the documents of these files."
        yield _baseline(WORD_OVERLAP, bm25.score, texts, calibrating, note)
    except MissingExtra as error:
        yield f"No BM25 beside the grader: {error}"
    except InvalidInput as error:
        yield f"No BM25 beside the grader: {error}."
    cosine = None if grader is None else _cosine(grader)
    if cosine is not None:
        yield _baseline("cosine", cosine.score, texts, calibrating, cosine.note)


@dataclass(frozen=True, slots=True)
class _Cosine:
    score: Score
    note: str


def _cosine(grader: Grader) -> _Cosine | None:
    """The bundle's own encoder, where it is one that reads texts apart."""
    if grader.bundle.manifest.architecture != "interaction":
        return None
    from relgrade.grade.text_vectors import TextVectors

    vectors = TextVectors(grader.bundle)
    student = grader.bundle.manifest.provenance.get("recipe", {}).get("student", {})
    is_frozen = isinstance(student, dict) and student.get("train_encoder") is False
    note = (
        "Of the vectors of the bundle's encoder, untouched by training."
        if is_frozen
        else "Of the vectors of the bundle's own encoder, which training may have changed."
    )

    def encode(texts: Iterable[str], *, kind: Literal["query", "document"]) -> dict[str, NDArray[np.float32]]:
        distinct = list(dict.fromkeys(texts))
        chunks = (distinct[start : start + CHUNK_TEXTS] for start in range(0, len(distinct), CHUNK_TEXTS))
        found = (vector for chunk in chunks for vector in vectors.encode(chunk, kind=kind))
        return dict(zip(distinct, _shown(found, total=len(distinct), label=f"cosine: {kind}"), strict=True))

    def score(texts: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
        queries = encode((query for query, _ in texts), kind="query")
        documents = encode((document for _, document in texts), kind="document")
        return np.asarray([float(queries[query] @ documents[document]) for query, document in texts])

    return _Cosine(score, note)


def _baseline(
    name: str, score: Score, texts: Sequence[tuple[str, str]], calibrating: Calibrating | None, note: str
) -> Contender:
    scores = score(texts)
    if calibrating is None:
        return Contender(name=name, kind="baseline", scores=scores, note=f"{note} {NO_THRESHOLD}")
    from relgrade.calibrate import apply, fit_platt, pick_best_f1, source_weights

    sources = [row.source or "" for row in calibrating.rows]
    known, ids = score(_texts(calibrating.rows)), query_keys(calibrating.rows)
    calibration = fit_platt(known, calibrating.labels, weights=source_weights(sources), query_ids=ids)
    point = pick_best_f1(apply(calibration, known), calibrating.labels, sources=sources, query_ids=ids)
    probabilities = apply(calibration, scores)
    # Where nothing could be fitted the numbers still rank and cut, and are no probabilities.
    is_fitted = "fallback" not in calibration.evidence
    fitted = (
        "Probability (Platt) and best-F1 threshold"
        if is_fitted
        else "No probability could be fitted; best-F1 threshold"
    )
    return Contender(
        name=name,
        kind="baseline",
        scores=scores,
        probabilities=probabilities if is_fitted else None,
        is_kept=probabilities >= point.threshold,
        threshold=point.threshold,
        note=f"{note} {fitted} from {len(set(ids)):,} calibration queries.",
    )


def _texts(rows: Iterable[LabelledRow]) -> list[tuple[str, str]]:
    return [(row.query or "", row.document or "") for row in rows]


def _column(rows: Sequence[LabelledRow], name: str, path: Path) -> NDArray[np.float64]:
    missing = [row for row in rows if name not in row.values]
    if missing:
        raise InvalidData(
            f"{len(missing):,} of {len(rows):,} rows have no `{name}`, the first query {missing[0].query_id!r} with "
            f"document {missing[0].doc_id!r}; score it, or leave it out and say so",
            path=path,
        )
    return np.asarray([row.values[name] for row in rows], dtype=np.float64)


def _shown(items: Iterable[Any], *, total: int, label: str) -> Iterator[Any]:
    """The items, with a bar on a terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=total)
        for item in items:
            progress.advance(task)
            yield item
