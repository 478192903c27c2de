"""Clients with requests whose grades are known: they say whether a fault elsewhere cost or changed an answer."""

import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Self

import httpx

from benchmarks.load_http import requests_of
from relgrade.grade.grader import Grader

N_REQUESTS, N_DOCUMENTS, N_WORDS = 40, 3, 30
PATIENCE_S = 180.0  # for a condition to come true, on a machine that is busy with other work


class Known:
    """Requests, and the logits that the library gives their documents."""

    def __init__(self, grader: Grader, *, seed: int = 0) -> None:
        made = requests_of(seed, n_documents=N_DOCUMENTS, n_words=N_WORDS)
        self.bodies = [next(made) for _ in range(N_REQUESTS)]
        self.logits = [
            [grade.logit for grade in grader.grade(body["query"], body["documents"])] for body in self.bodies
        ]


class HealthyClients:
    """Threads that ask one request after another while a block runs.

    A request whose connection is refused was never taken, and is sent again. One whose connection breaks is lost.

    Args:
        url: of the server, also while it is down.
        known: what is asked.
        n_clients: requests in flight.
    """

    def __init__(self, url: str, known: Known, *, n_clients: int = 3) -> None:
        self._url, self._known = url, known
        self.n_clients = n_clients
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.lost: list[tuple[float, float]] = []  # of time.monotonic: when they were sent, and when they broke
        self.slowest_s = 0.0
        self._threads = [threading.Thread(target=self._ask, args=(seed,)) for seed in range(n_clients)]

    def _ask(self, seed: int) -> None:
        chance = random.Random(seed)
        with httpx.Client(base_url=self._url, timeout=PATIENCE_S, verify=False) as client:
            while not self._stop.is_set():
                number = chance.randrange(len(self._known.bodies))
                start_s = time.monotonic()
                what = self._outcome(client, number)
                with self._lock:
                    self.counts[what] += 1
                    if what == "right":
                        self.slowest_s = max(self.slowest_s, time.monotonic() - start_s)
                    elif what == "lost":
                        self.lost.append((start_s, time.monotonic()))
                if what in ("not taken", "refused"):
                    self._stop.wait(0.1)

    def _outcome(self, client: httpx.Client, number: int) -> str:
        try:
            response = client.post("/v1/grade", json=self._known.bodies[number])
        except httpx.ConnectError:
            return "not taken"
        except httpx.HTTPError:
            return "lost"
        if response.status_code != 200:
            return "refused" if response.status_code == 429 else f"status {response.status_code}"
        found = [row["logit"] for row in response.json()["results"]]
        return "right" if found == self._known.logits[number] else "wrong"

    def wait_for_more(self, n: int) -> None:
        """Until so many more requests have been answered rightly.

        Raises:
            RuntimeError: they were not, in `PATIENCE_S` seconds.
        """
        goal = self.counts["right"] + n
        end_s = time.monotonic() + PATIENCE_S
        while self.counts["right"] < goal:
            if time.monotonic() > end_s:
                raise RuntimeError(f"healthy requests are not answered any more: {dict(self.counts)}")
            time.sleep(0.02)

    def told(self, *, deaths: Sequence[tuple[float, float]] = (), expected: Sequence[str] = ()) -> dict[str, Any]:
        """What came of them.

        Args:
            deaths: when the server was killed and when it was gone, of time.monotonic; what was in flight then is lost.
            expected: other outcomes that belong to the fault.
        """
        beyond = [
            (sent_s, broke_s)
            for sent_s, broke_s in self.lost
            if not any(sent_s <= gone_s and broke_s >= killed_s for killed_s, gone_s in deaths)
        ]
        is_known = not set(self.counts) - {"right", "refused", "not taken", "lost", *expected}
        return {
            "answered": self.counts["right"] + self.counts["wrong"],
            "wrong": self.counts["wrong"],
            "lost_in_flight": len(self.lost) - len(beyond),
            "lost_beyond": len(beyond),
            "outcomes": dict(sorted(self.counts.items())),
            "slowest_s": round(self.slowest_s, 2),
            "ok": is_known and not beyond and self.counts["right"] > 0,
        }

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.wait_for_more(self.n_clients)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
