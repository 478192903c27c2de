"""Malformed, slow and greedy HTTP, over sockets, against a server in a process of its own that wants a key.

Named shapes first: requests inside requests, lengths that disagree, paths that go round a check, floods. Then sound
requests with bytes changed at random, and many connections that are slow to say or to take something. It knows bytes
and sockets, and nothing of the app.
"""

import concurrent.futures
import contextlib
import random
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.serve_process import Server

KEY = "a-key-of-sixteen-characters"
LIMITS = {"header_timeout_s": 3.0, "timeout_s": 8.0}
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")
_INSIDE = re.compile(rb'Traceback|File "|site-packages|/(?:home|root|usr|work|tmp)/')
_BODY = b'{"query": "q", "documents": ["a"]}'
_CRLF = b"\r\n"


def request(
    target: bytes = b"/v1/grade", *lines: bytes, method: bytes = b"POST", body: bytes = _BODY, has_length: bool = True
) -> bytes:
    """One request; `lines` are headers beside its own."""
    own = [b"Host: localhost", b"Content-Type: application/json"]
    length = [b"Content-Length: %d" % len(body)] if has_length else []
    return _CRLF.join([method + b" " + target + b" HTTP/1.1", *own, *length, *lines, b"", b""]) + body


WITH_KEY = b"Authorization: Bearer " + KEY.encode()
_INNER = request(b"/v1/grade", b"X-Request-Id: inner")
_CHUNKED = b"Transfer-Encoding: chunked"


