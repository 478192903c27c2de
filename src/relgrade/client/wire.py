"""Calls as JSON for `POST /v1/grade`, and its replies as records. It sends nothing."""

import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from relgrade.client.failing import Failure, OnError, ServedList, ServerError, unjudged_grade
from relgrade.encoding import clean_text
from relgrade.errors import InvalidInput
from relgrade.grade.documents import ID_NAMES, METADATA_NAMES, TEXT_NAMES, read_query, require_iterable, to_document
from relgrade.records import Document, EvidenceSpan, Grade, KeepPolicy, OperatingPoint, Promise

GRADE_PATH = "/v1/grade"
TIMEOUT_HEADER = "X-Request-Timeout-Ms"  # what is left of the caller's time
REQUEST_ID_HEADER = "X-Request-Id"

_logger = logging.getLogger("relgrade.client")
_NOT_METADATA = frozenset({*TEXT_NAMES, *ID_NAMES, *METADATA_NAMES, "title"})


@dataclass(frozen=True, slots=True)
class Call:
    """One call, ready to be sent."""

    query: str
    originals: tuple[tuple[str | None, Any], ...]  # id and the caller's own object of each document
    texts: tuple[str, ...]  # of the documents, as the caller has them
    content: bytes  # JSON


def read_call(
    query: Any,
    documents: Iterable[Any],
    *,
    operating_point: str | None,
    on_error: OnError,
    policy: KeepPolicy | None = None,
    model: str | None = None,
    evidence: bool = False,
    compress: bool | Mapping[str, Any] = False,
) -> Call:
    """Check a call as a Grader does, and write it as JSON.

    Raises:
        InvalidInput: the query is empty, something is no document, or the policy is none; nothing was sent.
    """
    if policy is not None and not isinstance(policy, KeepPolicy):
        raise InvalidInput(f"policy: a KeepPolicy was expected, got {type(policy).__name__}")
    text = read_query(query)
    originals: list[tuple[str | None, Any]] = []
    rows: list[Any] = []
    texts: list[str] = []
    for index, value in enumerate(require_iterable(documents, "documents")):
        document, row = _document_row(value, index)
        originals.append((document.id, value))
        texts.append(document.text)
        rows.append(row)
    body: dict[str, Any] = {"query": text, "documents": rows, "on_error": on_error}
    if operating_point is not None:
        body["operating_point"] = operating_point
    if policy is not None:
        body["policy"] = asdict(policy)
    if model is not None:
        body["model"] = model
    if evidence:
        body["evidence"] = True
    if compress:
        body["compress"] = compress
    return Call(query, tuple(originals), tuple(texts), json.dumps(body, allow_nan=False).encode("ascii"))


def read_reply(call: Call, body: Any, *, request_id: str | None) -> ServedList:
    """The records of a reply.

    Raises:
        ServerError: the body is not that of a relgrade server, or tells of other documents than were sent.
    """
    try:
        point = _point(body["operating_point"])
        failure = _failure(body.get("failure"))
        rows = body["results"]
        if [row["index"] for row in rows] != list(range(len(call.originals))):
            raise ValueError("its documents are not those that were sent")
        grades = tuple(
            _grade(row, point=point, original=original, text=text)
            for row, original, text in zip(rows, call.originals, call.texts, strict=True)
        )
        return ServedList(
            call.query, grades, point, body["bundle_hash"], body.get("any_relevant_probability"), failure, request_id
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"the reply is not that of a relgrade server ({type(error).__name__}: {error}); check the URL"
        raise ServerError(message, request_id=request_id) from error


def read_kept(body: Mapping[str, Any], *, n_documents: int) -> list[int]:
    """Positions that the server keeps, ascending.

    Raises:
        ServerError: `kept` is no list of positions.
    """
    kept = body.get("kept")
    is_positions = isinstance(kept, Sequence) and all(type(i) is int and 0 <= i < n_documents for i in kept)
    if not is_positions:
        raise ServerError("the reply does not say which documents are kept; check the URL")
    return sorted(kept or [])


def _document_row(value: Any, index: int) -> tuple[Document, Any]:
    document = to_document(value, place=f"document {index}")
    # Cleaned here as a Grader would: JSON makes one character of two lone halves, and offsets would be others.
    text = clean_text(document.text)
    metadata = {**_scalars(value, leave_out=_NOT_METADATA), **_scalars(document.metadata)}
    if document.id is None and document.title is None and not metadata:
        return document, text
    row: dict[str, Any] = {"text": text}
    if document.id is not None:
        row["id"] = document.id
    if document.title is not None:
        row["title"] = clean_text(document.title)
    if metadata:
        row["metadata"] = metadata
    return document, row


def _scalars(value: Any, *, leave_out: frozenset[str] = frozenset()) -> dict[str, Any]:
    """What may tell a collection: the entries of a mapping that are JSON by themselves. The rest stays here."""
    if not isinstance(value, Mapping):
        return {}
    return {
        key: item
        for key, item in value.items()
        if isinstance(key, str) and key not in leave_out and isinstance(item, str | int | float) and _is_json(item)
    }


def _is_json(value: str | int | float) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _grade(row: Mapping[str, Any], *, point: OperatingPoint, original: tuple[str | None, Any], text: str) -> Grade:
    identity, document = original
    index = row["index"]
    if row.get("error") is not None or row["logit"] is None:
        is_kept = bool(row["relevant"])
        return unjudged_grade(index, identity=identity, document=document, is_kept=is_kept, point=point.name)
    return Grade(
        index,
        float(row["logit"]),
        float(row["probability"]),
        bool(row["relevant"]),
        point.name,
        bool(row["truncated"]),
        int(row["windows"]),
        identity,
        document,
        row["verdict"],
        row.get("collection"),
        None if row.get("evidence") is None else read_spans(row["evidence"], text),
        _window(row.get("best_window"), text),
    )


def _window(value: Any, text: str) -> tuple[int, int] | None:
    if value is None:
        return None
    start, end = value
    if type(start) is not int or type(end) is not int or not 0 <= start <= end <= len(text):
        raise ValueError("a window lies outside of its document")
    return start, end


def read_spans(rows: Any, text: str) -> tuple[EvidenceSpan, ...]:
    """Sentences of a caller's text.

    Raises:
        KeyError, TypeError, ValueError: the rows are not those of a relgrade server.
    """
    found = []
    for row in rows:
        start, end = row["start"], row["end"]
        if type(start) is not int or type(end) is not int or not 0 <= start <= end <= len(text):
            raise ValueError("a sentence lies outside of its document")
        found.append(EvidenceSpan(start, end, text[start:end], float(row["probability"]), float(row["logit"])))
    return tuple(found)


def _point(data: Mapping[str, Any]) -> OperatingPoint:
    promise = data.get("promise")
    made = None if promise is None else Promise(promise["kind"], promise["target"], promise["delta"])
    return OperatingPoint(data["name"], data["threshold"], data.get("evidence") or {}, made)


def _failure(data: Mapping[str, Any] | None) -> Failure | None:
    if data is None:
        return None
    failure = Failure(data["policy"], data["reason"], data["message"], tuple(data["documents"]))
    failure = replace(failure, without_evidence=tuple(data.get("without_evidence") or ()))
    if failure.documents:
        _logger.warning("no grades for %d documents, %s: %s", len(failure.documents), failure.policy, failure.message)
    else:
        _logger.warning("no evidence for %d documents: %s", len(failure.without_evidence), failure.message)
    return failure
