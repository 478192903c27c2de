"""Sends requests to one server: retries, waits, and the difference between a failure and a refusal.

Retried: 408, 409, 429, 5xx, broken connections, timeouts, bodies that break off. Waits follow the server's own words
(`retry-after-ms`, `Retry-After`), else they double from half a second to eight, less up to a quarter by chance.
Needs httpx, the extra `label`. It knows JSON and nothing of labels; the key is in the client's header and nowhere else.
"""

import asyncio
import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self

from relgrade.errors import MissingExtra, RelgradeError, TeacherError
from relgrade.label.limits import Limits, Pace
from relgrade.label.teacher import Teacher

try:
    import httpx
except ImportError as error:
    raise MissingExtra("httpx", extra="label", purpose="ask a teacher over HTTP") from error

RETRIED = frozenset({408, 409, 429})
NO_USE = frozenset({401, 402, 403, 404})  # what no other request will change
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 8.0
_LONGEST_SERVER_WAIT_S = 120.0
_MAX_MESSAGE = 300


class RequestRejected(RelgradeError):
    """The server understood the request and will not have it (400, 413, 422 ...); nothing was paid.

    Attributes:
        status: of HTTP.
        detail: the server's words.
    """

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        self.detail = detail
        super().__init__(f"the server answered {status}: {detail}")


class RequestFailed(RelgradeError):
    """Every try failed in a way that may pass."""


@dataclass(frozen=True, slots=True)
class Received:
    """A reply of status 200."""

    body: Mapping[str, Any]
    n_unconfirmed: int  # tries before it that broke off after the request was sent: perhaps paid


