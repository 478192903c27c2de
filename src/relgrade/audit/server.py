"""The annotation page's server: loopback only, one secret a run, JSON in and out. It knows HTTP and nothing of pairs.

Who may talk to it: a page that this server sent. Requests must name this host (against DNS rebinding), come from this
origin and carry the run's token in a header, which no form and no other site can send without being asked first. The
token travels in the fragment of the address, which browsers neither send nor log.
"""

import json
import math
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any
from urllib.parse import parse_qs, urlsplit

from relgrade.audit.annotating import Annotating, DeskState, StaleCase
from relgrade.errors import InvalidInput, OutputError, RelgradeError

HOST = "127.0.0.1"
TOKEN_HEADER = "X-Relgrade-Token"
_NAMES = ("127.0.0.1", "localhost")
_MAX_BODY = 4096  # bytes; an answer is a hundred
_TIMEOUT_S = 30.0
_FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class _Refused(Exception):
    def __init__(self, status: HTTPStatus, message: str) -> None:
        self.status = status
        super().__init__(message)


class AnnotationServer(ThreadingHTTPServer):
    """Serves one `Annotating` on the loopback interface until it is shut down.

    Args:
        annotating: what is served.
        port: to listen on; 0 takes a free one.

    Attributes:
        token: secret of this run.

    Raises:
        OutputError: the port is taken.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, annotating: Annotating, *, port: int = 0) -> None:
        self.annotating = annotating
        self.token = secrets.token_urlsafe(24)
        folder = resources.files("relgrade.audit") / "page"
        self.files = {path: ((folder / name).read_bytes(), kind) for path, (name, kind) in _FILES.items()}
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise OutputError("this port is taken; give another, or 0 for any", path=f"{HOST}:{port}") from error

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """The address to open, with the token."""
        return f"http://{HOST}:{self.port}/#{self.token}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is no error; what is one has been answered."""


class _Handler(BaseHTTPRequestHandler):
    server: AnnotationServer
    server_version = "relgrade"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = _TIMEOUT_S

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged."""

    def _answer(self, respond: Callable[[], None]) -> None:
        try:
            self._check_host()
            respond()
        except _Refused as refusal:
            self._send_json(refusal.status, {"error": str(refusal)})
        except StaleCase as error:
            self._send_json(HTTPStatus.CONFLICT, {"error": str(error)})
        except OutputError as error:
            self._send_json(HTTPStatus.INSUFFICIENT_STORAGE, {"error": str(error)})
        except RelgradeError as error:
            self._send_json(HTTPStatus.BAD_REQUEST, {"error": str(error)})

    def _get(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/api/state":
            self._check_token()
            names = parse_qs(url.query).get("annotator")
            annotating = self.server.annotating
            state = annotating.state(names[0] if names else annotating.annotators[0])
            about = {"guideline": asdict(annotating.guideline), "annotators": annotating.annotators}
            self._send_json(HTTPStatus.OK, {**_state(state), **about})
        elif url.path in self.server.files:
            body, kind = self.server.files[url.path]
            self._send(HTTPStatus.OK, body, kind)
        else:
            raise _Refused(HTTPStatus.NOT_FOUND, "no such page")

    def _post(self) -> None:
        self._check_origin()
        self._check_token()
        body = self._body()
        annotating, annotator = self.server.annotating, _text(body, "annotator")
        path = urlsplit(self.path).path
        if path == "/api/answer":
            value = body.get("value")
            if isinstance(value, bool) or not isinstance(value, int):
                raise InvalidInput("`value` must be a whole number")
            state = annotating.answer(annotator, _text(body, "case"), value=value, seconds=_seconds(body))
        elif path == "/api/skip":
            state = annotating.skip(annotator, _text(body, "case"), seconds=_seconds(body))
        elif path == "/api/undo":
            state = annotating.undo(annotator)
        elif path == "/api/revisit":
            state = annotating.revisit(annotator)
        else:
            raise _Refused(HTTPStatus.NOT_FOUND, "no such action")
        self._send_json(HTTPStatus.OK, _state(state))

    def _check_host(self) -> None:
        if self.headers.get_all("Host", []) not in [[f"{name}:{self.server.port}"] for name in _NAMES]:
            raise _Refused(HTTPStatus.MISDIRECTED_REQUEST, "this server answers to its own address alone")

    def _check_origin(self) -> None:
        if self.headers.get_all("Origin", []) != [f"http://{self.headers['Host']}"]:
            raise _Refused(HTTPStatus.FORBIDDEN, "requests come from this server's own page alone")

    def _check_token(self) -> None:
        given = self.headers.get(TOKEN_HEADER, "")
        if not secrets.compare_digest(given.encode("utf-8", "replace"), self.server.token.encode("ascii")):
            raise _Refused(HTTPStatus.FORBIDDEN, "open the address that the command printed")

    def _body(self) -> Mapping[str, Any]:
        length = self.headers.get("Content-Length", "")
        if self.headers.get_content_type() != "application/json" or not (length.isascii() and length.isdigit()):
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a JSON body of known length was expected")
        if int(length) > _MAX_BODY:
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body of at most {_MAX_BODY} bytes was expected")
        try:
            body = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise InvalidInput("the body is not JSON") from error
        if not isinstance(body, dict):
            raise InvalidInput("the body must be a JSON object")
        return body

    def _send_json(self, status: HTTPStatus, content: Mapping[str, Any]) -> None:
        # What is refused may have a body that nobody read: the connection is of no more use.
        self.close_connection = self.close_connection or status != HTTPStatus.OK
        self._send(status, json.dumps(content).encode("ascii"), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


def _state(state: DeskState) -> dict[str, Any]:
    """What the page may know of a case: its name and its texts."""
    case = state.case and {"case": state.case.case, "query": state.case.query, "document": state.case.document}
    return {**asdict(state), "case": case}


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise InvalidInput(f"`{name}` must be a text")
    return value


def _seconds(body: Mapping[str, Any]) -> float | None:
    value = body.get("seconds")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return max(float(value), 0.0)
