"""Loads the grader and turns rows into rows with a verdict, a chunk at a time.

It knows the grader and the fields it adds, and nothing of files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from relgrade.errors import GradingError, InvalidInput
from relgrade.records import Document, Grade

if TYPE_CHECKING:
    from relgrade.grade.grader import Grader

CHUNK_ROWS = 128  # about a second of work: what an interruption loses, and what keeps several threads busy
CHUNK_CHARACTERS = 4_000_000  # a chunk of long documents is cut here, so that memory stays flat

VERDICT_FIELDS = (
    *("probability", "logit", "relevant", "verdict", "truncated", "windows", "operating_point"),
    *("best_window", "collection", "error"),
)

EVIDENCE_FIELD = "evidence"  # where it was asked for; else a field of that name is the caller's own

Item = TypeVar("Item")


def load_grader(
    bundle: str | None,
    *,
    operating_point: str | None,
    revision: str | None,
    threads: int | None,
    base_rate: float | None = None,
    document_cache: Path | None = None,
) -> Grader:
    """The grader of a folder or Hub id, the embedded one for None.

    Raises:
        RelgradeError: what `Grader.load` raises.
    """
    from relgrade.grade.grader import Grader  # onnxruntime comes with it

    return Grader.load(
        bundle,
        operating_point=operating_point,
        base_rate=base_rate,
        revision=revision,
        n_threads=threads,
        document_cache=document_cache,
    )


def chunked(items: Iterable[tuple[Item, int]]) -> Iterator[list[Item]]:
    """Cut a stream of (item, characters) into lists of bounded length and size, in order."""
    chunk: list[Item] = []
    n_characters = 0
    for item, size in items:
        chunk.append(item)
        n_characters += size
        if len(chunk) >= CHUNK_ROWS or n_characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, n_characters = [], 0
    if chunk:
        yield chunk


def grade_each(
    grader: Grader, pairs: Sequence[tuple[str, Document]], *, has_evidence: bool = False
) -> list[Grade | GradingError | InvalidInput]:
    """A grade for each pair, or the error that stood in its way; the others are graded all the same.

    Args:
        grader: any object with `grade_pairs`.
        pairs: (query, document), in order.
        has_evidence: grades carry the sentences that speak for them.

    Returns:
        One entry per pair, in order.
    """
    if not pairs:
        return []
    done: list[Grade | GradingError | InvalidInput] = []
    try:
        options = {"evidence": True} if has_evidence else {}
        done.extend(grade for grade in grader.grade_pairs(pairs, **options))
    except (GradingError, InvalidInput) as error:
        rest = pairs[len(done) :]
        if len(rest) == 1:
            return [*done, error]
        at = error.index - len(done) if isinstance(error, GradingError) else -1
        parts = [rest[: len(rest) // 2], rest[len(rest) // 2 :]]  # it does not say which: halve until it stands alone
        if 0 <= at < len(rest):
            parts = [rest[:at], rest[at + 1 :]]
        before, after = (grade_each(grader, part, has_evidence=has_evidence) for part in parts)
        return [*done, *before, *([error] if 0 <= at < len(rest) else []), *after]
    return done


def verdict_fields(result: Grade | GradingError | InvalidInput) -> dict[str, Any]:
    """What a row says about its document: the verdict, or `error` in its place."""
    if isinstance(result, Grade):
        return {
            "probability": result.probability,
            "logit": result.logit,
            "relevant": result.relevant,
            "verdict": result.verdict,
            "truncated": result.truncated,
            "windows": result.windows,
            "operating_point": result.operating_point,
            **({} if result.best_window is None else {"best_window": list(result.best_window)}),
            **({} if result.collection is None else {"collection": result.collection}),
            **({} if result.evidence is None else {"evidence": [asdict(span) for span in result.evidence]}),
        }
    return {"error": str(result)}


def graded_row(row: Mapping[str, Any], identity: Any, result: Grade | GradingError | InvalidInput) -> dict[str, Any]:
    """The row with its fields in their order, then `id` where it had none, then the verdict.

    Fields of an earlier grading are replaced, so that a graded file can be graded again.
    """
    kept = {name: value for name, value in row.items() if name not in VERDICT_FIELDS}
    return {**kept, "id": kept.get("id", identity), **verdict_fields(result)}