class Transport:
    """One server. An asynchronous context manager.

    Args:
        teacher: whose server; its key is read here.
        limits: concurrency, pace, timeout and retries.
        on_unconfirmed: is told each time a request broke off after it was sent: perhaps it was paid.
        chance: of the jitter.
    """

    def __init__(
        self,
        teacher: Teacher,
        limits: Limits,
        *,
        on_unconfirmed: Callable[[int], None] = lambda n_bytes: None,
        chance: random.Random | None = None,
    ) -> None:
        self._url, self._limits = httpx.URL(teacher.endpoint), limits
        self._key = teacher.api_key()
        self._on_unconfirmed = on_unconfirmed
        self._chance = chance or random.Random()
        self._requests = Pace(limits.requests_per_minute)
        self.tokens = Pace(limits.tokens_per_minute)
        self._paused_until_s = 0.0
        self._headers = {"Content-Type": "application/json", "User-Agent": "relgrade"}
        if self._key:
            self._headers["Authorization"] = f"Bearer {self._key}"
        self._tls = httpx.create_ssl_context() if self._url.scheme == "https" else False
        self._idle: list[httpx.AsyncClient] = []
        self._clients: list[httpx.AsyncClient] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients:
            await client.aclose()

    async def post(self, content: bytes, *, tokens: float) -> Received:
        """Send a request until it is answered.

        Args:
            content: JSON.
            tokens: it may take, about; for the pace.

        Raises:
            RequestRejected: the server will not have this request.
            RequestFailed: all tries failed.
            TeacherError: the server will have no request: wrong key, no credit, no such model.
        """
        n_unconfirmed = 0
        for attempt in range(self._limits.max_retries + 1):
            await self._requests.wait(1)
            await self.tokens.wait(tokens)
            await self._wait_for_pause()
            try:
                response = await self._try(content)
            except (TimeoutError, httpx.TransportError) as error:
                reason, wait_s = self._describe(error), None
                if not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
                    n_unconfirmed += 1
                    self._on_unconfirmed(len(content))
            else:
                if response.status_code == 200:
                    body = _parse(response)
                    if body is not None:
                        return Received(body, n_unconfirmed)
                    n_unconfirmed += 1
                    self._on_unconfirmed(len(content))
                    reason, wait_s = "the reply is not a JSON object", None
                else:
                    reason, wait_s = self._refused(response)
            if attempt < self._limits.max_retries:
                await asyncio.sleep(self._backoff_s(attempt) if wait_s is None else wait_s)
        tries = self._limits.max_retries + 1
        raise RequestFailed(f"{reason} ({tries} {'try' if tries == 1 else 'tries'})")

    async def _try(self, content: bytes) -> "httpx.Response":
        client = self._idle.pop() if self._idle else self._new_client()
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                return await client.post(self._url, content=content)
        finally:
            self._idle.append(client)

    def _new_client(self) -> "httpx.AsyncClient":
        """A client of one connection. A shared pool looks at every connection it has for every request."""
        # One deadline for the whole exchange stands in `_try`; a reply that drips would never meet httpx's own.
        timeout = httpx.Timeout(self._limits.timeout_s, connect=min(10.0, self._limits.timeout_s))
        pool = httpx.Limits(max_connections=1, max_keepalive_connections=1)
        client = httpx.AsyncClient(
            headers=self._headers, limits=pool, timeout=timeout, follow_redirects=False, verify=self._tls
        )
        self._clients.append(client)
        return client

    def _refused(self, response: "httpx.Response") -> tuple[str, float | None]:
        """The reason and the wait before the next try; raises where none is of use."""
        status, detail = response.status_code, self._redact(_error_message(response))
        message = f"{self._url} answered {status}: {detail}"
        if status in NO_USE or "insufficient_quota" in detail:
            raise TeacherError(f"{message}; {_ADVICE.get(status, 'check the account behind the key')}")
        told = response.headers.get("x-should-retry", "").lower()
        is_retried = (status in RETRIED or status >= 500) if told not in ("true", "false") else told == "true"
        if not is_retried:
            raise RequestRejected(status, detail)
        wait_s = _server_wait_s(response.headers)
        if wait_s is not None and wait_s > _LONGEST_SERVER_WAIT_S:
            raise TeacherError(f"{message}; it asks to wait {wait_s:.0f} s; run the same command again later")
        if wait_s is not None and status == 429:  # all requests met the same limit; one of them was told
            self._paused_until_s = max(self._paused_until_s, time.monotonic() + wait_s)
        # A moment more for each, else all that waited come back in one instant.
        return (
            f"the server answered {status}: {detail}",
            None if wait_s is None else wait_s + self._chance.random() * 0.1,
        )

    async def _wait_for_pause(self) -> None:
        while (wait_s := self._paused_until_s - time.monotonic()) > 0.0:
            await asyncio.sleep(wait_s)

    def _backoff_s(self, attempt: int) -> float:
        return min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0**attempt) * (1.0 - 0.25 * self._chance.random())

    def _describe(self, error: Exception) -> str:
        if isinstance(error, TimeoutError | httpx.TimeoutException):
            return f"no whole reply within {self._limits.timeout_s:g} s"
        if isinstance(error, httpx.ConnectError):
            return f"no connection to {self._url}: {self._redact(str(error))}"
        return f"the connection broke: {self._redact(str(error) or type(error).__name__)}"

    def _redact(self, text: str) -> str:
        """The text without the key: servers like to repeat it."""
        return text.replace(self._key, "[key]") if self._key else text


_ADVICE = {
    401: "check the key and the variable it is in (--api-key-env)",
    402: "the account has no credit",
    403: "the key may not use this model",
    404: "check the base URL (it mostly ends in /v1) and the name of the model",
}


def _parse(response: "httpx.Response") -> dict[str, Any] | None:
    try:
        body = json.loads(response.content)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _error_message(response: "httpx.Response") -> str:
    """What a server says went wrong, in any of the usual shapes."""
    body = _parse(response)
    found: Any = response.text if body is None else body
    if body is not None:
        for name in ("error", "detail", "message"):
            if body.get(name):
                found = body[name]
                break
    if isinstance(found, dict):
        parts = [str(found[name]) for name in ("message", "code", "type", "param") if found.get(name)]
        found = ", ".join(parts) or found
    text = found if isinstance(found, str) else json.dumps(found)
    return " ".join(text.split())[:_MAX_MESSAGE] or "nothing"


def _server_wait_s(headers: Mapping[str, str]) -> float | None:
    """Seconds the server asks to wait; None where it says nothing that can be read."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        try:
            found = float(value) * unit if value else None
        except ValueError:
            found = _seconds_until(value)
        if found is not None:
            return max(0.0, found)
    return None


def _seconds_until(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
