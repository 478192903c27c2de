"""From a request's lists to grades, in three phases: encode (count, look up), run (the scheduler), decode (judge).

It knows deadlines, the cache and policies, and nothing of HTTP or of dialects.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relgrade.grade import keep
from relgrade.grade.documents import PairText
from relgrade.grade.judging import EMPTY_LOGIT, count_tokens, judge
from relgrade.grade.runtime import RuntimeOutput
from relgrade.probability import list_probability
from relgrade.records import Grade
from relgrade.serve.asking import Answer, Ask, Failing, ListAnswer, ListAsk, Timings
from relgrade.serve.cache import Reading, ResultCache, pair_key
from relgrade.serve.refusals import ClientGone, DeadlinePassed, Refusal, Ungradable
from relgrade.serve.scheduler import Job, Scheduler, pair_cost

_CHARACTERS_PER_TOKEN = 4  # about, of European languages


@dataclass(eq=False)
class Work:
    """A request after the first phase. Rows count the documents of all lists one after another."""

    ask: Ask
    items: list[PairText]
    tokens: list[int]  # of each row, as far as it is read
    job: Job
    row_of_job: list[int]  # row of each pair of the job
    keys: list[str]  # of each pair of the job, for the cache; empty without one
    readings: dict[int, Reading]  # by row: by rule, or from the cache
    encode_s: float
    n_cached: int


class Engine:
    """See the module.

    Args:
        scheduler: runs pairs.
        executor: for counting tokens.
        cache: None for none.
    """

    def __init__(self, scheduler: Scheduler, executor: Executor, *, cache: ResultCache | None = None) -> None:
        self.scheduler = scheduler
        self._executor = executor
        self._cache = cache

    async def encode(self, ask: Ask, *, deadline_s: float) -> Work:
        """Count tokens, look the pairs up and make a job of the rest; nothing is queued yet.

        Raises:
            Overloaded: there is no room, see `Scheduler.require_room`.
        """
        start_s = time.monotonic()
        items = [item for each in ask.lists for item in each.items]
        # By characters first, so that a server with no room does not count tokens only to refuse.
        guess = sum(min(len(item.text) // _CHARACTERS_PER_TOKEN, ask.model.limit_tokens) for item in items)
        self.scheduler.require_room(len(items), tokens=guess, remaining_s=deadline_s - start_s)
        loop = asyncio.get_running_loop()
        limit = ask.model.limit_tokens
        counted = await loop.run_in_executor(
            self._executor, lambda: count_tokens(items, ask.model.runtime, limit=limit)
        )
        tokens = [min(count, limit) for count in counted]
        rows = [row for row, item in enumerate(items) if not item.is_blank]
        readings = {row: Reading(EMPTY_LOGIT, False, 0) for row, item in enumerate(items) if item.is_blank}
        keys: list[str] = []
        n_cached = 0
        if self._cache is not None:
            hash_ = ask.model.bundle.hash
            key_of = {row: pair_key(hash_, items[row].query, items[row].text) for row in rows}
            known = await self._cache.get(list(key_of.values()))
            readings |= {row: known[key] for row, key in key_of.items() if key in known}
            n_cached = sum(key in known for key in key_of.values())
            rows = [row for row in rows if key_of[row] not in known]
            keys = [key_of[row] for row in rows]
        costs = [pair_cost(tokens[row], limit=limit) for row in rows]
        pairs = [(items[row].query, items[row].text) for row in rows]
        job = Job(ask.model, ask.model.runtime, pairs, costs, deadline_s)
        if rows:
            self.scheduler.require_room(len(rows), tokens=sum(costs), remaining_s=deadline_s - time.monotonic())
        return Work(ask, items, tokens, job, rows, keys, readings, time.monotonic() - start_s, n_cached)

    async def run(self, work: Work) -> AsyncGenerator[None, None]:
        """Queue the job and give control back whenever rows are done; the last time when the job has ended.

        Whoever stops taking ends the job. A deadline that passes ends it too, without raising.
        """
        job = work.job
        self.scheduler.submit(job)
        try:
            while not job.is_ended:
                job.progress.clear()
                try:
                    async with asyncio.timeout(max(0.0, job.deadline_s - time.monotonic())):
                        await job.progress.wait()
                except TimeoutError:
                    self.scheduler.abandon(job, DeadlinePassed("the documents were not judged in time"))
                if not job.is_ended:
                    yield
        finally:
            self.scheduler.abandon(job, ClientGone("nobody waits for the answer"))
        await self._remember(work)
        yield

    async def answer(self, work: Work) -> Answer:
        """Run to the end and decode.

        Raises:
            Refusal: not everything was judged, and the policy of the request is "raise".
        """
        async for _ in self.run(work):
            pass
        return self.decode(work)

    def decode(self, work: Work) -> Answer:
        """The answer from what the model said.

        Raises:
            Refusal: not everything was judged, and the policy of the request is "raise".
        """
        start_s = time.monotonic()
        ask = work.ask
        grades = self.grades(work, range(len(work.items)))
        failing = None
        if any(grade is None for grade in grades):
            error = self._failure(work, grades)
            if ask.on_error == "raise":
                raise error
            failing = Failing(ask.on_error, error.kind, error.message)
        lists = []
        start = 0
        for each in ask.lists:
            end = start + len(each.items)
            tokens = sum(work.tokens[start:end])
            lists.append(_list_answer(each, ask, grades[start:end], is_kept=ask.on_error == "keep_all", tokens=tokens))
            start = end
        return Answer(ask, tuple(lists), failing, _timings(work, time.monotonic() - start_s))

    def grades(self, work: Work, rows: Sequence[int]) -> list[Grade | None]:
        """The grades of some rows, None where there is no finite logit."""
        readings = dict(work.readings)
        job = work.job
        for i, row in enumerate(work.row_of_job):
            if job.is_done[i] and np.isfinite(job.logits[i]):
                readings[row] = Reading(float(job.logits[i]), bool(job.truncated[i]), int(job.windows[i]))
        found: dict[int, Grade] = {}
        wanted = set(rows)
        start = 0
        for each in work.ask.lists:
            known = [row for row in range(start, start + len(each.items)) if row in wanted and row in readings]
            judged = judge([work.items[row] for row in known], _Known(readings, work.items, known), panel=each.panel)
            found.update(zip(known, judged, strict=True))
            start += len(each.items)
        return [found.get(row) for row in rows]

    @staticmethod
    def _failure(work: Work, grades: Sequence[Grade | None]) -> Refusal:
        if isinstance(work.job.error, Refusal):
            return work.job.error
        row = next(row for row, grade in enumerate(grades) if grade is None)
        return Ungradable(f"document {work.items[row].index}: the model gave no finite logit, which is no verdict")

    async def _remember(self, work: Work) -> None:
        if self._cache is None:
            return
        job = work.job
        done = [i for i in range(len(job.pairs)) if job.is_done[i] and np.isfinite(job.logits[i])]
        await self._cache.put(
            {work.keys[i]: Reading(float(job.logits[i]), bool(job.truncated[i]), int(job.windows[i])) for i in done}
        )


class _Known:
    """A runtime that has read everything already."""

    def __init__(self, readings: dict[int, Reading], items: Sequence[PairText], rows: Sequence[int]) -> None:
        self._readings = [readings[row] for row in rows if not items[row].is_blank]

    def score(self, pairs: Sequence[tuple[str, str]]) -> RuntimeOutput:
        assert len(pairs) == len(self._readings), "judge asks for every document with text, in order"
        logits: NDArray[np.float64] = np.array([reading.logit for reading in self._readings])
        truncated = np.array([reading.truncated for reading in self._readings], np.bool_)
        windows = np.array([reading.windows for reading in self._readings], np.int64)
        return RuntimeOutput(logits, truncated, windows)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        raise NotImplementedError("judge does not count")


def _list_answer(each: ListAsk, ask: Ask, grades: Sequence[Grade | None], *, is_kept: bool, tokens: int) -> ListAnswer:
    judged = [grade for grade in grades if grade is not None]
    missing = [i for i, grade in enumerate(grades) if grade is None]
    if each.policy is None:
        chosen = [grade.index for grade in judged if grade.relevant]
    else:
        n_tokens = None
        if each.policy.max_tokens is not None:
            items = [each.items[grade.index] for grade in judged]
            n_tokens = count_tokens(items, ask.model.runtime, limit=each.policy.max_tokens)
        chosen = [judged[i].index for i in keep.choose(judged, each.policy, n_tokens=n_tokens)]
    kept = sorted([*chosen, *(missing if is_kept else [])])
    fitted = ask.model.bundle.manifest.any_relevant
    probability = None
    if fitted is not None and not missing:
        probability = list_probability(fitted, [grade.logit for grade in judged])
    return ListAnswer(each, tuple(grades), tuple(kept), probability, tokens)


def _timings(work: Work, decode_s: float) -> Timings:
    job = work.job
    now_s = time.monotonic()
    started_s = job.started_s if job.started_s is not None else now_s
    return Timings(
        encode_ms=round(work.encode_s * 1e3, 3),
        queue_ms=round(max(0.0, started_s - job.queued_s) * 1e3, 3) if job.pairs else 0.0,
        run_ms=round(max(0.0, now_s - decode_s - started_s) * 1e3, 3) if job.pairs else 0.0,
        decode_ms=round(decode_s * 1e3, 3),
        n_cached=work.n_cached,
    )