def smuggled() -> dict[str, bytes]:
    """A request without a key inside one with it, for servers and proxies that disagree where a body ends."""

    def both(*lines: bytes, body: bytes) -> bytes:
        return request(b"/v1/grade", WITH_KEY, *lines, body=body, has_length=False)

    ended = b"0\r\n\r\n" + _INNER
    length = b"Content-Length: %d" % len(ended)
    return {
        "CL.TE": both(length, _CHUNKED, body=ended),
        "TE.CL": both(_CHUNKED, b"Content-Length: 4", body=b"1\r\nZ\r\n" + ended),
        "CL.CL, first short": both(b"Content-Length: 0", length, body=ended),
        "CL.CL, last short": both(length, b"Content-Length: 0", body=ended),
        "CL in a list": both(b"Content-Length: 0, %d" % len(ended), body=ended),
        "TE twice": both(_CHUNKED, b"Transfer-Encoding: identity", body=ended),
        "TE unknown": both(b"Transfer-Encoding: xchunked", length, body=ended),
        "TE after a space": both(b"Transfer-Encoding : chunked", length, body=ended),
        "TE with a tab": both(b"Transfer-Encoding:\tchunked", length, body=ended),
        "TE on a folded line": both(b"Transfer-Encoding:", b" chunked", length, body=ended),
        "TE after a bare CR": both(b"X: y\rTransfer-Encoding: chunked", length, body=ended),
        "TE after a null": both(b"X: y\0Transfer-Encoding: chunked", length, body=ended),
        "CL with a plus": both(b"Content-Length: +5", body=ended),
        "CL negative": both(b"Content-Length: -1", body=ended),
        "CL in hexadecimal": both(b"Content-Length: 0x10", body=ended),
        "CL with an underscore": both(b"Content-Length: 1_0", body=ended),
        "CL too long": both(b"Content-Length: " + b"9" * 5000, body=ended),
        "chunk size negative": both(_CHUNKED, body=b"-1\r\n" + ended),
        "chunk size endless": both(_CHUNKED, body=b"f" * 40 + b"\r\n" + ended),
        "chunk size with 0x": both(_CHUNKED, body=b"0x5\r\n" + ended),
        "chunk end without CRLF": both(_CHUNKED, body=b"1\r\nZXX" + ended),
        "chunk extension": both(_CHUNKED, body=b"0;\n" + _INNER),
        "bare LF": both(length, body=ended).replace(_CRLF, b"\n"),
        "HTTP/1.0 with TE": both(_CHUNKED, length, body=ended).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
        "GET with a body": request(b"/health", length, method=b"GET", body=ended, has_length=False),
        "upgrade to h2c": request(b"/health", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", method=b"GET"),
        "upgrade to websocket": request(b"/", b"Connection: Upgrade", b"Upgrade: websocket", method=b"GET"),
        "HTTP/2 from the start": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 9,
    }


def paths() -> dict[str, bytes]:
    """Ways to name a route that wants a key, beside the open ones; none is sent with it."""
    targets = {
        "doubled slashes": b"//v1//grade",
        "dots": b"/page/../v1/grade",
        "dots, encoded": b"/page/%2e%2e/v1/grade",
        "dots, encoded twice": b"/page/%252e%252e/v1/grade",
        "slash, encoded": b"/page%2f..%2fv1%2fgrade",
        "backslashes": b"/page\\..\\v1\\grade",
        "semicolon": b"/health;/../v1/grade",
        "null": b"/v1/grade%00",
        "null before": b"/health%00/../../v1/grade",
        "question mark": b"/v1/grade?/health",
        "fragment": b"/v1/grade#/health",
        "encoded letters": b"/%76%31/%67rade",
        "overlong UTF-8": b"/%c0%afv1/grade",
        "capitals": b"/V1/GRADE",
        "slash at the end": b"/v1/grade/",
        "whole URL": b"http://localhost/v1/grade",
        "another host": b"http://evil.example/health",
        "star": b"*",
        "nothing": b"",
        "a file": b"/page/%2e%2e%2fsettings.py",
        "a system file": b"/page/..%2f..%2f..%2f..%2fetc%2fpasswd",
        "metrics": b"/metrics",
        "admin": b"/admin/reload",
        "a line break": b"/health%0d%0aX-Injected:%20yes",
    }
    sent = {f"path: {name}": request(target) for name, target in targets.items()}
    sent |= {
        f"path: {name}, GET": request(target, method=b"GET", body=b"", has_length=False)
        for name, target in targets.items()
    }
    return sent


def floods() -> dict[str, bytes]:
    """More than anybody needs."""
    return {
        "30,000 headers": request(b"/health", *[b"X-%d: a" % i for i in range(30_000)], method=b"GET"),
        "a header of 1 MB": request(b"/health", b"X: " + b"a" * 1_000_000, method=b"GET"),
        "a URL of 1 MB": request(b"/health?" + b"a" * 1_000_000, method=b"GET"),
        "a method of 1 MB": request(b"/health", method=b"G" * 1_000_000),
        "a header name of 1 MB": request(b"/health", b"a" * 1_000_000 + b": a", method=b"GET"),
        "1,000 hosts": request(b"/health", *[b"Host: h%d" % i for i in range(1000)], method=b"GET"),
        "trailers": request(b"/v1/grade", WITH_KEY, _CHUNKED, body=b"0\r\n" + b"X: a\r\n" * 100_000, has_length=False),
        "50,000 tiny chunks": request(b"/v1/grade", WITH_KEY, _CHUNKED, body=b"1\r\n[\r\n" * 50_000, has_length=False),
        "500 requests at once": request(b"/v1/grade", WITH_KEY) * 500,
        "500 refusals at once": request(b"/health", method=b"GET", body=b"", has_length=False) * 500,
        "64 KB of nulls": b"\0" * 65_536,
        "64 KB of line breaks": b"\r\n" * 32_768,
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
    }


def changed(n: int, seed: int) -> Iterator[bytes]:
    """Sound requests without a key, with bytes changed, cut, doubled, moved."""
    rng = random.Random(seed)
    pieces = (
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b"\xff",
        b" ",
        b"\t",
        b":",
        b"%00",
        b"/..",
        b"chunked",
        b"0\r\n\r\n",
        b"HTTP/1.1",
    )
    sound = (request(), request(b"/rerank"), request(b"/info", method=b"GET", body=b"", has_length=False))
    sound += (request(b"/v1/grade", _CHUNKED, body=b"22\r\n" + _BODY + b"\r\n0\r\n\r\n", has_length=False),)
    for _ in range(n):
        data = bytearray(rng.choice(sound))
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(data) + 1)
            end = min(len(data), at + rng.randint(0, 12))
            how = rng.randrange(4)
            new = (rng.choice(pieces), bytes([rng.randrange(256)]), b"", bytes(data[at:end]) * 2)[how]
            data[at : end if how else at] = new
        yield bytes(data)


