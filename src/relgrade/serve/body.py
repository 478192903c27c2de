"""The bytes of a request as JSON, within limits of size, time and depth."""

import asyncio
import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from relgrade.serve.refusals import ClientGone, Malformed, Overloaded, Slow, TooLarge, WrongType

MAX_BRACKETS = 200_000  # in texts, too: nobody has looked which is which
_JSON_TYPE = re.compile(r"application/(?:[\w.+-]+\+)?json\s*(?:;.*)?", re.IGNORECASE)


class BodyRoom:
    """Memory for the bodies that are arriving, all requests together: each within its limit, they could fill it.

    Args:
        n_bytes: at once.
    """

    def __init__(self, n_bytes: int) -> None:
        self._n_left = n_bytes

    @contextmanager
    def body(self) -> Iterator["_Share"]:
        """The share of one body, given back at the end of the block."""
        share = _Share(self)
        try:
            yield share
        finally:
            self._n_left += share.n_bytes

    def take(self, n_bytes: int) -> None:
        """Raises Overloaded when there is no room."""
        if n_bytes > self._n_left:
            raise Overloaded("too many large bodies at once; try again later", retry_after_s=1.0)
        self._n_left -= n_bytes


class _Share:
    """What one body takes."""

    def __init__(self, room: BodyRoom) -> None:
        self._room, self.n_bytes = room, 0

    def grow(self, n_bytes: int) -> None:
        """Raises Overloaded when there is no room."""
        self._room.take(n_bytes)
        self.n_bytes += n_bytes


async def read_json(request: Request, *, max_bytes: int, deadline_s: float, room: BodyRoom) -> Any:
    """Read and parse the body.

    Args:
        request: whose body was not read yet.
        max_bytes: of the body.
        deadline_s: of time.monotonic, by which all of it must be here.
        room: for it and the others that are arriving.

    Raises:
        Refusal: not JSON, too large, too slow, no room, or the client is gone.
    """
    require_json_type(request.headers)
    content = await read_bytes(request, max_bytes=max_bytes, deadline_s=deadline_s, room=room)
    return parse(content)


async def read_bytes(request: Request, *, max_bytes: int, deadline_s: float, room: BodyRoom) -> bytes:
    """The body; raises Refusal as `read_json` does."""
    told = request.headers.get("content-length", "")
    if told.isascii() and told.isdigit() and int(told[:20]) > max_bytes:  # a superscript is a digit too
        raise TooLarge(f"the body has more than {max_bytes} bytes")
    chunks: list[bytes] = []
    size = 0
    try:
        with room.body() as share:
            async with asyncio.timeout(max(0.0, deadline_s - time.monotonic())):
                async for chunk in request.stream():
                    share.grow(len(chunk))
                    size += len(chunk)
                    if size > max_bytes:
                        raise TooLarge(f"the body has more than {max_bytes} bytes")
                    chunks.append(chunk)
    except TimeoutError as error:
        raise Slow("the body did not arrive in time") from error
    except ClientDisconnect as error:
        raise ClientGone("the client left before its body was complete") from error
    return b"".join(chunks)


def require_json_type(headers: Mapping[str, str]) -> None:
    """A page of another site can send a form without asking, and JSON only after asking: so JSON is required.

    Raises:
        WrongType: another content type, or a compressed body, which could be far larger than it looks.
    """
    found = headers.get("content-type", "")
    if not _JSON_TYPE.fullmatch(found.strip()):
        raise WrongType("Content-Type: application/json was expected")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise WrongType("compressed bodies are not read; send it as it is")


def parse(content: bytes) -> Any:
    """Strict JSON in UTF-8: no NaN, no number that nobody can mean, no endless depth.

    Raises:
        Malformed: says what is wrong, never with the text itself.
        TooLarge: so many lists and objects that taking them apart would hold up all others.
    """
    if content.count(b"[") + content.count(b"{") > MAX_BRACKETS:
        raise TooLarge(f"the body opens more than {MAX_BRACKETS} lists and objects")
    try:
        return parse_text(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise Malformed(f"the body is not UTF-8, at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise Malformed(f"the body is not JSON: {error.msg}, at character {error.pos}") from error
    except RecursionError as error:
        raise Malformed("the body is nested too deeply") from error
    except ValueError as error:  # a number of more than 4300 digits
        raise Malformed("the body holds a number that is too long") from error


def parse_text(text: str) -> Any:
    """JSON without NaN and infinities, spelt out or as 1e999; raises as json.loads does, and Malformed."""
    return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):  # 1e999, which could not be sent back as JSON
        raise Malformed("the body holds a number that is too large")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise Malformed(f"the body is not JSON: it holds {name}")
