"""From pairs to grades: what the model says, what is judged by rule, and what is no verdict at all."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from relgrade.encoding import MAX_CHARACTERS_PER_TOKEN
from relgrade.errors import GradingError
from relgrade.grade.documents import PairText
from relgrade.grade.panel import Panel
from relgrade.grade.runtime import Runtime
from relgrade.records import Grade, Verdict

EMPTY_LOGIT = -40.0  # of a document without text: nothing in it can answer
CHUNK_CHARACTERS = 4_000_000  # a chunk of long documents ends here, so that memory stays flat


def judge(items: Sequence[PairText], runtime: Runtime, *, panel: Panel) -> Iterator[Grade]:
    """One grade per item, in order.

    Args:
        items: pairs; a blank document never reaches the model and is not relevant, whatever the threshold.
        runtime: gives the logits of all items in one call.
        panel: logit to probability and verdict, by the collection of each item.

    Raises:
        GradingError: a logit is NaN or infinite; the grades before it have been yielded.
    """
    logits, truncated, windows, spans, settled = _score(items, runtime)
    bad = np.flatnonzero(~np.isfinite(logits))
    n_good = int(bad[0]) if bad.size else len(items)
    judged = _judge(items[:n_good], logits[:n_good], panel)
    for i, (item, (probability, is_kept, verdict, collection)) in enumerate(zip(items[:n_good], judged, strict=True)):
        yield Grade(
            index=item.index,
            logit=float(logits[i]),
            probability=probability,
            relevant=is_kept and not item.is_blank,
            operating_point=panel.pooled.point.name,
            truncated=bool(truncated[i]),
            windows=int(windows[i]),
            id=item.id,
            document=item.original,
            verdict="not relevant" if item.is_blank else verdict,
            collection=collection,
            best_window=_of_caller(spans[i], item.n_heading),
            stage="first" if settled[i] else "full",
        )
    if n_good < len(items):
        index = items[n_good].index
        raise GradingError(
            f"document {index}: the model returned {logits[n_good]} where a finite logit was expected; "
            "this is an error, not a verdict: check the bundle with verify_goldens()",
            index=index,
        )


def count_tokens(items: Sequence[PairText], runtime: Runtime, *, limit: int) -> list[int]:
    """Tokens of each rendered document; one that is too long by its characters counts limit + 1, unread."""
    n_characters = limit * MAX_CHARACTERS_PER_TOKEN
    counts = [0 if item.is_blank else limit + 1 for item in items]
    fitting = [i for i, item in enumerate(items) if not item.is_blank and len(item.text) <= n_characters]
    for i, count in zip(fitting, runtime.count_tokens([items[i].text for i in fitting]), strict=True):
        counts[i] = count
    return counts


def chunked(items: Iterator[PairText], chunk_size: int) -> Iterator[list[PairText]]:
    """Cut a stream into lists of at most `chunk_size` pairs and about `CHUNK_CHARACTERS`, in order."""
    chunk: list[PairText] = []
    n_characters = 0
    for item in items:
        chunk.append(item)
        n_characters += len(item.text)
        if len(chunk) >= chunk_size or n_characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, n_characters = [], 0
    if chunk:
        yield chunk


def _judge(
    items: Sequence[PairText], logits: NDArray[np.float64], panel: Panel
) -> list[tuple[float, bool, Verdict, str | None]]:
    """Probability, whether it is kept, verdict and collection of each item."""
    benches = [panel.bench_of(item) for item in items]
    rows_of: dict[str | None, list[int]] = {}
    for i, bench in enumerate(benches):
        rows_of.setdefault(bench.collection, []).append(i)
    judged: list[tuple[float, bool, Verdict, str | None]] = [(0.0, False, "not relevant", None)] * len(items)
    for collection, rows in rows_of.items():
        for i, (probability, is_kept, verdict) in zip(rows, benches[rows[0]].judge(logits[rows]), strict=True):
            judged[i] = (probability, is_kept, verdict, collection)
    return judged


def _of_caller(span: tuple[int, int] | None, n_heading: int) -> tuple[int, int] | None:
    """A span of the rendered text as one of the caller's text; a title of several lines may stand in it."""
    return None if span is None else (max(0, span[0] - n_heading), max(0, span[1] - n_heading))


def _score(
    items: Sequence[PairText], runtime: Runtime
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64], list[tuple[int, int] | None], list[bool]]:
    """Logits, truncated, windows, spans and whether the first stage settled it, one a document."""
    logits = np.full(len(items), EMPTY_LOGIT)
    truncated = np.zeros(len(items), dtype=np.bool_)
    windows = np.zeros(len(items), dtype=np.int64)
    spans: list[tuple[int, int] | None] = [None] * len(items)
    settled = [False] * len(items)
    read = [i for i, item in enumerate(items) if not item.is_blank]
    if read:
        try:
            output = runtime.score([(items[i].query, items[i].text) for i in read])
        except GradingError as error:  # the runtime counts from its own first pair
            raise GradingError(str(error), index=items[read[error.index]].index) from error
        if np.shape(output.logits) != (len(read),):
            raise GradingError(
                f"the model returned logits of shape {np.shape(output.logits)} for {len(read)} documents",
                index=items[read[0]].index,
            )
        logits[read], truncated[read], windows[read] = output.logits, output.truncated, output.windows
        for i, row in enumerate(read):
            spans[row], settled[row] = output.span(i), output.is_settled(i)
    return logits, truncated, windows, spans, settled
