"""Runs the pairs of all requests in micro-batches, on worker threads, and lives on one event loop.

A micro-batch takes pairs of one model up to a token budget, from as many requests as fit. Most of it goes to the
request with the fewest tokens left, so that a short one never waits for a long one; a share goes to the oldest, unless
another micro-batch reads it already, so that a long one always ends. What ends with a micro-batch does not wait for
pairs of others that do not. It knows texts and logits and nothing of HTTP.
"""

import asyncio
import logging
import math
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade.grade.runtime import Runtime, RuntimeOutput
from relgrade.serve.refusals import DeadlinePassed, Overloaded

OLDEST_SHARE = 0.25  # of a micro-batch, for the request that came first
LONG_BATCHES = 4  # of so many a request is long; alone, it takes half of one, so that who comes next waits less
_PAIR_TOKENS = 8  # what a pair costs beside its document
_RATE_MEMORY = 0.9  # weight of the past in the measured tokens per second

_logger = logging.getLogger("relgrade.serve")


@dataclass(eq=False)
class Job:
    """The pairs of one request that a model must read. Rows are filled as they are done."""

    model: Any  # identity decides which jobs share a micro-batch
    runtime: Runtime
    pairs: Sequence[tuple[str, str]]
    costs: Sequence[int]  # tokens of each pair, about
    deadline_s: float  # of time.monotonic
    logits: NDArray[np.float64] = field(init=False)  # (n_pairs,) NaN where no finite logit came
    truncated: NDArray[np.bool_] = field(init=False)
    windows: NDArray[np.int64] = field(init=False)
    is_done: NDArray[np.bool_] = field(init=False)
    queued_s: float = field(default_factory=time.monotonic)
    started_s: float | None = None  # when the first pair began
    run_s: float = 0.0  # of the micro-batches it was part of
    progress: asyncio.Event = field(default_factory=asyncio.Event)  # set whenever rows are done, or the job has ended
    error: Exception | None = None  # ended without all rows

    def __post_init__(self) -> None:
        n = len(self.pairs)
        self.logits, self.truncated = np.full(n, np.nan), np.zeros(n, np.bool_)
        self.windows, self.is_done = np.zeros(n, np.int64), np.zeros(n, np.bool_)
        self.n_taken = 0
        self.tokens_left = sum(self.costs)

    @property
    def is_ended(self) -> bool:
        """Nothing more will come."""
        return self.error is not None or bool(self.is_done.all())


@dataclass(frozen=True, slots=True)
class BatchReport:
    """One micro-batch, for the metrics."""

    n_pairs: int
    n_jobs: int
    tokens: int
    fill: float  # tokens over the budget
    seconds: float


@dataclass(frozen=True, slots=True)
class _Batch:
    """A micro-batch that runs."""

    jobs: frozenset[Job]
    began_s: float  # of time.monotonic