def exchange(port: int, data: bytes, *, wait_s: float) -> bytes:
    """What comes back until the server closes, or says nothing for so long."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        with contextlib.suppress(OSError):  # it has heard enough
            connection.sendall(data)
        connection.settimeout(wait_s)
        found = b""
        try:
            while part := connection.recv(65_536):
                found += part
        except OSError:
            pass
        return found


def is_alive(port: int) -> bool:
    """True when the server answers a sound request with a key."""
    return b" 200 " in exchange(port, request(b"/v1/grade", WITH_KEY, b"Connection: close"), wait_s=30)[:20]


def n_sockets(process: int) -> int:
    """Sockets that a process holds."""
    links = [str(path.readlink()) for path in Path(f"/proc/{process}/fd").iterdir() if path.is_symlink()]
    return sum(link.startswith("socket:") for link in links)


def held(server: Server, *, n: int, first: bytes, drip: bytes, seconds: float) -> tuple[int, float]:
    """Connections that send `first` and then `drip` now and then: how many the server let go, and its slowest answer.

    The answer is that of a sound request beside them, in seconds.
    """
    before = n_sockets(server.process.pid)
    ours = []
    for _ in range(n):
        each = socket.socket()
        each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # what it does not take must not fit into the system
        each.settimeout(20)
        each.connect(("127.0.0.1", server.port))
        each.sendall(first)
        each.setblocking(False)
        ours.append(each)
    n_held, slowest_s, end = n, 0.0, time.monotonic() + seconds
    while n_held and time.monotonic() < end:
        start = time.monotonic()
        assert is_alive(server.port), "the server does not answer beside slow connections"
        slowest_s = max(slowest_s, time.monotonic() - start)
        for each in ours if drip else ():
            with contextlib.suppress(OSError):
                each.send(drip)
        time.sleep(0.2)
        n_held = max(0, n_sockets(server.process.pid) - before)
    for each in ours:
        each.close()
    return n - n_held, slowest_s


def run(bundle: Path, *, n: int, seed: int) -> dict[str, Any]:
    """Sections of attacks; raises AssertionError at the first answer that breaks a promise.

    Args:
        bundle: what the server serves.
        n: of the requests with changed bytes.
        seed: of the changes.
    """
    parts: dict[str, Any] = {}
    with Server(bundle, keys={"one": KEY}, **LIMITS) as server:
        shapes: dict[str, Mapping[str, bytes]] = {"smuggling": smuggled(), "paths": paths(), "floods": floods()}
        for name, requests in shapes.items():
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                answers = pool.map(lambda data: exchange(server.port, data, wait_s=2.0), requests.values())
                parts[f"wire, {name}"] = _section(dict(zip(requests, answers, strict=True)), server.port)
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            rows = enumerate(pool.map(lambda data: exchange(server.port, data, wait_s=0.5), changed(n, seed)))
            parts["wire, bytes changed"] = _section({str(i): answer for i, answer in rows}, server.port)
        big = (
            b'{"query": "q", "documents": ['
            + b'{"text": "a", "x": "'
            + b"x" * 8_000_000
            + b'"}], "return_documents": true}'
        )
        slow = {
            "slow headers": (200, b"GET /health HTTP/1.1\r\nHost: x\r\n", b"X: y\r\n", 20.0),
            "silent": (200, b"", b"", 20.0),
            "slow bodies": (
                100,
                request(b"/v1/grade", WITH_KEY, b"Content-Length: 1000", body=b"{", has_length=False),
                b" ",
                20.0,
            ),
            "taking nothing": (4, request(b"/rerank", WITH_KEY, body=big), b"", 60.0),
        }
        for name, (n_connections, first, drip, seconds) in slow.items():
            closed, slowest_s = held(server, n=n_connections, first=first, drip=drip, seconds=seconds)
            assert closed == n_connections, f"{name}: {n_connections - closed} connections are still held"
            parts[f"wire, {name}"] = {"requests": n_connections, "statuses": {"closed": closed}, "server_errors": 0}
            parts[f"wire, {name}"]["slowest_s"] = round(slowest_s, 3)
        for word in ("Traceback", '"fault"'):
            at = server.text().find(word)
            assert at < 0, server.text()[max(0, at - 500) : at + 3000]
    return parts


def _section(answers: Mapping[str, bytes], port: int) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    for name, answer in answers.items():
        statuses = [int(found) for found in _STATUS.findall(answer)]
        told = (name, answer[:2000])
        assert all(status < 500 for status in statuses), told
        assert not _INSIDE.search(answer), told
        assert b"X-Injected" not in answer, told
        assert b'"id":"inner"' not in answer, f"let in: {told}"
        if not name.startswith(("500 requests", "50,000")) and b'"graded_list"' in answer:
            assert name in _MAY_GRADE, f"let in: {told}"
        counts.update([str(status) for status in statuses] or ["closed"])
    assert is_alive(port), "the server does not answer any more"
    counts_in_order = {status: counts[status] for status in sorted(counts)}
    return {"requests": len(answers), "statuses": counts_in_order, "server_errors": 0, "slowest_s": 0.0}


# These hold the key, and a body that the server reads as it was meant.
_MAY_GRADE: frozenset[str] = frozenset()
