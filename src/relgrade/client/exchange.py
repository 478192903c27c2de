"""One call as a series of tries under one deadline: what is retried, how long to wait, what an answer means.

It knows statuses and clocks; the two clients send. Grading changes nothing on the server, so a try may be repeated.
"""

import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from relgrade.client.failing import ServerError
from relgrade.client.wire import REQUEST_ID_HEADER
from relgrade.errors import InvalidInput

RETRIED = frozenset({408, 409, 429, 500, 502, 503})  # not 504: the time is over; not 424: the model would fail again
_REASONS = {401: "denied", 403: "denied", 408: "deadline", 424: "backend", 429: "overloaded", 503: "overloaded"}
_REASONS |= {504: "deadline"}
_INVALID = frozenset({400, 404, 405, 411, 413, 415, 422})  # the caller's own fault, whatever the policy
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 4.0
_MAX_MESSAGE = 300


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one try."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def request_id(self) -> str | None:
        """Under which the server's log has the request."""
        return self.headers.get(REQUEST_ID_HEADER)


class Tries:
    """The state of one call.

    Args:
        retries: tries after the first, >= 0.
        timeout_s: for all of them together.
    """

    def __init__(self, *, retries: int, timeout_s: float) -> None:
        self._left = retries
        self._n_done = 0
        self._end_s = time.monotonic() + timeout_s
        self._timeout_s = timeout_s

    @property
    def remaining_s(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end_s - time.monotonic())

    def body_of(self, answer: Answer) -> Any:
        """The JSON of a good answer, None when the call should be tried again after `wait_s`.

        Raises:
            InvalidInput: the server says that the call itself is wrong.
            ServerError: there are no grades and no further try.
        """
        if answer.status == 200:
            try:
                return json.loads(answer.content)
            except ValueError as error:
                raise ServerError("the reply is not JSON; is this a relgrade server?", status=200) from error
        if answer.status in RETRIED and self._left > 0 and self.wait_s(answer) < self.remaining_s:
            return None
        message, request_id = _words(answer), answer.request_id
        if answer.status in _INVALID:
            raise InvalidInput(f"the server answered {answer.status}: {message}")
        reason = _REASONS.get(answer.status, "server")
        text = f"the server answered {answer.status}: {message}"
        raise ServerError(text, reason=reason, status=answer.status, request_id=request_id)

    def after_breakdown(self, error: Exception) -> None:
        """Nothing came back; returns when the call should be tried again after `wait_s`.

        Raises:
            ServerError: there is no further try.
        """
        if self._left > 0 and self.wait_s(None) < self.remaining_s:
            return
        if self.remaining_s <= 0:
            raise self.too_late() from error
        name = type(error).__name__
        raise ServerError(f"the server cannot be reached ({name}: {error})"[:_MAX_MESSAGE], reason="unreachable")

    def too_late(self) -> ServerError:
        """The error of a call whose time is over."""
        return ServerError(f"no answer within {self._timeout_s:g} s", reason="deadline")

    def count(self) -> None:
        """A further try begins."""
        self._left -= 1
        self._n_done += 1

    def wait_s(self, answer: Answer | None) -> float:
        """Seconds until the next try: the server's word, else doubling with chance."""
        told = None if answer is None else _told_wait_s(answer.headers)
        if told is not None:
            return told
        wait = min(_FIRST_WAIT_S * 2.0**self._n_done, _LONGEST_WAIT_S)
        return wait * (0.75 + 0.25 * random.random())


def _told_wait_s(headers: Mapping[str, str]) -> float | None:
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        if "retry-after" not in headers:
            return None
        value = headers["retry-after"]
        if value.replace(".", "", 1).isdigit():
            return float(value)
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _words(answer: Answer) -> str:
    try:
        body = json.loads(answer.content)
        message = body["message"] if "message" in body else body["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = answer.content.decode("utf-8", "replace") or "no words"
    return str(message)[:_MAX_MESSAGE]