class Scheduler:
    """See the module.

    Args:
        executor: of at least `n_workers` threads.
        batch_tokens: budget of a micro-batch; a single longer pair still makes one.
        n_workers: micro-batches in flight.
        max_pairs: that wait or run; a job is taken whatever its size while nothing else is there.
        max_wait_s: a job that would wait longer is refused.
        on_batch: is told of each micro-batch.
    """

    def __init__(
        self,
        executor: Executor,
        *,
        batch_tokens: int,
        n_workers: int,
        max_pairs: int,
        max_wait_s: float,
        on_batch: Callable[[BatchReport], None] = lambda report: None,
    ) -> None:
        self._executor = executor
        self._batch_tokens, self._n_workers, self._max_pairs = batch_tokens, n_workers, max_pairs
        self._max_wait_s = max_wait_s
        self._on_batch = on_batch
        self._jobs: list[Job] = []  # with pairs not taken yet, in order of arrival
        self._running: set[asyncio.Task[None]] = set()
        self._batches: dict[int, _Batch] = {}  # by identity of their rows: micro-batches that run
        self.n_pairs = 0  # that wait or run
        self.tokens = 0  # of them
        self.tokens_per_s: float | None = None  # measured; None: nothing ran yet
        self._busy_since_s = 0.0
        self._n_batches = 0
        self._served: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()  # model -> its last micro-batch

    def is_stuck(self, limit_s: float) -> bool:
        """Every worker has been at its micro-batch for longer than `limit_s` seconds: nothing will be judged."""
        latest_s = time.monotonic() - limit_s
        return len(self._batches) == self._n_workers and all(each.began_s < latest_s for each in self._batches.values())

    def expected_wait_s(self, tokens: float = math.inf) -> float:
        """Seconds until a job of so many tokens would begin; 0 while nothing was measured.

        Only what runs and what has fewer tokens left goes before it, at the share that is not the oldest job's.
        """
        if self.tokens_per_s is None:
            return 0.0
        waiting = [job.tokens_left for job in self._jobs]
        ahead = self.tokens - sum(waiting) + sum(left for left in waiting if left <= tokens)
        return ahead / (self.tokens_per_s * (1.0 - OLDEST_SHARE if len(waiting) > 1 else 1.0))

    def require_room(self, n_pairs: int, *, tokens: int, remaining_s: float = math.inf) -> None:
        """Refuse early what would only wait.

        Raises:
            Overloaded: the queue is full, or the pairs would not be done in the time that remains.
        """
        if self.n_pairs == 0:
            return
        wait_s = self.expected_wait_s(tokens)
        if self.n_pairs + n_pairs > self._max_pairs or wait_s > self._max_wait_s:
            raise Overloaded("too many documents are waiting; try again later", retry_after_s=wait_s / 2)
        if wait_s + tokens / (self.tokens_per_s or math.inf) > remaining_s:
            raise Overloaded(
                "the documents that wait leave no time for these before the deadline; try again later",
                retry_after_s=wait_s / 2,
            )

    def submit(self, job: Job) -> None:
        """Queue a job whose room was checked. Watch `progress`."""
        if not len(job.pairs):
            job.progress.set()
            return
        self.n_pairs += len(job.pairs)
        self.tokens += job.tokens_left
        self._jobs.append(job)
        self._fill()

    def abandon(self, job: Job, error: Exception) -> None:
        """Take no more pairs of a job; those that run are let end."""
        if job.is_ended:
            return
        job.error = error
        self._drop(job)
        job.progress.set()

    def _drop(self, job: Job) -> None:
        """Forget the pairs that were not taken."""
        if job in self._jobs:
            self._jobs.remove(job)
            n_left = len(job.pairs) - job.n_taken
            self.n_pairs -= n_left
            self.tokens -= job.tokens_left
            job.n_taken, job.tokens_left = len(job.pairs), 0

    def _fill(self) -> None:
        while len(self._running) < self._n_workers:
            rows = self._compose()
            if not rows:
                return
            if not self._running:
                self._busy_since_s = time.monotonic()
            self._batches[id(rows)] = _Batch(frozenset(job for job, _ in rows), time.monotonic())
            task = asyncio.get_running_loop().create_task(self._run(rows))
            self._running.add(task)

    def _compose(self) -> list[tuple[Job, int]]:
        """Job and row of each pair of the next micro-batch, the longest first."""
        now_s = time.monotonic()
        for job in [job for job in self._jobs if job.deadline_s <= now_s]:
            self.abandon(job, DeadlinePassed("the documents were not judged in time"))
        if not self._jobs:
            return []
        # The model that waited longest for its turn, and of its jobs the oldest: `min` takes the first of equals.
        oldest = min(self._jobs, key=lambda job: self._served.get(job.model, 0))
        self._n_batches += 1
        self._served[oldest.model] = self._n_batches
        rows: list[tuple[Job, int]] = []
        room = self._batch_tokens
        if not any(oldest in batch.jobs for batch in self._batches.values()):
            share = int(room * OLDEST_SHARE)
            room += self._take(oldest, rows, share) - share
        same = [job for job in self._jobs if job.model is oldest.model]
        for job in sorted(same, key=lambda job: job.tokens_left):
            if job.tokens_left > room and any(not other.tokens_left for other, _ in rows):
                break
            if job.tokens_left > LONG_BATCHES * self._batch_tokens:
                room -= self._batch_tokens // 2
            room = self._take(job, rows, room)
            if room <= 0:
                break
        for job in {job for job, _ in rows}:
            job.started_s = now_s if job.started_s is None else job.started_s
        self._jobs = [job for job in self._jobs if job.n_taken < len(job.pairs)]
        return sorted(rows, key=lambda place: -place[0].costs[place[1]])

    def _take(self, job: Job, rows: list[tuple[Job, int]], room: int) -> int:
        """Move pairs of a job into the micro-batch; returns the room that is left. Its first pair needs none."""
        while job.n_taken < len(job.pairs):
            cost = job.costs[job.n_taken]
            if cost > room and rows:
                break
            rows.append((job, job.n_taken))
            job.n_taken += 1
            job.tokens_left -= cost
            room -= cost
        return max(room, 0)

    async def _run(self, rows: list[tuple[Job, int]]) -> None:
        start_s = time.monotonic()
        pairs = [job.pairs[row] for job, row in rows]
        loop = asyncio.get_running_loop()
        try:
            output = await loop.run_in_executor(self._executor, score_each, rows[0][0].runtime, pairs)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # no thread could be started, or all were told to end
            _logger.error("a micro-batch was lost: %s", type(error).__name__)
            output = unscored(len(pairs))  # what nobody is told of would wait until its deadline
        finally:
            self._running.discard(asyncio.current_task())
            del self._batches[id(rows)]
            tokens = sum(job.costs[row] for job, row in rows)
            self.n_pairs -= len(rows)
            self.tokens -= tokens
        self._measure(tokens)
        seconds = time.monotonic() - start_s
        for i, (job, row) in enumerate(rows):
            job.logits[row], job.truncated[row] = output.logits[i], output.truncated[i]
            job.windows[row], job.is_done[row] = output.windows[i], True
        jobs = {job for job, _ in rows}
        for job in jobs:
            job.run_s += seconds
            job.progress.set()
        self._on_batch(BatchReport(len(rows), len(jobs), tokens, tokens / self._batch_tokens, seconds))
        self._fill()

    def _measure(self, tokens: int) -> None:
        """Tokens per second while there is work: what the next request can count on."""
        now_s = time.monotonic()
        rate = tokens / max(now_s - self._busy_since_s, 1e-6)
        self._busy_since_s = now_s
        past = rate if self.tokens_per_s is None else self.tokens_per_s
        # Two micro-batches that end together would show an endless rate; the weight of one is its share of the budget.
        weight = (1 - _RATE_MEMORY) * min(1.0, tokens / self._batch_tokens)
        self.tokens_per_s = 1.0 / ((1 - weight) / past + weight / rate)


