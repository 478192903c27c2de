"""Pairs on their way to a model: what is known of them already, and a job for the rest.

Documents are pairs, and so are their sentences; neither the scheduler nor the cache tells them apart. A document too
long to be read at once is a pair for each of its parts, so that the scheduler weighs and interleaves them as it does
documents, and one entry of the cache.
"""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relgrade.grade.documents import PairText
from relgrade.grade.judging import EMPTY_LOGIT, count_tokens
from relgrade.grade.long_documents import LongDocumentRuntime, part_pairs
from relgrade.grade.parts import SplitDocument
from relgrade.grade.runtime import RuntimeOutput
from relgrade.serve.cache import Reading, ResultCache, pair_key
from relgrade.serve.hosted import HostedModel
from relgrade.serve.refusals import ClientGone, DeadlinePassed
from relgrade.serve.scheduler import Job, Scheduler, pair_cost


@dataclass(eq=False)
class Reads:
    """Pairs of one model. Rows count them."""

    items: Sequence[PairText]
    tokens: Sequence[int]  # of each row, as far as it is read
    job: Job
    row_of_job: Sequence[int]  # row of each pair of the job; a row with several has them one after another
    plans: Mapping[int, SplitDocument]  # by row, of documents that are read in parts
    keys: Mapping[int, str]  # by row, of what the job reads, for the cache; empty without one
    known: dict[int, Reading]  # by row: by rule, or from the cache
    n_cached: int

    def __post_init__(self) -> None:
        self._places: dict[int, range] = {}
        for i, row in enumerate(self.row_of_job):
            self._places[row] = range(self._places[row].start if row in self._places else i, i + 1)

    def reading(self, row: int) -> Reading | None:
        """What the model said of a row; None while it has said nothing, or no finite logit."""
        places = self._places.get(row)
        if places is None:
            return self.known.get(row)
        if not self.is_done(row):
            return None
        job = self.job
        plan, runtime = self.plans.get(row), job.model.runtime
        if plan is None or not isinstance(runtime, LongDocumentRuntime):
            i = places.start
            found = Reading(float(job.logits[i]), bool(job.truncated[i]), int(job.windows[i]))
        else:
            output = RuntimeOutput(job.logits, job.truncated, job.windows)
            each = runtime.together(plan, output, places.start)
            found = Reading(each.logit, each.truncated, each.windows, each.span)
        return found if math.isfinite(found.logit) else None

    def is_done(self, row: int) -> bool:
        """True when nothing more will come for a row."""
        return all(bool(self.job.is_done[place]) for place in self._places.get(row, ()))


class Reader:
    """Makes and runs `Reads`.

    Args:
        scheduler: runs pairs.
        executor: for counting tokens.
        cache: None for none.
    """

    def __init__(self, scheduler: Scheduler, executor: Executor, *, cache: ResultCache | None = None) -> None:
        self.scheduler = scheduler
        self.executor = executor
        self._cache = cache

    async def prepare(self, model: HostedModel, items: Sequence[PairText], *, deadline_s: float) -> Reads:
        """Count tokens, look the pairs up and make a job of the rest; nothing is queued yet."""
        limit = model.limit_tokens
        loop = asyncio.get_running_loop()
        counted = await loop.run_in_executor(self.executor, lambda: count_tokens(items, model.runtime, limit=limit))
        tokens = [min(count, limit) for count in counted]
        rows = [row for row, item in enumerate(items) if not item.is_blank]
        known = {row: Reading(EMPTY_LOGIT, False, 0) for row, item in enumerate(items) if item.is_blank}
        keys: dict[int, str] = {}
        n_cached = 0
        if self._cache is not None:
            key_of = {row: pair_key(model.bundle.hash, items[row].query, items[row].text) for row in rows}
            found = await self._cache.get(list(key_of.values()))
            known |= {row: found[key] for row, key in key_of.items() if key in found}
            n_cached = sum(key in found for key in key_of.values())
            rows = [row for row in rows if key_of[row] not in found]
            keys = {row: key_of[row] for row in rows}
        pairs = [(items[row].query, items[row].text) for row in rows]
        runtime = model.runtime
        plans: list[SplitDocument | None] = [None] * len(rows)
        if isinstance(runtime, LongDocumentRuntime):
            plans = await loop.run_in_executor(self.executor, runtime.plan, pairs)
            runtime = runtime.reader
        texts, places = part_pairs(pairs, plans)
        n_parts = [1 if plan is None else len(plan.parts) for plan in plans]
        costs = [pair_cost(-(-tokens[rows[i]] // n_parts[i]), limit=limit) for i in places]
        job = Job(model, runtime, texts, costs, deadline_s)
        split = {row: plan for row, plan in zip(rows, plans, strict=True) if plan is not None}
        return Reads(items, tokens, job, [rows[i] for i in places], split, keys, known, n_cached)

    async def run(self, reads: Reads, *, what: str) -> AsyncGenerator[None, None]:
        """Queue the job and give control back whenever rows are done; the last time when the job has ended.

        Whoever stops taking ends the job. A deadline that passes ends it too, without raising.

        Args:
            reads: prepared.
            what: is read, for the words of an error.
        """
        job = reads.job
        self.scheduler.submit(job)
        try:
            while not job.is_ended:
                job.progress.clear()
                try:
                    async with asyncio.timeout(max(0.0, job.deadline_s - time.monotonic())):
                        await job.progress.wait()
                except TimeoutError:
                    self.scheduler.abandon(job, DeadlinePassed(f"the {what} were not judged in time"))
                if not job.is_ended:
                    yield
        finally:
            self.scheduler.abandon(job, ClientGone("nobody waits for the answer"))
        await self._remember(reads)
        yield

    async def _remember(self, reads: Reads) -> None:
        if self._cache is None:
            return
        found = ((key, reads.reading(row)) for row, key in reads.keys.items())
        await self._cache.put({key: reading for key, reading in found if reading is not None})


class KnownRuntime:
    """A runtime that has read everything already; it answers in the order of its readings, over any number of calls."""

    def __init__(self, readings: Sequence[Reading]) -> None:
        self._rest: Iterator[Reading] = iter(readings)

    def score(self, pairs: Sequence[tuple[str, str]]) -> RuntimeOutput:
        """The next readings, one a pair; the caller sees to it that they are those of the pairs."""
        readings = [next(self._rest) for _ in pairs]
        logits: NDArray[np.float64] = np.array([reading.logit for reading in readings], np.float64)
        truncated = np.array([reading.truncated for reading in readings], np.bool_)
        windows = np.array([reading.windows for reading in readings], np.int64)
        return RuntimeOutput(logits, truncated, windows, tuple(reading.span for reading in readings))

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Never called: judging does not count."""
        raise NotImplementedError("judge does not count")
