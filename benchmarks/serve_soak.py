"""The server for half an hour under requests of random kinds and lengths: memory, errors, and whether grades change.

    python -m benchmarks.serve_soak [--minutes 30] [--output FILE.json]

Requests have 1 to 40 documents of 1 to 1,500 words, most of them short; some ask for evidence, for lines, or in another
dialect; some are wrong, and some clients leave before the answer. One request of known texts comes again and again, and
must get the library's logits each time. A refusal for lack of room is no error: the client waits and asks again. Memory
is read every 10 seconds. Growth is that of the last two minutes over minutes 5 to 7, medians; the peak after minute 5
stands beside it. The server has a cache of results, small enough to be full by then. The last line is JSON.
"""

import argparse
import asyncio
import json
import random
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.load_http import WORDS, requests_of
from benchmarks.server_process import ServerProcess, machine, n_open_files, n_threads, proportional_mb, resident_mb
from relgrade.grade.grader import Grader

EACH_S = 10.0  # between two readings of memory
SETTLED_MINUTE = 5.0
WINDOW_MINUTES = 2.0  # of the two medians that are compared
MAX_GROWTH = 0.05
CACHE_ENTRIES = 500
LIMITS = {"documents": 40, "words": 1500}
_LEAVES_AFTER_S = 0.5


def random_body(chance: random.Random) -> tuple[str, dict[str, Any], str]:
    """Route, body and kind of the next request. Lengths are spread evenly over their logarithms."""
    n_documents = int(LIMITS["documents"] ** chance.random())
    texts = [" ".join(chance.choices(WORDS, k=int(LIMITS["words"] ** chance.random()))) for _ in range(n_documents)]
    query = " ".join(chance.choices(WORDS, k=chance.randint(1, 20)))
    kind = chance.choices(
        ("grade", "evidence", "lines", "cohere", "tei", "wrong", "leaves"), weights=(40, 10, 10, 15, 15, 5, 5)
    )[0]
    if kind == "cohere":
        return "/v2/rerank", {"model": "default", "query": query, "documents": texts}, kind
    if kind == "tei":
        return "/rerank", {"query": query, "texts": texts}, kind
    if kind == "wrong":
        return "/v1/grade", {"query": query, "documents": [*texts, 7]}, kind
    told = {"evidence": kind == "evidence", "stream": kind == "lines"}
    return "/v1/grade", {"query": query, "documents": [". ".join(text.split("time")) for text in texts], **told}, kind


class Soak:
    """Clients, a watch over memory, and what both saw."""

    def __init__(self, server: ServerProcess, *, known: dict[str, Any], logits: list[float], seed: int) -> None:
        self._server, self._known, self._logits = server, known, logits
        self._chance = random.Random(seed)
        self.kinds: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        self.n_documents = self.n_checked = self.n_wrong = self.n_refused = 0
        self.samples: list[dict[str, float]] = []

    async def run(self, *, minutes: float, n_clients: int) -> None:
        """Until the time is over."""
        start_s = time.monotonic()
        end_s = start_s + minutes * 60
        async with httpx.AsyncClient(base_url=self._server.url, timeout=300) as client:
            clients = [self._ask_until(client, end_s) for _ in range(n_clients)]
            await asyncio.gather(self._watch(start_s, end_s), *clients)

    async def _watch(self, start_s: float, end_s: float) -> None:
        while (now_s := time.monotonic()) < end_s:
            pid = self._server.pid
            self.samples.append(
                {
                    "minute": round((now_s - start_s) / 60, 3),
                    "rss_mb": round(resident_mb(pid), 1),
                    "pss_mb": round(proportional_mb(pid), 1),
                    "files": n_open_files(pid),
                    "threads": n_threads(pid),
                    "requests": self.statuses.total(),
                }
            )
            await asyncio.sleep(min(EACH_S, max(0.0, end_s - time.monotonic())))

    async def _ask_until(self, client: httpx.AsyncClient, end_s: float) -> None:
        while time.monotonic() < end_s:
            if self._chance.random() < 0.1:
                await self._check(client)
            else:
                await self._ask(client)

    async def _ask(self, client: httpx.AsyncClient) -> None:
        route, body, kind = random_body(self._chance)
        self.kinds[kind] += 1
        timeout = httpx.Timeout(300, read=_LEAVES_AFTER_S if kind == "leaves" else 300)
        try:
            response = await self._post(client, route, body, timeout=timeout)
            status = str(response.status_code)
            if kind == "lines" and '"object":"end"' not in response.text:
                status = "cut lines"
        except httpx.ReadTimeout:
            status = "left"
        except httpx.HTTPError as error:
            status = type(error).__name__
        self.statuses[f"{kind} {status}"] += 1
        self.n_documents += len(body.get("documents", body.get("texts", ()))) if status == "200" else 0

    async def _post(
        self, client: httpx.AsyncClient, route: str, body: dict[str, Any], *, timeout: httpx.Timeout | float = 300
    ) -> httpx.Response:
        while True:
            response = await client.post(route, json=body, timeout=timeout)
            if response.status_code != 429:
                return response
            self.n_refused += 1
            await asyncio.sleep(float(response.headers["retry-after-ms"]) / 1e3)

    async def _check(self, client: httpx.AsyncClient) -> None:
        response = await self._post(client, "/v1/grade", self._known)
        self.kinds["known"] += 1
        self.statuses[f"known {response.status_code}"] += 1
        if response.status_code == 200:
            self.n_checked += 1
            self.n_wrong += [row["logit"] for row in response.json()["results"]] != self._logits

    def errors(self) -> dict[str, int]:
        """Outcomes that a client did not ask for."""
        wanted = {"wrong 422", "leaves left", "leaves 200"}
        return {
            what: n for what, n in sorted(self.statuses.items()) if what not in wanted and not what.endswith(" 200")
        }


