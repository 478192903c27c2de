"""Faults around the server: its clients, its disks, its log and the clock. Each case says what was seen."""

import json
import os
import select
import shutil
import socket
import subprocess
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from benchmarks.fault_cases import MEASURED, Row, row_of
from benchmarks.fault_traffic import (
    body_of,
    connect,
    first_line,
    metric,
    post,
    raw_get,
    raw_post,
    texts_of,
    until,
)
from benchmarks.healthy_clients import PATIENCE_S, HealthyClients, Known
from benchmarks.load_http import requests_of
from benchmarks.server_process import ServerProcess
from relgrade.grade.grader import Grader

FAKETIME = (Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"), Path("/usr/lib64/faketime/libfaketime.so.1"))
FILE_LIMIT_BYTES = 4096
CACHE_DISK_BYTES = 2**20
SMALL_BYTES = 4096  # that a connection takes before somebody reads


def slow_clients(known: Known, folder: Path) -> Row:
    """Headers and bodies that drip, and answers that nobody takes."""
    n = 40
    with (
        ServerProcess(["--timeout", "20"]) as server,
        HealthyClients(server.url, known) as healthy,
        ExitStack() as stack,
    ):
        healthy.wait_for_more(MEASURED)
        body = body_of(["slow " * 20] * 3)
        slow = [stack.enter_context(connect(server, receive_bytes=SMALL_BYTES)) for _ in range(3 * n)]
        for connection in slow[:n]:
            connection.sendall(b"POST /v1/grade HTTP/1.1\r\nHos")
        for connection in slow[n : 2 * n]:
            connection.sendall(raw_post(body)[:-20])
        for connection in slow[2 * n :]:  # asks for much, and reads none of it
            connection.sendall(raw_get("/openapi.json") * 10)
        healthy.wait_for_more(2 * MEASURED)
        answers = [first_line(connection) for connection in slow[n : 2 * n]]
        closed = sum(first_line(connection) == b"" for connection in slow[:n])
    n_told = sum(b" 408 " in answer for answer in answers)
    seen = [f"{closed} of {n} closed over their headers", f"{n_told} of {n} told 408 over their bodies"]
    return row_of(f"{3 * n} slow clients", healthy, seen, is_ok=closed == n and n_told == n)


def half_closed(known: Known, folder: Path) -> Row:
    """Clients that shut one direction, or both, in the middle of a request or right after it."""
    n = 20
    long = body_of(texts_of(60))
    with ServerProcess() as server, HealthyClients(server.url, known) as healthy, ExitStack() as stack:
        healthy.wait_for_more(MEASURED)
        for i in range(3 * n):
            connection = stack.enter_context(connect(server))
            connection.sendall(raw_post(long)[: None if i % 3 else len(long) // 2])
            if i % 3 == 2:
                connection.close()
            else:
                connection.shutdown(socket.SHUT_WR)
        healthy.wait_for_more(2 * MEASURED)
        _until_idle(server, healthy)
    return row_of(f"{3 * n} half-closed and broken connections", healthy, ["their work was dropped"])


def clients_leave(known: Known, folder: Path) -> Row:
    """Long requests whose clients go while they are judged."""
    n, n_documents, seconds = 5, 200, 0.0
    with ServerProcess(["--timeout", "600"]) as server, HealthyClients(server.url, known) as healthy:
        for _ in range(n):
            healthy.wait_for_more(healthy.n_clients)
            with _begun(server, n_documents):
                healthy.wait_for_more(healthy.n_clients)
                start_s = time.monotonic()
            _until_idle(server, healthy)
            seconds = max(seconds, time.monotonic() - start_s)
        healthy.wait_for_more(MEASURED)
    seen = [f"what was left of {n_documents} documents was dropped within {seconds:.1f} s"]
    return row_of(f"{n} clients leave their long requests", healthy, seen)


def disk_full(known: Known, folder: Path) -> Row:
    """No byte of the log can be written."""
    with Path("/dev/full").open("wb") as log, ServerProcess(log=log) as server:
        return _asked_while_log_fails(server, known, "the disk of the log is full")


def cache_disk_full(known: Known, folder: Path) -> Row:
    """No room for what the models read of documents, on a disk of one megabyte."""
    fault = "the disk of the document cache is full"
    disk = folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={CACHE_DISK_BYTES}", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        return {"fault": fault, "skipped": "this user cannot mount a small disk"}
    try:
        # With a cache, documents are judged by states of 8 bits, whether they are found there or not.
        with_cache = Known(Grader.load(document_cache=folder / "reference"))
        options = ["--document-cache", str(disk / "cache")]
        with ServerProcess(options) as server, HealthyClients(server.url, with_cache) as healthy:
            status, texts = 200, requests_of(8, n_documents=20, n_words=100)
            for _ in range(10):
                status = max(status, post(server.url, next(texts)["documents"])[0])
            healthy.wait_for_more(MEASURED)
            left = shutil.disk_usage(disk).free
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
    seen = [f"200 other documents: {status}", f"{left} bytes left of {CACHE_DISK_BYTES}"]
    return row_of(fault, healthy, seen, is_ok=status == 200)


def file_limit(known: Known, folder: Path) -> Row:
    """The log reaches the largest size that a file may have."""
    path = folder / "log"
    with path.open("ab") as log, ServerProcess(log=log) as server:
        # Of the running server: while it starts, compiled modules may be written.
        subprocess.run(["prlimit", f"--pid={server.pid}", f"--fsize={FILE_LIMIT_BYTES}"], check=True)
        row = _asked_while_log_fails(server, known, "the log file may not grow", least=40)
    size = path.stat().st_size
    row["seen"].append(f"{size} bytes of log")
    return row


def log_reader_gone(known: Known, folder: Path) -> Row:
    """Whoever read the log has ended."""
    reader, writer = os.pipe()
    with ServerProcess(log=writer) as server:
        os.close(reader)
        os.close(writer)
        return _asked_while_log_fails(server, known, "the reader of the log ends")


def clock_jumps(known: Known, folder: Path) -> Row:
    """The clock of the wall jumps by a day and by years, both ways; that of deadlines does not know."""
    library = next((path for path in FAKETIME if path.exists()), None)
    fault = "the clock jumps"
    if library is None:
        return {"fault": fault, "skipped": "libfaketime is not installed"}
    offset = folder / "offset"
    offset.write_text("+0", encoding="ascii")
    environment = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # as it is when the clock of a machine is set
    }
    jumps = ("+1d", "-1d", "+3000d", "-3000d", "+0")
    seen, is_ok = [], True
    with (
        ServerProcess(["--timeout", "60", "--cache", "100"], environment=environment) as server,
        HealthyClients(server.url, known) as healthy,
    ):
        for jump in jumps:
            healthy.wait_for_more(MEASURED)
            offset.write_text(jump, encoding="ascii")
            with urllib.request.urlopen(f"{server.url}/health", timeout=PATIENCE_S) as response:
                days = round((json.load(response)["unix"] - time.time()) / 86400)
            is_ok &= f"{days:+d}" == jump.removesuffix("d")
            healthy.wait_for_more(MEASURED)
        seen.append(f"by {', '.join(jumps)}, which its clock showed")
    return row_of(fault, healthy, seen, is_ok=is_ok)


def _asked_while_log_fails(server: ServerProcess, known: Known, fault: str, *, least: int = MEASURED) -> Row:
    with HealthyClients(server.url, known) as healthy:
        healthy.wait_for_more(least)
        status = post(server.url, ["fine", 7])[0]
        healthy.wait_for_more(least)
    return row_of(fault, healthy, [f"a wrong request: {status}"], is_ok=status == 422)


def _begun(server: ServerProcess, n_documents: int) -> socket.socket:
    """A connection whose long request is being judged; where there is no room for it, it is sent again."""
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        connection = connect(server)
        connection.sendall(raw_post(body_of(texts_of(n_documents))))
        while not select.select([connection], [], [], 0.05)[0]:
            if metric(server.url, "relgrade_queue_documents") > n_documents / 2:
                return connection
        connection.close()
    raise RuntimeError("there was no room for a long request")


def _until_idle(server: ServerProcess, healthy: HealthyClients) -> None:
    most = healthy.n_clients * len(texts_of(3))
    until(lambda: metric(server.url, "relgrade_queue_documents") <= most, "only healthy documents wait")
