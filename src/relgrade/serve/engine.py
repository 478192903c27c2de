"""From a request's lists to grades, in three phases: encode (count, look up), run (the scheduler), decode (judge).

A request for evidence runs twice: its documents, then the sentences of those that have any. It knows deadlines and
policies, and nothing of HTTP or of dialects.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass

from relgrade.grade import keep
from relgrade.grade.compress import CompressedDocument
from relgrade.grade.evidence import split_text
from relgrade.grade.judging import count_tokens, judge
from relgrade.probability import list_probability
from relgrade.records import Grade
from relgrade.serve.asking import Answer, Ask, Failing, ListAnswer, ListAsk, Timings
from relgrade.serve.cache import ResultCache
from relgrade.serve.reads import KnownRuntime, Reader, Reads
from relgrade.serve.refusals import Refusal, Ungradable
from relgrade.serve.scheduler import Scheduler
from relgrade.serve.sentence_reads import SentenceReads, compress_list, grade_with_evidence, units_of_texts

_CHARACTERS_PER_TOKEN = 4  # about, of European languages


@dataclass(eq=False)
class Work:
    """A request after the first phase. Rows count the documents of all lists one after another."""

    ask: Ask
    documents: Reads
    encode_s: float
    sentences: SentenceReads | None = None  # None: not asked for, or not begun

    @property
    def parts(self) -> list[tuple[ListAsk, range]]:
        """Each list with its rows."""
        found, start = [], 0
        for each in self.ask.lists:
            found.append((each, range(start, start + len(each.items))))
            start += len(each.items)
        return found


class Engine:
    """See the module.

    Args:
        scheduler: runs pairs.
        executor: for counting tokens and splitting texts.
        cache: None for none.
    """

    def __init__(self, scheduler: Scheduler, executor: Executor, *, cache: ResultCache | None = None) -> None:
        self.scheduler = scheduler
        self._executor = executor
        self._reader = Reader(scheduler, executor, cache=cache)

    async def encode(self, ask: Ask, *, deadline_s: float) -> Work:
        """Count tokens, look the pairs up and make a job of the rest; nothing is queued yet.

        Sentences count as if every document were read a second time: which ones will be, nobody knows yet.

        Raises:
            Overloaded: there is no room, see `Scheduler.require_room`.
        """
        start_s = time.monotonic()
        items = [item for each in ask.lists for item in each.items]
        # By characters first, so that a server with no room does not count tokens only to refuse.
        lengths = [min(len(item.text) // _CHARACTERS_PER_TOKEN, ask.model.limit_tokens) for item in items]
        guess = sum(lengths) + self._second_reading(ask, lengths)
        self.scheduler.require_room(len(items), tokens=guess, remaining_s=deadline_s - start_s)
        documents = await self._reader.prepare(ask.model, items, deadline_s=deadline_s)
        costs = sum(documents.job.costs) + self._second_reading(ask, documents.tokens)
        if costs:
            remaining_s = deadline_s - time.monotonic()
            self.scheduler.require_room(len(documents.row_of_job), tokens=costs, remaining_s=remaining_s)
        return Work(ask, documents, time.monotonic() - start_s)

    async def run(self, work: Work) -> AsyncGenerator[None, None]:
        """Queue what must be read and give control back whenever rows are done; the last time when all has ended.

        Whoever stops taking ends the work. A deadline that passes ends it too, without raising.
        """
        async with aclosing(self._reader.run(work.documents, what="documents")) as steps:
            async for _ in steps:
                yield
        if not await self._split(work):
            return
        assert work.sentences is not None, "_split sees to it"
        yield
        async with aclosing(self._reader.run(work.sentences.reads, what="sentences of the documents")) as steps:
            async for _ in steps:
                yield

    async def answer(self, work: Work) -> Answer:
        """Run to the end and decode.

        Raises:
            Refusal: not everything was judged, and the policy of the request is "raise".
        """
        async with aclosing(self.run(work)) as steps:
            async for _ in steps:
                pass
        return await self.finish(work)

    async def finish(self, work: Work) -> Answer:
        """`decode`, in a thread where that takes long."""
        if work.sentences is None:
            return self.decode(work)
        return await asyncio.get_running_loop().run_in_executor(self._executor, self.decode, work)

    def decode(self, work: Work) -> Answer:
        """The answer from what the model said.

        Raises:
            Refusal: not everything was judged, and the policy of the request is "raise".
        """
        start_s = time.monotonic()
        ask = work.ask
        grades = self.grades(work, range(len(work.documents.items)))
        error = self._failure(work, grades)
        if error is not None and ask.on_error == "raise":
            raise error
        lists = tuple(_list_answer(work, each, rows, grades[rows.start : rows.stop]) for each, rows in work.parts)
        if error is None and any(each.without_evidence for each in lists):
            error = self._sentence_failure(work, lists)
            if ask.on_error == "raise":
                raise error
        failing = None
        if error is not None:
            assert ask.on_error != "raise", "it was raised"
            failing = Failing(ask.on_error, error.kind, error.message)
        return Answer(ask, lists, failing, _timings(work, time.monotonic() - start_s))

    def grades(self, work: Work, rows: Sequence[int]) -> list[Grade | None]:
        """The grades of some rows, without evidence; None where there is no finite logit."""
        found: dict[int, Grade] = {}
        wanted = set(rows)
        for each, part in work.parts:
            readings = {row: work.documents.reading(row) for row in part if row in wanted}
            known = [row for row in part if readings.get(row) is not None]
            items = [work.documents.items[row] for row in known]
            told = [readings[row] for row in known if not work.documents.items[row].is_blank]
            runtime = KnownRuntime([reading for reading in told if reading is not None])
            found.update(zip(known, judge(items, runtime, panel=each.panel), strict=True))
        return [found.get(row) for row in rows]

    def settled(self, work: Work, rows: Sequence[int]) -> list[Grade | None]:
        """The grades of some rows as the answer will have them; None for those that wait for something."""
        found = self.grades(work, rows)
        list_of_row = {row: each for each, part in work.parts for row in part if each.has_evidence}
        for i, (row, grade) in enumerate(zip(rows, found, strict=True)):
            if grade is None or row not in list_of_row:
                continue
            judged = None
            if work.sentences is not None and row in work.sentences.texts and work.sentences.is_done(row):
                judged = work.sentences.judged(row, list_of_row[row].panel)
            told = grade_with_evidence(grade, judged)
            found[i] = None if told.evidence is None else told
        return found

    async def _split(self, work: Work) -> bool:
        """Prepare the sentences; False where there is nothing to read a second time."""
        ask = work.ask
        if not ask.reads_sentences or work.documents.job.error is not None:
            return False
        grades = self.grades(work, range(len(work.documents.items)))
        if ask.on_error == "raise" and any(grade is None for grade in grades):
            return False
        rows = []
        for each, part in work.parts:
            judged = [grade for grade in grades[part.start : part.stop] if grade is not None]
            rows += [part.start + index for index in each.to_read(judged)]
        items = work.documents.items
        loop = asyncio.get_running_loop()
        texts = await loop.run_in_executor(self._executor, lambda: {row: split_text(items[row]) for row in rows})
        units, places = units_of_texts(texts)
        reads = await self._reader.prepare(ask.model, units, deadline_s=work.documents.job.deadline_s)
        work.sentences = SentenceReads(texts, places, reads)
        return True

    @staticmethod
    def _second_reading(ask: Ask, tokens: Sequence[int]) -> int:
        """Tokens of the documents whose sentences may be read."""
        total, start = 0, 0
        for each in ask.lists:
            end = start + len(each.items)
            total += sum(tokens[start:end]) if each.reads_sentences else 0
            start = end
        return total

    @staticmethod
    def _failure(work: Work, grades: Sequence[Grade | None]) -> Refusal | None:
        if all(grade is not None for grade in grades):
            return None
        if isinstance(work.documents.job.error, Refusal):
            return work.documents.job.error
        row = next(row for row, grade in enumerate(grades) if grade is None)
        index = work.documents.items[row].index
        return Ungradable(f"document {index}: the model gave no finite logit, which is no verdict")

    @staticmethod
    def _sentence_failure(work: Work, lists: Sequence[ListAnswer]) -> Refusal:
        error = None if work.sentences is None else work.sentences.reads.job.error
        if isinstance(error, Refusal):
            return error
        index = next(each.without_evidence[0] for each in lists if each.without_evidence)
        return Ungradable(f"document {index}: the model gave no finite logit for one of its sentences")


def _list_answer(work: Work, each: ListAsk, rows: range, grades: Sequence[Grade | None]) -> ListAnswer:
    ask, sentences = work.ask, work.sentences
    known = [grade for grade in grades if grade is not None]
    missing = [i for i, grade in enumerate(grades) if grade is None]
    to_read = each.to_read(known) if each.reads_sentences else []
    texts = {i: sentences.judged(rows.start + i, each.panel) for i in to_read} if sentences is not None else {}
    judged = {i: text for i, text in texts.items() if text is not None}
    told = [
        grade_with_evidence(grade, judged.get(i)) if grade is not None and each.has_evidence else grade
        for i, grade in enumerate(grades)
    ]
    compressed: dict[int, CompressedDocument] = {}
    if each.bar is not None:
        compressed, kept = compress_list(each, known, sentences, ask.model.runtime, first_row=rows.start)
    elif each.policy is None:
        kept = [grade.index for grade in known if grade.relevant]
    else:
        n_tokens = None
        if each.policy.max_tokens is not None:
            items = [each.items[grade.index] for grade in known]
            n_tokens = count_tokens(items, ask.model.runtime, limit=each.policy.max_tokens)
        kept = [known[i].index for i in keep.choose(known, each.policy, n_tokens=n_tokens)]
    kept += [*compressed, *(missing if ask.on_error == "keep_all" else [])]
    fitted = ask.model.bundle.manifest.any_relevant
    probability = None
    if fitted is not None and not missing:
        probability = list_probability(fitted, [grade.logit for grade in known])
    tokens = sum(work.documents.tokens[row] for row in rows)
    n_sentences = 0
    if sentences is not None:
        tokens += sum(sentences.tokens(rows.start + i) for i in to_read)
        n_sentences = sum(len(sentences.units_of[rows.start + i]) for i in to_read)
    return ListAnswer(
        each,
        tuple(told),
        tuple(sorted(kept)),
        probability,
        tokens,
        n_sentences=n_sentences,
        judged=judged,
        compressed=compressed,
        without_evidence=tuple(i for i in to_read if i not in judged),
    )


def _timings(work: Work, decode_s: float) -> Timings:
    both = [work.documents, *([] if work.sentences is None else [work.sentences.reads])]
    job = next((reads.job for reads in both if reads.job.pairs), work.documents.job)
    now_s = time.monotonic()
    started_s = job.started_s if job.started_s is not None else now_s
    return Timings(
        encode_ms=round(work.encode_s * 1e3, 3),
        queue_ms=round(max(0.0, started_s - job.queued_s) * 1e3, 3) if job.pairs else 0.0,
        run_ms=round(max(0.0, now_s - decode_s - started_s) * 1e3, 3) if job.pairs else 0.0,
        decode_ms=round(decode_s * 1e3, 3),
        n_cached=sum(reads.n_cached for reads in both),
    )