def growth(samples: list[dict[str, float]], name: str) -> dict[str, float]:
    """Of one kind of memory after the settled minute."""
    minutes = np.array([sample["minute"] for sample in samples])
    values = np.array([sample[name] for sample in samples])
    late = minutes >= min(SETTLED_MINUTE, minutes[-1] / 2)
    first = values[late & (minutes <= minutes[late][0] + WINDOW_MINUTES)]
    last = values[minutes >= minutes[-1] - WINDOW_MINUTES]
    begin, end = statistics.median(first.tolist()), statistics.median(last.tolist())
    slope = float(np.polyfit(minutes[late], values[late], 1)[0]) * 60 if late.sum() > 2 else float("nan")
    return {
        "begin_mb": round(begin, 1),
        "end_mb": round(end, 1),
        "growth": round(end / begin - 1, 4),
        "peak_mb": round(float(values[late].max()), 1),
        "peak_over_begin": round(float(values[late].max()) / begin - 1, 4),
        "slope_mb_per_hour": round(slope, 2),
    }


def soak(*, minutes: float, n_clients: int, seed: int) -> dict[str, Any]:
    """Run it and tell."""
    known = {**next(requests_of(99, n_documents=6, n_words=60))}
    logits = [grade.logit for grade in Grader.load().grade(known["query"], known["documents"])]
    told = machine()
    options = ["--cache", str(CACHE_ENTRIES), "--timeout", "240", "--max-queue", "20000"]
    with ServerProcess(options) as server:
        run = Soak(server, known=known, logits=logits, seed=seed)
        asyncio.run(run.run(minutes=minutes, n_clients=n_clients))
    memory = {name: growth(run.samples, name) for name in ("rss_mb", "pss_mb")}
    return {
        "machine": told,
        "minutes": minutes,
        "clients": n_clients,
        "requests": run.statuses.total(),
        "documents": run.n_documents,
        "refusals": run.n_refused,
        "kinds": dict(run.kinds),
        "statuses": dict(sorted(run.statuses.items())),
        "errors": run.errors(),
        "known_requests": run.n_checked,
        "known_requests_wrong": run.n_wrong,
        "memory": memory,
        "memory_ok": all(each["growth"] < MAX_GROWTH for each in memory.values()),
        "samples": run.samples,
    }


def table(found: dict[str, Any]) -> str:
    """A row every few minutes."""
    lines = [f"{'minute':>8}{'RSS MB':>9}{'PSS MB':>9}{'files':>7}{'threads':>9}{'requests':>10}"]
    every = max(1, len(found["samples"]) // 15)
    for sample in [*found["samples"][::every], found["samples"][-1]]:
        lines.append(
            f"{sample['minute']:8.1f}{sample['rss_mb']:9.0f}{sample['pss_mb']:9.0f}{sample['files']:7.0f}"
            f"{sample['threads']:9.0f}{sample['requests']:10.0f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Print and perhaps write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    found = soak(minutes=arguments.minutes, n_clients=arguments.clients, seed=arguments.seed)
    if arguments.output:
        arguments.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(found))
    print(json.dumps({name: value for name, value in found.items() if name != "samples"}))


if __name__ == "__main__":
    main()
