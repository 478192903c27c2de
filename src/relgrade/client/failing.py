"""What a client hands on when a server does not answer: an error, or records that say that nobody judged.

A failure is a third state. Its grades have no number (NaN) and the verdict "unsure"; whether they are kept is the
caller's policy, and the list says so in `failure`.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from relgrade.errors import InvalidInput, RelgradeError
from relgrade.grade.compress import CompressedDocument, CompressedList
from relgrade.records import Grade, GradedList, OperatingPoint

OnError = Literal["keep_all", "drop_all", "raise"]

_logger = logging.getLogger("relgrade.client")


class ServerError(RelgradeError):
    """The server gave no grades: it is away, busy, too slow, refuses the key, or failed.

    Attributes:
        reason: "unreachable", "overloaded", "deadline", "denied", "backend" or "server".
        status: of HTTP; None when there was no answer.
        request_id: under which the server's log has the request; None when there was no answer.
    """

    def __init__(
        self, message: str, *, reason: str = "server", status: int | None = None, request_id: str | None = None
    ) -> None:
        self.reason = reason
        self.status = status
        self.request_id = request_id
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why some documents of a list were not judged, and what was done with them."""

    policy: Literal["keep_all", "drop_all"]  # what was done
    reason: str  # as in `ServerError`
    message: str
    documents: tuple[int, ...]  # positions of the documents that were not judged
    without_evidence: tuple[int, ...] = ()  # positions of those that were, but not their sentences


@dataclass(frozen=True, slots=True)
class ServedList(GradedList):
    """A GradedList that came over HTTP. Two of its fields tell what a local one never has to."""

    failure: Failure | None = None  # None: every document was judged
    request_id: str | None = None  # under which the server's log has the request


@dataclass(frozen=True, slots=True)
class ServedCompressed(CompressedList):
    """A CompressedList that came over HTTP. Two of its fields tell what a local one never has to.

    A document that is kept though it, or its sentences, could not be judged has its whole text, no sentences, and 0
    for its tokens, which nobody counted.
    """

    failure: Failure | None = None  # None: every document was judged, and every sentence that had to be
    request_id: str | None = None  # under which the server's log has the request


def require_on_error(value: Any) -> OnError:
    """The policy itself.

    Raises:
        InvalidInput: it is none of the three.
    """
    if value not in get_args(OnError):
        raise InvalidInput(f"on_error is one of {', '.join(get_args(OnError))}, got {value!r}")
    policy: OnError = value
    return policy


def unjudged(
    query: str, originals: Sequence[tuple[str | None, Any]], *, error: ServerError, policy: OnError
) -> ServedList:
    """The list of a call that failed whole, in the order of the call.

    Args:
        query: of the call.
        originals: id and the caller's own object of each document.
        error: what happened.
        policy: "keep_all" or "drop_all".

    Raises:
        ServerError: `error`, where the policy is "raise".
    """
    if policy == "raise":
        raise error
    _logger.warning("no grades for %d documents, %s: %s", len(originals), policy, error)
    grades = tuple(
        unjudged_grade(index, identity=identity, document=document, is_kept=policy == "keep_all", point="none")
        for index, (identity, document) in enumerate(originals)
    )
    failure = Failure(policy, error.reason, str(error), tuple(range(len(grades))))
    point = OperatingPoint("none", 0.0 if policy == "keep_all" else 1.0, {"failure": error.reason})
    return ServedList(query, grades, point, "", None, failure, error.request_id)


def unjudged_grade(index: int, *, identity: str | None, document: Any, is_kept: bool, point: str) -> Grade:
    """The record of a document that nobody judged."""
    return Grade(index, math.nan, math.nan, is_kept, point, False, 0, identity, document, "unsure")


def whole_document(grade: Grade, *, text: str) -> CompressedDocument:
    """The record of a document that is kept and was not compressed."""
    spans = ((0, len(text)),) if text else ()
    return CompressedDocument(grade, text, spans, (), 0, 0, 0, 0)
