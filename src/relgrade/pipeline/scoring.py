"""Step `score`: what the graphs that ship say about pairs. Calibration and evaluation read the file, never a model."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relgrade.encoding import clean_text
from relgrade.errors import GradingError, InvalidData
from relgrade.formats.lines import dump_json, read_json_rows
from relgrade.formats.write import replaced_file
from relgrade.grade.judging import EMPTY_LOGIT
from relgrade.grade.runtime import Runtime
from relgrade.records import Pair, Score

CHUNK_PAIRS = 256
FIELDS = ("query_id", "doc_id", "logit", "label", "source")


def score_pairs(
    pairs: Sequence[Pair], runtime: Runtime, *, on_progress: Callable[[int], None] | None = None
) -> list[Score]:
    """Logits of pairs, in their order, as a grader would compute them.

    Args:
        pairs: any number; a document without text has the logit that the rule gives it.
        runtime: the model.
        on_progress: is told how many pairs each piece of work had.

    Raises:
        GradingError: a logit is not finite.
    """
    logits = np.full(len(pairs), EMPTY_LOGIT)
    texts = [(clean_text(pair.query), clean_text(pair.document)) for pair in pairs]
    # Pairs of one document side by side: a runtime that reads texts apart reads it once.
    order = sorted((i for i, (_, document) in enumerate(texts) if document.strip()), key=lambda i: (texts[i][1], i))
    for start in range(0, len(order), CHUNK_PAIRS):
        rows = order[start : start + CHUNK_PAIRS]
        logits[rows] = runtime.score([texts[i] for i in rows]).logits
        if on_progress is not None:
            on_progress(len(rows))
    bad = np.flatnonzero(~np.isfinite(logits))
    if bad.size:
        pair = pairs[int(bad[0])]
        raise GradingError(
            f"{bad.size} logits are not finite, the first for query {pair.query_id!r}, document {pair.doc_id!r}; "
            "the student is broken: lower training.learning_rate",
            index=int(bad[0]),
        )
    return [
        Score(query_id=pair.query_id, doc_id=pair.doc_id, logit=float(logit), label=pair.label, source=pair.source)
        for pair, logit in zip(pairs, logits, strict=True)
    ]


def write_scores(path: Path, scores: Iterable[Score]) -> None:
    """Write a line of JSON per score; whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as file:
        for score in scores:
            row = {name: getattr(score, name) for name in FIELDS}
            file.write(dump_json(row).encode("utf-8") + b"\n")


def read_scores(path: Path) -> list[Score]:
    """Inverse of `write_scores`; other fields of a line are passed over.

    Raises:
        InvalidData: a line is not a score; names it.
    """
    scores = []
    for row in read_json_rows(path):
        if isinstance(row, InvalidData):
            raise row
        scores.append(_score(row.values, path, row.line))
    return scores


def _score(values: Mapping[str, Any], path: Path, line: int) -> Score:
    for name in ("query_id", "doc_id"):
        if not isinstance(values.get(name), str):
            raise InvalidData(f"`{name}` must be a text, got {values.get(name)!r:.60}", path=path, line=line)
    label = values.get("label")
    for name, value in (("logit", values.get("logit")), ("label", 0.0 if label is None else label)):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidData(f"`{name}` must be a number, got {value!r:.60}", path=path, line=line)
    return Score(
        query_id=values["query_id"],
        doc_id=values["doc_id"],
        logit=float(values["logit"]),
        label=None if label is None else float(label),
        source=values.get("source"),
    )
