"""The bytes of a request as JSON, within limits of size, time and depth."""

import asyncio
import json
import re
import time
from collections.abc import Mapping
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from relgrade.serve.refusals import ClientGone, Malformed, Slow, TooLarge, WrongType

_JSON_TYPE = re.compile(r"application/(?:[\w.+-]+\+)?json\s*(?:;.*)?", re.IGNORECASE)


async def read_json(request: Request, *, max_bytes: int, deadline_s: float) -> Any:
    """Read and parse the body.

    Args:
        request: whose body was not read yet.
        max_bytes: of the body.
        deadline_s: of time.monotonic, by which all of it must be here.

    Raises:
        Refusal: not JSON, too large, too slow, or the client is gone.
    """
    require_json_type(request.headers)
    content = await read_bytes(request, max_bytes=max_bytes, deadline_s=deadline_s)
    return parse(content)


async def read_bytes(request: Request, *, max_bytes: int, deadline_s: float) -> bytes:
    """The body; raises Refusal as `read_json` does."""
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told[:20]) > max_bytes:
        raise TooLarge(f"the body has more than {max_bytes} bytes")
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(max(0.0, deadline_s - time.monotonic())):
            async for chunk in request.stream():
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
    """
    try:
        return json.loads(content.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise Malformed(f"the body is not UTF-8, at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise Malformed(f"the body is not JSON: {error.msg}, at character {error.pos}") from error
    except RecursionError as error:
        raise Malformed("the body is nested too deeply") from error
    except ValueError as error:  # a number of more than 4300 digits
        raise Malformed("the body holds a number that is too long") from error


def _refuse_constant(name: str) -> NoReturn:
    raise Malformed(f"the body is not JSON: it holds {name}")
