"""Faults inside the server: it is killed, loads bundles, or its model fails. Each case says what was seen."""

import os
import shutil
import signal
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from benchmarks.fault_traffic import (
    ADMIN_KEY,
    admin_reload,
    describe,
    post,
    until,
)
from benchmarks.healthy_clients import HealthyClients, Known
from benchmarks.server_process import ServerProcess, is_ready
from relgrade.bundle import load_bundle
from relgrade.grade.grader import DEFAULT_BUNDLE

Row = dict[str, Any]

N_KILLS = 3
MEASURED = 20  # healthy answers that are waited for in each state
_FAULTY = "benchmarks.faulty_server"


def kill_and_restart(known: Known, folder: Path) -> Row:
    """`kill -9` again and again; whoever watches over the server starts it again."""
    with ServerProcess() as server, HealthyClients(server.url, known) as healthy:
        for _ in range(N_KILLS):
            healthy.wait_for_more(MEASURED)
            server.kill()
            server.start()
            healthy.wait_for_more(MEASURED)
    return row_of(f"kill -9 and restart, {N_KILLS} times", healthy, ["answers again after each"], deaths=server.deaths)


def process_dies(known: Known, folder: Path) -> Row:
    """The process dies while it reads a document, as when the system is short of memory."""
    with ServerProcess(module=_FAULTY) as server, HealthyClients(server.url, known) as healthy:
        healthy.wait_for_more(MEASURED)
        start_s = time.monotonic()
        try:
            status = post(server.url, ["fine", "dieword"])[0]
        except httpx.HTTPError as error:
            status = 0
            seen = [f"its own client: {type(error).__name__}, no grade"]
        else:
            seen = [f"its own client: {status}"]
        server.kill()  # it is dead, and gone after this
        deaths = [(start_s, time.monotonic())]
        server.start()
        healthy.wait_for_more(MEASURED)
    return row_of("the process dies over a document", healthy, seen, deaths=deaths, is_ok=status == 0)


def reload(known: Known, folder: Path) -> Row:
    """New bundles and harmed ones, by signal and by route."""
    bundle = folder / "bundle"
    shutil.copytree(DEFAULT_BUNDLE, bundle)
    options = ["--bundle", f"default={bundle}"]
    seen, is_ok = [], True
    with (
        ServerProcess(options, environment={"RELGRADE_ADMIN_KEY": ADMIN_KEY}) as server,
        HealthyClients(server.url, known) as healthy,
    ):
        for turn in range(2):
            healthy.wait_for_more(MEASURED)
            describe(bundle, f"turn {turn}")
            wanted = load_bundle(bundle).hash
            if turn:
                os.kill(server.pid, signal.SIGHUP)
            else:
                admin_reload(server.url)
            until(partial(_serves, server.url, wanted), "the new bundle serves")
        seen.append("2 new bundles took over")
        healthy.wait_for_more(MEASURED)
        for name, content in (("encoder.int8.onnx", b"harmed"), ("bundle.json", b"{}")):
            kept = (bundle / name).read_bytes()
            (bundle / name).write_bytes(content)
            status = admin_reload(server.url)
            os.kill(server.pid, signal.SIGHUP)
            healthy.wait_for_more(MEASURED)
            is_ok &= status == 409 and _serves(server.url, wanted)
            (bundle / name).write_bytes(kept)
            seen.append(f"harmed {name}: {status}, the old one serves")
        (bundle / "tokenizer.json").unlink()
        is_ok &= admin_reload(server.url) == 409
        healthy.wait_for_more(MEASURED)
    return row_of("reload by SIGHUP and by route, good and bad bundles", healthy, seen, is_ok=is_ok)


def worker_dies(known: Known, folder: Path) -> Row:
    """Threads that end and models that raise, over one document of several."""
    seen, is_ok = [], True
    with ServerProcess(module=_FAULTY) as server, HealthyClients(server.url, known) as healthy:
        for word, expected in (("raiseword", {424}), ("exitword", {424})):
            found = {post(server.url, [f"{word} {i}"])[0] for i in range(10)}
            healthy.wait_for_more(MEASURED)
            is_ok &= found <= expected
            seen.append(f"{word.removesuffix('word')}: its own client {sorted(found)}")
        kept = post(server.url, ["fine", "raiseword"], on_error="keep_all")[1]
        is_ok &= [row["verdict"] == "unsure" for row in kept["results"]][1] and kept["failure"]["reason"] == "backend"
    return row_of("a worker's thread ends, a model raises", healthy, seen, is_ok=is_ok)


def model_hangs(known: Known, folder: Path) -> Row:
    """A worker that never comes back, then all of them."""
    with ServerProcess(["--timeout", "6"], module=_FAULTY) as server:
        with HealthyClients(server.url, known) as healthy:
            first = post(server.url, ["hangword"])[0]
            healthy.wait_for_more(MEASURED)
            was_ready = is_ready(server.url)
        second = post(server.url, ["hangword"])[0]
        until(lambda: not is_ready(server.url), "it says that it is not ready")
    seen = [
        f"its own clients: {first}, {second}",
        f"with one of two workers it goes on, {'ready' if was_ready else 'not ready'}",
        "with none it says it is not ready",
    ]
    # What ran beside the hanging pair in one micro-batch meets its deadline.
    return row_of("a model hangs", healthy, seen, is_ok=(first, second) == (504, 504), expected=["status 504"])


def row_of(
    fault: str,
    healthy: HealthyClients,
    seen: list[str],
    *,
    deaths: Sequence[tuple[float, float]] = (),
    is_ok: bool = True,
    expected: list[str] | None = None,
) -> Row:
    """What is told of a fault; it is as it should be when the healthy clients were served and `is_ok`."""
    told = healthy.told(deaths=deaths, expected=expected or [])
    others = [f"healthy: {n} x {what}" for what, n in told["outcomes"].items() if what not in ("right", "lost")]
    return {"fault": fault, "healthy": told, "seen": [*seen, *others], "ok": is_ok and told["ok"]}


def _serves(url: str, bundle_hash: str) -> bool:
    return bool(post(url, ["a"])[1]["bundle_hash"] == bundle_hash)
