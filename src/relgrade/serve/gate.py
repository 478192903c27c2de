"""Around every request: an id, limits, the key, headers, one log line, and no stack trace to a client. Plain ASGI."""

import ipaddress
import re
import time
import uuid
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from relgrade.serve.keys import Keyring, sent_key
from relgrade.serve.logs import Seen, log_request, logger
from relgrade.serve.measures import Measures
from relgrade.serve.refusals import Malformed, Overloaded, Refusal, WrongHost
from relgrade.serve.replies import refusal_response

# Without a key: whether it lives, what it is, and the page, which asks for a key itself.
OPEN_PATHS = frozenset({"/health", "/ready", "/version", "/"})
OPEN_PREFIX = "/page/"
PROBES = frozenset({"/health", "/ready", "/metrics"})  # answered, and logged only when they fail

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


class Gate:
    """See the module.

    Args:
        app: what answers.
        keyring: who may call.
        measures: what is counted.
        max_requests: in flight at once; more are refused before their body is read.
        is_local: bound to this machine alone. Without a key, requests for other host names are then refused: a page
            of another site can let its name point to this machine, and its scripts would be let in.
    """

    def __init__(
        self, app: ASGIApp, *, keyring: Keyring, measures: Measures, max_requests: int, is_local: bool = False
    ) -> None:
        self._app = app
        self._keyring = keyring
        self._measures = measures
        self._max_requests = max_requests
        self._checks_host = is_local and keyring.is_open
        self._n_running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass on what is none."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start_s = time.monotonic()
        headers = Headers(scope=scope)
        seen = Seen(_request_id(headers.get("x-request-id", "")))
        scope.setdefault("state", {}).update(seen=seen, start_s=start_s)
        status = 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                told = MutableHeaders(scope=message)
                told["X-Request-Id"] = seen.request_id
                for name, value in _HEADERS.items():
                    told.setdefault(name, value)
            await send(message)

        self._n_running += 1
        self._measures.in_flight.set(self._n_running)
        try:
            await self._answer(scope, receive, send_on, headers, seen)
        except Exception as error:  # a fault of ours: the log has its place, the client has an id
            logger.error("fault", exc_info=error, extra={"request_id": seen.request_id})
            seen.kind = "internal"
            if status:  # too late to say so
                raise
            refusal = Refusal("an error of the server; its log has more under this request id")
            await refusal_response(refusal, path=route_path(scope), request_id=seen.request_id)(scope, receive, send_on)
        finally:
            self._n_running -= 1
            self._measures.in_flight.set(self._n_running)
            self._count(scope, seen, status=status, seconds=time.monotonic() - start_s)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, headers: Headers, seen: Seen) -> None:
        path = route_path(scope)
        try:
            if "content-length" in headers and "transfer-encoding" in headers:
                # Two lengths: a proxy in front may believe the other one, and take a request out of this body.
                raise Malformed("Content-Length and Transfer-Encoding exclude each other")
            if self._checks_host and not is_local_host(headers.get("host", "")):
                raise WrongHost("this server answers on this machine alone; call it localhost or by its address")
            if not (path in OPEN_PATHS and scope["method"] in ("GET", "HEAD")) and not path.startswith(OPEN_PREFIX):
                seen.key = self._keyring.admit(sent_key(headers), address=address_of(scope))
            if self._n_running > self._max_requests and path not in PROBES:
                raise Overloaded("too many requests at once; try again later", retry_after_s=1.0)
        except Refusal as refusal:
            seen.kind = refusal.kind
            response = refusal_response(refusal, path=path, request_id=seen.request_id)
            response.headers["Connection"] = "close"  # its body was not read and may be long
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _count(self, scope: Scope, seen: Seen, *, status: int, seconds: float) -> None:
        route: Any = scope.get("route")
        name = getattr(route, "path", None) or "none"  # never the path itself, which is the client's
        told = "499" if status == 0 else str(status)
        self._measures.requests.labels(name, seen.dialect, told).inc()
        self._measures.request_seconds.labels(name).observe(seconds)
        if seen.kind is not None:
            self._measures.errors.labels(seen.kind).inc()
        if scope["path"] not in PROBES or status >= 400:
            log_request(seen, method=scope["method"], path=scope["path"], status=status or 499, seconds=seconds)


def route_path(scope: Scope) -> str:
    """The path that routes are told apart by: without that of the app this one is mounted in."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and (path == root or path.startswith(f"{root}/")) else path


def address_of(scope: Scope) -> str | None:
    """Of the other end of the connection, which is a proxy's where there is one."""
    client = scope.get("client")
    return None if client is None else str(client[0])


def is_local_host(sent: str) -> bool:
    """True for an address, localhost, and names without a dot, which no other site can have."""
    name = sent.rpartition("]")[0] if sent.startswith("[") else sent.partition(":")[0]
    name = name.removeprefix("[").rstrip(".").lower()
    if "." not in name or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _request_id(sent: str) -> str:
    return sent if _REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex
