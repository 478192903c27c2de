"""A load generator for `POST /v1/grade`: closed loop, open loop with Poisson arrivals, and what came of it."""

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

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


@dataclass
class Outcome:
    """What came of a phase."""

    seconds: float = 0.0
    n_sent: int = 0
    latencies_s: list[float] = field(default_factory=list)  # of the answered
    statuses: dict[int, int] = field(default_factory=dict)  # 0: no answer at all
    refused_s: list[float] = field(default_factory=list)  # how long a refusal took

    def goodput(self) -> float:
        """Answered requests a second."""
        return len(self.latencies_s) / self.seconds

    def quantile_ms(self, share: float) -> float:
        """Of the answered, in milliseconds; NaN for none."""
        ordered = sorted(self.latencies_s)
        return 1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")

    def told(self) -> dict[str, Any]:
        """As JSON."""
        quantiles = {f"p{int(s * 100)}_ms": round(self.quantile_ms(s), 1) for s in (0.5, 0.95, 0.99)}
        refused = (
            {}
            if not self.refused_s
            else {"refusal_p95_ms": round(1e3 * sorted(self.refused_s)[int(0.95 * len(self.refused_s))], 1)}
        )
        statuses = {str(status): n for status, n in sorted(self.statuses.items())}
        return {"requests_per_s": round(self.goodput(), 2), **quantiles, **refused, "statuses": statuses}


def requests_of(seed: int, *, n_documents: int, n_words: int) -> Iterator[dict[str, Any]]:
    """Requests without end, no two alike."""
    chance = random.Random(seed)
    while True:
        texts = [" ".join(chance.choices(WORDS, k=n_words)) for _ in range(n_documents)]
        yield {"query": " ".join(chance.choices(WORDS, k=8)), "documents": texts}


async def send(client: httpx.AsyncClient, body: dict[str, Any], outcome: Outcome) -> None:
    """One request, noted."""
    start = time.perf_counter()
    outcome.n_sent += 1
    try:
        response = await client.post(
            "/v1/grade", content=json.dumps(body), headers={"content-type": "application/json"}
        )
        status = response.status_code
        if status == 200:
            assert len(response.json()["results"]) == len(body["documents"])
    except httpx.HTTPError:
        status = 0
    seconds = time.perf_counter() - start
    outcome.statuses[status] = outcome.statuses.get(status, 0) + 1
    if status == 200:
        outcome.latencies_s.append(seconds)
    elif status == 429:
        outcome.refused_s.append(seconds)


async def closed_loop(url: str, bodies: Iterator[dict[str, Any]], *, n_clients: int, seconds: float) -> Outcome:
    """So many clients, each with one request in flight."""
    outcome = Outcome()
    end = time.perf_counter() + seconds

    async def work(client: httpx.AsyncClient) -> None:
        while time.perf_counter() < end:
            await send(client, next(bodies), outcome)

    start = time.perf_counter()
    async with httpx.AsyncClient(base_url=url, timeout=120) as client:
        await asyncio.gather(*(work(client) for _ in range(n_clients)))
    outcome.seconds = time.perf_counter() - start
    return outcome


async def open_loop(
    url: str,
    bodies: Iterator[dict[str, Any]],
    *,
    per_s: float,
    seconds: float,
    seed: int,
    watch: Callable[[], None] = lambda: None,
) -> Outcome:
    """Arrivals that do not wait for answers, at random times."""
    outcome, chance = Outcome(), random.Random(seed)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=200)
    tasks: list[asyncio.Task[None]] = []
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        start = time.perf_counter()
        due = start
        while due - start < seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(send(client, next(bodies), outcome)))
            due += chance.expovariate(per_s)
            watch()
        await asyncio.gather(*tasks)
        outcome.seconds = time.perf_counter() - start
    return outcome