def score_each(runtime: Runtime, pairs: Sequence[tuple[str, str]]) -> RuntimeOutput:
    """Logits of pairs; where the runtime fails, those of the others all the same, and NaN for the one that fails it."""
    try:
        output = runtime.score(pairs)
        if np.shape(output.logits) != (len(pairs),):
            raise ValueError(f"logits of shape {np.shape(output.logits)} for {len(pairs)} pairs")
        return output
    except BaseException as error:  # SystemExit too: it ends this thread at most, and says nothing of the other pairs
        if len(pairs) == 1:
            # Without the text of the pair: what a document says is not for the log.
            _logger.error("a pair cannot be scored: %s", type(error).__name__)
            return unscored(1)
        half = len(pairs) // 2
        parts = [score_each(runtime, pairs[:half]), score_each(runtime, pairs[half:])]
        return RuntimeOutput(
            np.concatenate([part.logits for part in parts]),
            np.concatenate([part.truncated for part in parts]),
            np.concatenate([part.windows for part in parts]),
        )


def unscored(n_pairs: int) -> RuntimeOutput:
    """What is known of pairs that the model did not read: no finite logit."""
    return RuntimeOutput(np.full(n_pairs, np.nan), np.zeros(n_pairs, np.bool_), np.zeros(n_pairs, np.int64))


def pair_cost(n_tokens: int, *, limit: int) -> int:
    """Tokens that a document of so many costs."""
    return min(n_tokens, limit) + _PAIR_TOKENS
