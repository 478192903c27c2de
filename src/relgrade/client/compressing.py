"""Compressed lists on the wire: what a call asks for, and its reply as the records of `Grader.compress`."""

from collections.abc import Mapping, Sequence
from typing import Any

from relgrade.client.failing import ServedCompressed, ServedList, ServerError, whole_document
from relgrade.client.wire import Call, read_kept, read_spans
from relgrade.errors import InvalidInput
from relgrade.grade.compress import CompressedDocument, join_spans
from relgrade.records import Grade


def compress_options(*, point: str | None, threshold: float | None) -> bool | Mapping[str, Any]:
    """The field `compress` of a call.

    Raises:
        InvalidInput: both are given, or the threshold is no probability.
    """
    if point is not None and threshold is not None:
        raise InvalidInput("point and threshold both say which sentences are kept; give one of them")
    is_number = isinstance(threshold, int | float) and not isinstance(threshold, bool)
    if threshold is not None and not (is_number and 0.0 <= threshold <= 1.0):
        raise InvalidInput(f"threshold: a probability in [0, 1] was expected, got {threshold!r}")
    return {name: value for name, value in (("point", point), ("threshold", threshold)) if value is not None} or True


def read_compressed(call: Call, body: Mapping[str, Any], graded: ServedList) -> ServedCompressed:
    """The records of a reply.

    Raises:
        ServerError: the body is not that of a server that compresses.
    """
    kept = read_kept(body, n_documents=len(graded))
    try:
        least = body["compression"]["sentence_threshold"]
        rows = body["results"]
        items = tuple(_document(graded[i], rows[i].get("compressed"), text=call.texts[i]) for i in kept)
        return _compressed(graded, items, None if least is None else float(least))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"the reply has no compressed documents ({type(error).__name__}: {error}); is the server older?"
        raise ServerError(message, request_id=graded.request_id) from error


def uncompressed(graded: ServedList, kept: Sequence[int], *, texts: Sequence[str]) -> ServedCompressed:
    """The list of a call that failed whole."""
    return _compressed(graded, tuple(whole_document(graded[i], text=texts[i]) for i in kept), None)


def _compressed(
    graded: ServedList, items: tuple[CompressedDocument, ...], sentence_threshold: float | None
) -> ServedCompressed:
    return ServedCompressed(
        graded.query,
        items,
        graded.operating_point,
        sentence_threshold,
        graded.bundle_hash,
        graded.any_relevant_probability,
        graded.grades,
        graded.failure,
        graded.request_id,
    )


def _document(grade: Grade, data: Mapping[str, Any] | None, *, text: str) -> CompressedDocument:
    if data is None:
        return whole_document(grade, text=text)
    spans = tuple((start, end) for start, end in data["spans"])
    if not all(type(i) is int and 0 <= i <= len(text) for span in spans for i in span):
        raise ValueError("a span lies outside of its document")
    return CompressedDocument(
        grade,
        join_spans(text, spans),
        spans,
        read_spans(data["sentences"], text),
        int(data["n_sentences"]),
        int(data["n_unread"]),
        int(data["tokens_before"]),
        int(data["tokens_after"]),
    )
