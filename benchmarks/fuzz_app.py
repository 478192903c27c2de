"""Sends hostile bodies to an app in this process and holds every answer to what is promised of answers."""

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import httpx
from fastapi import FastAPI
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from benchmarks import fuzz_bodies as shapes

CHUNK = 5_000  # examples of one hypothesis run, which remembers every one of them
DOCUMENTED = {200, 400, 401, 403, 404, 405, 408, 413, 415, 422, 424, 429, 503, 504}
REFUSED = DOCUMENTED - {200}
# A trace, and folders that only the inside of a server has.
_INSIDE = re.compile(r'Traceback|File "|site-packages|/(?:home|root|usr|work|tmp)/|\.py\b')
KEY = "a-key-of-sixteen-characters"


@dataclass
class Section:
    """One kind of request, and what came of all of them."""

    name: str
    statuses: Counter[int] = field(default_factory=Counter)
    slowest_s: float = 0.0  # of the event loop's thread on a core: how long one request holds up all others, at most

    def report(self) -> dict[str, Any]:
        """As JSON."""
        counts = {str(status): n for status, n in sorted(self.statuses.items())}
        return {
            "requests": self.statuses.total(),
            "statuses": counts,
            "server_errors": sum(n for status, n in self.statuses.items() if status >= 500),
            "slowest_s": round(self.slowest_s, 3),
        }


class Fuzzer:
    """An app and a client of it, on an event loop of their own.

    Args:
        app: of `create_app`.
        runner: of the loop; it must outlive this.
    """

    def __init__(self, app: FastAPI, runner: asyncio.Runner) -> None:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=120)
        self._runner = runner

    def send(
        self, section: Section, path: str, content: bytes, headers: dict[str, bytes], *, allowed: set[int]
    ) -> None:
        """One request; raises AssertionError when its answer is not what is promised."""
        start = time.thread_time()
        response = self._runner.run(self._client.post(path, content=content, headers=headers))
        section.slowest_s = max(section.slowest_s, time.thread_time() - start)
        section.statuses[response.status_code] += 1
        sent = (section.name, path, content[:2000], headers, response.status_code, response.text[:500])
        assert response.status_code in allowed, sent
        # What a client said may come back to it, and could look like a path; the answer to a refusal says less.
        assert response.status_code == 200 or not _INSIDE.search(_without(response.text, content)), sent
        kind = response.headers["content-type"].partition(";")[0]
        if kind == "application/json":
            json.loads(response.text, parse_constant=_refuse)
        else:
            assert kind in ("application/x-ndjson", "text/html"), sent

    def close(self) -> None:
        """End the client."""
        self._runner.run(self._client.aclose())


