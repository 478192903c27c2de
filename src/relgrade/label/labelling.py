"""Labels pairs: reads them in a stream, claims what nobody has answered, asks, and commits each answer as it comes.

Memory does not grow with the pairs. What was paid for is in the journal before anything else is asked in its place.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from relgrade.errors import TeacherError
from relgrade.label.asking import Asker
from relgrade.label.journal import HEARTBEAT_S, Journal
from relgrade.label.journal_schema import Totals
from relgrade.label.ladder import Ladder
from relgrade.label.limits import Budget
from relgrade.label.plan import CHUNK, Job, Plan, ReadPairs, chunks, describe
from relgrade.label.transport import RequestFailed, RequestRejected, Transport

_POLL_S = 0.5  # wait for another process's answers
_MIN_FAILURES_IN_A_ROW = 20  # before a teacher counts as gone; at least twice the requests in flight


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is."""

    n_found: int = 0  # answers that were there already
    n_answered: int = 0  # in this run, replies without an answer left out
    n_errors: int = 0
    n_exported: int = 0  # out in a batch
    spent: Totals = field(default_factory=Totals)  # by this run
    stopped: str | None = None  # why the run ended before the pairs did

    @property
    def n_done(self) -> int:
        """Jobs that are settled."""
        return self.n_found + self.n_answered + self.n_errors + self.n_exported


OnProgress = Callable[[Progress], None]


def label_pairs(
    read: ReadPairs,
    plan: Plan,
    *,
    journal: Path | str,
    retry_errors: bool = False,
    on_progress: OnProgress = lambda progress: None,
) -> Progress:
    """Ask for every answer that the journal does not have.

    Args:
        read: opens the pairs.
        plan: rubric, teachers, limits.
        journal: the file; made when it is not there.
        retry_errors: ask, and pay, again where a paid reply held no answer.
        on_progress: is told after each answer.

    Returns:
        How the run ended. Labels are read from the journal: `relgrade.label.output`.

    Raises:
        TeacherError: a teacher refuses every request, or has stopped answering; the journal keeps what came before.
        InvalidData: the pairs or the journal cannot be read.
        OutputError: the journal cannot be written.
    """
    with Journal(journal) as book:
        for i in range(len(plan.teachers)):
            book.describe(plan.about(i), describe(plan, i))
            if retry_errors:
                book.forget_errors(plan.about(i))
        run = _Run(read, plan, book, on_progress)
        try:
            asyncio.run(run.run())
        except BaseExceptionGroup as group:
            raise _first(group) from None
        return run.progress


