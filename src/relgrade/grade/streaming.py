"""Pairs that come one after another, judged a chunk at a time: memory stays flat however many there are."""

from collections.abc import Iterator
from typing import Any

from relgrade.errors import InvalidInput
from relgrade.grade.documents import PairText, read_pair
from relgrade.grade.evidence import with_evidence
from relgrade.grade.judging import chunked, judge
from relgrade.grade.panel import Panel
from relgrade.grade.runtime import Runtime
from relgrade.records import Grade


def stream_grades(
    pairs: Iterator[Any], runtime: Runtime, *, panel: Panel, chunk_size: int, has_evidence: bool
) -> Iterator[Grade]:
    """One grade per pair, in order.

    Args:
        pairs: what `read_pair` takes; read as the grades are taken, at most a chunk ahead.
        runtime: gives the logits.
        panel: logit to probability and verdict.
        chunk_size: pairs judged together.
        has_evidence: judge the sentences of each chunk too.

    Raises:
        InvalidInput: an item is no pair; every pair before it has been judged and yielded.
        GradingError: the model gave no finite logit for a pair, or for a sentence of it.
    """
    held: list[InvalidInput] = []

    def until_invalid() -> Iterator[PairText]:
        # A bad pair ends the stream, but not before the pairs read ahead of it are judged.
        try:
            for index, pair in enumerate(pairs):
                yield read_pair(pair, index)
        except InvalidInput as error:
            held.append(error)

    for chunk in chunked(until_invalid(), chunk_size):
        grades = judge(chunk, runtime, panel=panel)
        yield from with_evidence(list(grades), chunk, runtime, panel=panel) if has_evidence else grades
    if held:
        raise held[0]