def run_section(
    name: str, n: int, *, first_seed: int, requests: st.SearchStrategy[Any], check: Callable[..., None]
) -> None:
    """Call `check` with `n` examples."""
    options: dict[str, Any] = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
    start, done = time.perf_counter(), 0
    for number in range(-(-n // CHUNK)):
        size = min(CHUNK, n - done)
        seed(first_seed + number)(settings(max_examples=size, **options)(given(requests)(check)))()
        done += size
        print(f"  {name}: {done} of {n}, {time.perf_counter() - start:.0f} s", flush=True)


def fuzz(open_app: FastAPI, keyed_app: FastAPI, *, n: int, first_seed: int, prefix: str = "") -> dict[str, Any]:
    """Sections over both apps; raises AssertionError at the first answer that breaks a promise.

    Args:
        open_app: takes requests without a key, and has an admin key.
        keyed_app: takes none without its key.
        n: requests, over all sections.
        first_seed: of the first run of hypothesis.
        prefix: of the names of the sections.
    """
    with asyncio.Runner() as runner:
        opened, keyed = Fuzzer(open_app, runner), Fuzzer(keyed_app, runner)
        names = ("json", "bytes", "headers", "forms", "no key")
        sections = {name: Section(prefix + name) for name in names}
        json_type, form_type = {"content-type": shapes.JSON_TYPE.encode()}, {"content-type": shapes.FORM_TYPE.encode()}
        contents = st.one_of(shapes.json_bytes(), shapes.raw_bodies())
        anywhere = st.one_of(shapes.PATHS, st.just(shapes.FORM_PATH))

        def to_open(name: str, path: str, content: bytes, headers: dict[str, bytes]) -> None:
            opened.send(sections[name], path, content, headers, allowed=DOCUMENTED)

        def to_keyed(path: str, content: bytes, headers: dict[str, bytes]) -> None:
            keyed.send(sections["no key"], path, content, headers, allowed=REFUSED)

        def send_variants(paths: list[str], content: bytes, number: int) -> None:
            for path, each in zip(paths, shapes.variants(content, number), strict=True):
                to_open("json", path, each, json_type)

        lists = st.lists(shapes.PATHS, min_size=shapes.N_VARIANTS, max_size=shapes.N_VARIANTS)
        drawn = st.tuples(lists, shapes.json_bytes(), st.integers(0, 2**32))
        plan: dict[str, tuple[float, st.SearchStrategy[Any], Callable[..., None]]] = {
            "json": (0.5 / shapes.N_VARIANTS, drawn, lambda sent: send_variants(*sent)),
            "bytes": (
                0.2,
                st.tuples(shapes.PATHS, shapes.raw_bodies()),
                lambda sent: to_open("bytes", *sent, json_type),
            ),
            "headers": (0.1, st.tuples(anywhere, contents, shapes.headers()), lambda sent: to_open("headers", *sent)),
            "forms": (0.1, shapes.forms(), lambda sent: to_open("forms", shapes.FORM_PATH, sent, form_type)),
            "no key": (
                0.1,
                st.tuples(anywhere, contents | shapes.forms(), shapes.headers()),
                lambda sent: to_keyed(*sent),
            ),
        }
        for name, (share, requests, check) in plan.items():
            run_section(prefix + name, round(n * share), first_seed=first_seed, requests=requests, check=check)
        opened.close()
        keyed.close()
    return {section.name: section.report() for section in sections.values()}


def deep_and_large(app: FastAPI) -> dict[str, Any]:
    """Bodies at the limits of size, each of which is meant to cost far more than it should."""
    section = Section("at the limits")
    words = json.dumps({"query": "q", "documents": ["a " * 990_000] * 4}).encode()
    names = {f"{'a ' * i}b": "d" for i in range(400)}
    asked = {str(i): {"type": "noul", "instructions": "is it relevant " + "a " * 4000 + "bc"} for i in range(400)}
    bodies = {
        "/v1/grade": (
            b"[" * 15_900_000,
            b"[" + b"[]," * 5_300_000 + b"[]]",
            b"[" + b"[]," * 199_900 + b"[]]",
            b'{"query": "q", "documents": [' + b"{}," * 5_300_000 + b"{}]}",
            b'{"query": "q", "documents": ["a"], "x": ' + b"9" * 15_900_000 + b"}",
            b'{"query": "q", "documents": ["a"], "x": 1e' + b"9" * 15_900_000 + b"}",
            b'{"query": "' + b"q" * 7_900_000 + b'", "documents": ["a"]}',
            b'{"queries": [' + b'{"query": "q", "documents": []},' * 90_000 + b"{}]}",
            words,
        ),
        "/rerank": (
            json.dumps(
                {"query": "q", "documents": [{"text": "a" * 100_000}], "rank_fields": ["text"] * 100_000}
            ).encode(),
            json.dumps({"query": "q", "documents": [{"a": "b"}] * 1000, "rank_fields": [""] * 3_900_000}).encode(),
            json.dumps({"query": "q", "documents": [{str(key): {} for key in range(195)}] * 1000}).encode(),
            json.dumps({"query": "q", "documents": [dict.fromkeys(map(str, range(1500)), 1)] * 1000}).encode(),
        ),
        "/v1/systemone": (
            json.dumps({"state": {"query": "q", "documents": names}, "questions": asked}).encode(),
            json.dumps(
                {"state": {"query": "q", "document": "d"}, "questions": {"a": {"criteria": [0] * 5_000_000}}}
            ).encode(),
        ),
        shapes.FORM_PATH: (
            b"query=q&documents=" + b"%41" * 330_000,
            b"&" * 990_000,
            b"query=q&documents=" + b"+%0A%0A" * 140_000,
        ),
    }
    with asyncio.Runner() as runner:
        fuzzer = Fuzzer(app, runner)
        for path, contents in bodies.items():
            kind = shapes.FORM_TYPE if path == shapes.FORM_PATH else shapes.JSON_TYPE
            for content in contents:
                fuzzer.send(section, path, content, {"content-type": kind.encode()}, allowed=DOCUMENTED)
        fuzzer.close()
    return {section.name: section.report()}


def memory_mb() -> float:
    """Of this process, resident."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def _without(text: str, content: bytes) -> str:
    """An answer without what its request held."""
    return text if len(content) > 2000 else text.replace(content.decode("utf-8", "replace"), "")


def _refuse(name: str) -> NoReturn:
    raise AssertionError(f"{name} in an answer")