class _Run:
    """One run of `label_pairs`."""

    def __init__(self, read: ReadPairs, plan: Plan, journal: Journal, on_progress: OnProgress) -> None:
        self._read, self._plan, self._journal, self._on_progress = read, plan, journal, on_progress
        self.progress = Progress()
        self._budget = Budget(plan.limits, journal.totals)
        self._failed: set[str] = set()  # asked in this run in vain
        size = 2 * plan.limits.concurrency
        self._queues: list[asyncio.Queue[Job | None]] = [asyncio.Queue(size) for _ in plan.teachers]

    async def run(self) -> None:
        async with AsyncExitStack() as stack:
            desks = [await self._open(stack, i) for i in range(len(self._plan.teachers))]
            beating = asyncio.create_task(self._beat())
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._feed())
                    for desk in desks:
                        for _ in range(self._plan.limits.concurrency):
                            group.create_task(desk.work())
            finally:
                beating.cancel()

    async def _open(self, stack: AsyncExitStack, index: int) -> "_Desk":
        teacher, rubric = self._plan.teachers[index], self._plan.rubric
        # A rung that failed for one rubric or for samples says little of another.
        place = f"{teacher.endpoint} {rubric.hash} {self._plan.n_samples > 1}"
        ladder = Ladder(
            teacher.methods(rubric, n_samples=self._plan.n_samples),
            state=self._journal.ladder(place, teacher.model),
            remember=lambda state: self._journal.remember_ladder(place, teacher.model, state),
        )
        price = teacher.price

        def count_unconfirmed(n_bytes: int) -> None:
            tokens = n_bytes // 4 + 1
            spent = Totals(unconfirmed=1, input_tokens=tokens, cost=0.0 if price is None else price.of(tokens, 0))
            self._journal.spend(spent)
            self.note(spent=spent)

        transport = Transport(teacher, self._plan.limits, on_unconfirmed=count_unconfirmed)
        await stack.enter_async_context(transport)
        asker = Asker(self._plan, index, ladder=ladder, transport=transport)
        return _Desk(self, asker, self._queues[index], self._journal, self._budget, self._plan.limits.concurrency)

    async def _feed(self) -> None:
        """Claim and queue, pass after pass, until no answer is left to another process."""
        is_first = True
        while self.progress.stopped is None:
            n_elsewhere = await self._feed_once(is_first=is_first)
            is_first = False
            if not n_elsewhere:
                break
            await asyncio.sleep(_POLL_S)
        for queue in self._queues:
            for _ in range(self._plan.limits.concurrency):
                await queue.put(None)

    async def _feed_once(self, *, is_first: bool) -> int:
        n_elsewhere = 0
        for chunk in chunks(self._read(), CHUNK):
            if self.progress.stopped is not None:
                break
            jobs = {job.key: job for pair in chunk for job in self._plan.jobs(pair) if job.key not in self._failed}
            claimed = self._journal.claim(jobs)
            n_elsewhere += len(claimed.elsewhere)
            if is_first:
                self.note(found=len(claimed.done), exported=len(claimed.exported))
            for key, job in jobs.items():
                if key in claimed.mine:
                    await self._queues[job.teacher].put(job)
        return n_elsewhere

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            self._journal.beat()

    def note(
        self,
        *,
        found: int = 0,
        answered: int = 0,
        errors: int = 0,
        exported: int = 0,
        spent: Totals | None = None,
        stopped: str | None = None,
    ) -> None:
        """Count, and tell whoever listens."""
        now = self.progress
        self.progress = Progress(
            n_found=now.n_found + found,
            n_answered=now.n_answered + answered,
            n_errors=now.n_errors + errors,
            n_exported=now.n_exported + exported,
            spent=now.spent if spent is None else now.spent.plus(spent),
            stopped=now.stopped or stopped,
        )
        self._on_progress(self.progress)

    def note_failed(self, key: str) -> None:
        """Do not ask this key again in this run."""
        self._failed.add(key)


class _Desk:
    """The requests of one teacher: as many workers as may be in flight."""

    def __init__(
        self,
        run: _Run,
        asker: Asker,
        queue: "asyncio.Queue[Job | None]",
        journal: Journal,
        budget: Budget,
        concurrency: int,
    ) -> None:
        self._run, self._asker, self._queue, self._journal, self._budget = run, asker, queue, journal, budget
        self._max_failures = max(_MIN_FAILURES_IN_A_ROW, 2 * concurrency)
        self._n_failures = 0  # in a row
        # The first request finds out what the server can do; the others would all find out the same.
        self._probe = asyncio.Lock()
        self._is_known = False

    async def work(self) -> None:
        """Settle jobs until there are no more."""
        while (job := await self._queue.get()) is not None:
            if self._run.progress.stopped is not None:
                self._journal.release([job.key])
            elif self._is_known:
                await self._settle(job)
            else:
                async with self._probe:
                    await self._settle(job)
                    self._is_known = True

    async def _settle(self, job: Job) -> None:
        tokens, cost = self._asker.most(job) if self._budget.has_limit else (0.0, 0.0)
        reason = await self._budget.reserve(tokens, cost)
        if reason is not None:
            self._journal.release([job.key])
            self._run.note(stopped=reason)
            return
        try:
            asked = await self._asker.ask(job)
        except (RequestRejected, RequestFailed) as error:
            self._fail(job, error)
        else:
            self._n_failures = 0
            is_error = asked.answer.error is not None
            self._journal.commit(asked.answer, spent=asked.spent)
            self._run.note(answered=not is_error, errors=is_error, spent=asked.spent)
        finally:
            self._budget.settle(tokens, cost)

    def _fail(self, job: Job, error: Exception) -> None:
        self._journal.fail(job.key, str(error))
        self._run.note_failed(job.key)
        self._run.note(errors=1)
        self._n_failures += 1
        if self._n_failures >= self._max_failures:
            raise TeacherError(
                f"{self._n_failures} requests in a row had no answer, the last because {error}; what was answered is "
                "in the journal, and the same command goes on from there"
            )


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended the tasks; the others were only cancelled by it."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
