"""A load generator for `POST /v1/grade`: closed loop, open loop with Poisson arrivals, and what came of it.

`Generator` runs it in a process of its own, so that it takes no time of the server's interpreter or of the caller's.
"""

import asyncio
import json
import multiprocessing
import random
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

# One token each for the tokenizers of BERT's family, so that a document of 100 words has 100 tokens.
WORDS = (  # noqa: SIM905
    "red green blue white black house river stone light water paper metal glass train road city village "
    "market school winter summer spring morning evening music letter number answer question story history "
    "science nature animal horse bird fish tree flower garden field mountain island bridge tower church king "
    "queen army ship engine machine power energy heat cold wind rain snow fire earth gold silver iron copper "
    "salt sugar bread milk meat fruit oil wood cotton wool cloth colour shape line circle square angle weight "
    "speed distance time year month week day hour"
).split()

_TIMEOUT_S = 1200  # the server's deadline comes first


@dataclass(frozen=True, slots=True)
class Bodies:
    """Names requests, so that two processes can make the same ones."""

    seed: int
    n_documents: int
    n_words: int

    def made(self) -> Iterator[dict[str, Any]]:
        """See `requests_of`."""
        return requests_of(self.seed, n_documents=self.n_documents, n_words=self.n_words)


@dataclass
class Outcome:
    """What came of a phase."""

    seconds: float = 0.0
    cpu_s: float = 0.0  # of the generator
    n_sent: int = 0
    latencies_s: list[float] = field(default_factory=list)  # of the answered
    statuses: dict[int, int] = field(default_factory=dict)  # 0: no answer at all
    refused_s: list[float] = field(default_factory=list)  # how long a refusal took
    n_retry_after: int = 0  # refusals that say when to come back

    def goodput(self) -> float:
        """Answered requests a second."""
        return len(self.latencies_s) / self.seconds

    def quantile_ms(self, share: float) -> float:
        """Of the answered, in milliseconds; NaN for none."""
        return _quantile_ms(self.latencies_s, share)

    def told(self) -> dict[str, Any]:
        """As JSON."""
        told: dict[str, Any] = {
            "sent": self.n_sent,
            "answered_per_s": round(self.goodput(), 2),
            **{f"p{int(share * 100)}_ms": round(self.quantile_ms(share), 1) for share in (0.5, 0.95, 0.99)},
            "statuses": {str(status): n for status, n in sorted(self.statuses.items())},
        }
        if self.refused_s:
            told["refusal_p50_ms"] = round(_quantile_ms(self.refused_s, 0.5), 1)
            told["refusal_p95_ms"] = round(_quantile_ms(self.refused_s, 0.95), 1)
            told["refusals_with_retry_after"] = self.n_retry_after
        return told


def _quantile_ms(seconds: list[float], share: float) -> float:
    ordered = sorted(seconds)
    return 1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def requests_of(seed: int, *, n_documents: int, n_words: int) -> Iterator[dict[str, Any]]:
    """Requests without end, no two alike."""
    chance = random.Random(seed)
    while True:
        texts = [" ".join(chance.choices(WORDS, k=n_words)) for _ in range(n_documents)]
        yield {"query": " ".join(chance.choices(WORDS, k=8)), "documents": texts}


async def send(client: httpx.AsyncClient, body: dict[str, Any], outcome: Outcome) -> float:
    """One request, noted; returns the seconds that the server asks to wait for, 0.0 unless it was refused."""
    content = json.dumps(body)
    start_s = time.perf_counter()
    outcome.n_sent += 1
    try:
        response = await client.post("/v1/grade", content=content, headers={"content-type": "application/json"})
        status = response.status_code
    except httpx.HTTPError:
        status = 0
    seconds = time.perf_counter() - start_s
    outcome.statuses[status] = outcome.statuses.get(status, 0) + 1
    if status == 200:
        outcome.latencies_s.append(seconds)
        n_results = len(response.json()["results"])
        if n_results != len(body["documents"]):
            raise RuntimeError(f"{n_results} results for {len(body['documents'])} documents")
    elif status == 429:
        outcome.refused_s.append(seconds)
        outcome.n_retry_after += int(response.headers.get("retry-after", "0")) >= 1
        return float(response.headers.get("retry-after-ms", "1000")) / 1e3
    return 0.0


