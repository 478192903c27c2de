"""The server beside the bare engine, on loopback, in the same run: throughput, latency by load, overload, fairness.

    python -m benchmarks.serve_load [--seconds 20] [--rounds 3] [--output FILE.json]

Requests hold 20 documents of 100 tokens, no two alike. The bare engine is `Grader.grade` on requests of the same kind,
in this process, with as many threads; both take turns, so that a busy machine is busy for both. The clock of a request
runs from sending to the last byte; the load generator shares the cores with the server. The last line is JSON.
"""

import argparse
import asyncio
import json
import os
import statistics
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.clients import serving
from benchmarks.load_http import Outcome, closed_loop, open_loop, requests_of, send
from relgrade.grade.grader import Grader

N_DOCUMENTS, N_WORDS = 20, 100
LOADS = (0.5, 0.8, 1.2)
LONG_DOCUMENTS = 200  # of the request that short ones must not wait for


def bare_rate(grader: Grader, bodies: Iterator[dict[str, Any]], *, seconds: float) -> float:
    """Requests a second of the engine alone."""
    start, n = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        body = next(bodies)
        grader.grade(body["query"], body["documents"])
        n += 1
    return n / (time.perf_counter() - start)


def resident_mb(url: str) -> float:
    """Of the server's process."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as response:
        for line in response.read().decode().splitlines():
            if line.startswith("process_resident_memory_bytes "):
                return float(line.split()[1]) / 2**20
    return float("nan")


class Peak:
    """The largest memory of the server while a block runs."""

    def __init__(self, url: str) -> None:
        self._url, self._stop, self.mb = url, threading.Event(), 0.0
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            self.mb = max(self.mb, resident_mb(self._url))

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


async def fairness(url: str, *, n: int) -> dict[str, float]:
    """Median latency of requests of three documents, alone and while one of many documents runs."""
    import httpx

    short = requests_of(5, n_documents=3, n_words=N_WORDS)
    long = requests_of(6, n_documents=LONG_DOCUMENTS, n_words=N_WORDS)
    alone, beside, whole = Outcome(), Outcome(), Outcome()
    async with httpx.AsyncClient(base_url=url, timeout=120) as client:
        for _ in range(n):
            await send(client, next(short), alone)
        task = asyncio.create_task(send(client, next(long), whole))
        await asyncio.sleep(0.3)
        while not task.done() and len(beside.latencies_s) < n:
            await send(client, next(short), beside)
        await task
    return {
        "short_alone_ms": round(alone.quantile_ms(0.5), 1),
        "short_beside_long_ms": round(beside.quantile_ms(0.5), 1),
        "short_beside_long_p95_ms": round(beside.quantile_ms(0.95), 1),
        "n_beside": len(beside.latencies_s),
        "long_ms": round(whole.quantile_ms(0.5), 1),
    }


def measure(*, seconds: float, rounds: int, batch_tokens: int) -> dict[str, Any]:
    """All phases."""
    grader = Grader.load()
    bodies = [requests_of(seed, n_documents=N_DOCUMENTS, n_words=N_WORDS) for seed in range(3)]
    found: dict[str, Any] = {"cores": os.cpu_count(), "documents": N_DOCUMENTS, "tokens": N_WORDS}
    with serving("--batch-tokens", str(batch_tokens)) as url:
        bare_rate(grader, bodies[0], seconds=2)  # both warm
        asyncio.run(closed_loop(url, bodies[1], n_clients=2, seconds=2))
        bare, served = [], []
        for _ in range(rounds):
            bare.append(bare_rate(grader, bodies[0], seconds=seconds))
            outcome = asyncio.run(closed_loop(url, bodies[1], n_clients=8, seconds=seconds))
            served.append(outcome.goodput())
        ratio = statistics.median(s / b for s, b in zip(served, bare, strict=True))
        capacity = statistics.median(served)
        found |= {
            "bare_requests_per_s": [round(r, 2) for r in bare],
            "served_requests_per_s": [round(r, 2) for r in served],
        }
        found["served_over_bare"] = round(ratio, 3)
        print(json.dumps(found), flush=True)
        for load in LOADS:
            outcome = asyncio.run(
                open_loop(url, bodies[2], per_s=load * capacity, seconds=seconds, seed=int(load * 10))
            )
            found[f"load_{int(load * 100)}"] = outcome.told()
            print(load, json.dumps(outcome.told()), flush=True)
        before = resident_mb(url)
        overloaded, ratios = [], []
        with Peak(url) as peak:
            for round_ in range(rounds):  # beside a peak of the same minute
                best = asyncio.run(closed_loop(url, bodies[1], n_clients=8, seconds=seconds)).goodput()
                each = asyncio.run(open_loop(url, bodies[2], per_s=2 * best, seconds=seconds, seed=20 + round_))
                overloaded.append(each.told())
                ratios.append(each.goodput() / best)
        found["load_200"] = overloaded
        found["goodput_at_200_over_peak"] = round(statistics.median(ratios), 3)
        found["memory_mb"] = {"before": round(before), "peak_at_200": round(peak.mb)}
        found["fairness"] = asyncio.run(fairness(url, n=20))
    return found


def main() -> None:
    """Print and perhaps write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-tokens", type=int, default=1024)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    found = measure(seconds=arguments.seconds, rounds=arguments.rounds, batch_tokens=arguments.batch_tokens)
    if arguments.output:
        arguments.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
