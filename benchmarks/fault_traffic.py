"""What the cases of serve_faults send, byte by byte where that matters, and how they wait."""

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from benchmarks.healthy_clients import PATIENCE_S
from benchmarks.load_http import requests_of
from benchmarks.server_process import ServerProcess

ADMIN_KEY = "admin-key-of-the-benchmark"


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition; raises RuntimeError when it does not come true in `PATIENCE_S` seconds."""
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end_s:
            raise RuntimeError(f"did not come true in {PATIENCE_S:.0f} s: {what}")
        time.sleep(0.05)


def metric(url: str, name: str) -> float:
    """A number of the server's."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=PATIENCE_S) as response:
        rows = [line for line in response.read().decode().splitlines() if line.startswith(f"{name} ")]
    return float(rows[0].split()[1])


def describe(bundle: Path, description: str) -> None:
    """Change what a bundle says of itself, and so its hash."""
    path = bundle / "bundle.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**manifest, "description": description}), encoding="utf-8")


def admin_reload(url: str) -> int:
    """Status of the route that loads the bundles again."""
    request = urllib.request.Request(f"{url}/admin/reload", method="POST", headers={"x-api-key": ADMIN_KEY})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def post(url: str, documents: list[Any], **fields: Any) -> tuple[int, dict[str, Any]]:
    """Status and body of one request; refusals for lack of room are asked again."""
    body = {"query": "what is this", "documents": documents, **fields}
    while True:
        response = httpx.post(f"{url}/v1/grade", json=body, timeout=PATIENCE_S)
        if response.status_code != 429:
            return response.status_code, response.json()
        time.sleep(0.2)


def texts_of(n: int) -> list[str]:
    """Documents of 100 words."""
    texts: list[str] = next(requests_of(7, n_documents=n, n_words=100))["documents"]
    return texts


def body_of(documents: list[str]) -> bytes:
    """A request."""
    return json.dumps({"query": "what is this", "documents": documents}).encode()


def raw_post(body: bytes) -> bytes:
    """Its bytes."""
    head = (
        f"POST /v1/grade HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def raw_get(path: str) -> bytes:
    """The bytes of a request without a body."""
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def connect(server: ServerProcess, *, receive_bytes: int | None = None) -> socket.socket:
    """A connection whose bytes a case decides."""
    connection = socket.socket()
    if receive_bytes is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.settimeout(PATIENCE_S)
    connection.connect(("127.0.0.1", server.port))
    return connection


def first_line(connection: socket.socket) -> bytes:
    """Of the answer; empty when the connection was closed instead."""
    try:
        return connection.recv(4096).split(b"\r\n")[0]
    except ConnectionResetError:
        return b""