async def closed_loop(url: str, bodies: Bodies, *, n_clients: int, seconds: float) -> Outcome:
    """So many clients, each with one request in flight; a refused one waits as it is told."""
    outcome, made = Outcome(), bodies.made()
    async with httpx.AsyncClient(base_url=url, timeout=_TIMEOUT_S, verify=False) as client:
        start_s, cpu_s = time.perf_counter(), time.process_time()

        async def work() -> None:
            while time.perf_counter() - start_s < seconds:
                await asyncio.sleep(await send(client, next(made), outcome))

        await asyncio.gather(*(work() for _ in range(n_clients)))
        outcome.seconds, outcome.cpu_s = time.perf_counter() - start_s, time.process_time() - cpu_s
    return outcome


async def open_loop(url: str, bodies: Bodies, *, per_s: float, seconds: float) -> Outcome:
    """Arrivals that do not wait for answers, at random times."""
    outcome, chance, made = Outcome(), random.Random(bodies.seed), bodies.made()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=200)
    tasks: list[asyncio.Task[float]] = []
    async with httpx.AsyncClient(base_url=url, timeout=_TIMEOUT_S, verify=False, limits=limits) as client:
        start_s, cpu_s = time.perf_counter(), time.process_time()
        due_s = start_s
        while due_s - start_s < seconds:
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            tasks.append(asyncio.create_task(send(client, next(made), outcome)))
            due_s += chance.expovariate(per_s)
        await asyncio.gather(*tasks)
        outcome.seconds, outcome.cpu_s = time.perf_counter() - start_s, time.process_time() - cpu_s
    return outcome


async def beside(url: str, short: Bodies, long: Bodies, *, n: int) -> tuple[Outcome, Outcome]:
    """One long request, and short ones one after another while it runs, at most `n`; outcomes of both, short first."""
    outcome, whole = Outcome(), Outcome()
    made = short.made()
    async with httpx.AsyncClient(base_url=url, timeout=_TIMEOUT_S, verify=False) as client:
        start_s = time.perf_counter()
        task = asyncio.create_task(send(client, next(long.made()), whole))
        await asyncio.sleep(0.3)
        while not task.done() and outcome.n_sent < n:
            await send(client, next(made), outcome)
        outcome.seconds = time.perf_counter() - start_s
        await task
        whole.seconds = time.perf_counter() - start_s
    return outcome, whole


class Generator:
    """A process that makes load; its calls return when the phase is over. Use it in a `with` block."""

    def __init__(self, url: str) -> None:
        self._url = url
        # Spawned: a fork would carry this process's threads' locks along.
        self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))

    def closed(self, bodies: Bodies, *, n_clients: int, seconds: float) -> Outcome:
        """See `closed_loop`."""
        return self._pool.submit(_run_closed, self._url, bodies, n_clients, seconds).result()

    def open(self, bodies: Bodies, *, per_s: float, seconds: float) -> Outcome:
        """See `open_loop`."""
        return self._pool.submit(_run_open, self._url, bodies, per_s, seconds).result()

    def beside(self, short: Bodies, long: Bodies, *, n: int) -> tuple[Outcome, Outcome]:
        """See the function of that name."""
        done: Future[tuple[Outcome, Outcome]] = self._pool.submit(_run_beside, self._url, short, long, n)
        return done.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()


def _run_closed(url: str, bodies: Bodies, n_clients: int, seconds: float) -> Outcome:
    return asyncio.run(closed_loop(url, bodies, n_clients=n_clients, seconds=seconds))


def _run_open(url: str, bodies: Bodies, per_s: float, seconds: float) -> Outcome:
    return asyncio.run(open_loop(url, bodies, per_s=per_s, seconds=seconds))


def _run_beside(url: str, short: Bodies, long: Bodies, n: int) -> tuple[Outcome, Outcome]:
    return asyncio.run(beside(url, short, long, n=n))
