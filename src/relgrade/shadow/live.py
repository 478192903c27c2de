"""Both graders at once in a running application: the LLM decides and ours is measured, until a share is switched.

Which queries are switched is a function of the query's text alone, so that a query always has the same judge, and a
larger share only adds queries. Nothing of ours can fail the application: an error leaves the verdict to the LLM.
"""

import asyncio
import hashlib
import logging
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from relgrade.encoding import clean_text
from relgrade.errors import InvalidInput
from relgrade.formats.journal import JsonlJournal
from relgrade.formats.rows import document_id_of, query_id_of
from relgrade.grade.documents import to_document
from relgrade.records import GradedList
from relgrade.shadow.compare import own_verdict

Incumbent = Callable[[str, Sequence[Any]], Sequence[bool | None]]
AsyncIncumbent = Callable[[str, Sequence[Any]], Awaitable[Sequence[bool | None]]]
Sink = Callable[[Mapping[str, Any]], None]

log = logging.getLogger("relgrade.shadow")


@dataclass(frozen=True, slots=True)
class ShadowResult:
    """What the application goes on with."""

    documents: tuple[Any, ...]  # those to keep, the caller's own objects in their order
    relevant: tuple[bool | None, ...]  # one for each document of the call; None: the LLM gave no verdict on it
    decided_by: Literal["llm", "relgrade"]
    error: str | None = None  # of our grader


@dataclass(frozen=True, slots=True)
class _Own:
    """What our grader said, or why not."""

    graded: GradedList | None
    seconds: float
    error: str | None = None


class ShadowGrader:
    """Runs beside an LLM grader. Safe to share between threads; a context manager, or call `close`.

    Args:
        llm: takes a query and its documents, returns True, False or None (no verdict) for each. For `grade_async` it
            is a coroutine function.
        grader: ours: anything with `grade(query, documents)`; an `AsyncClient` works with `grade_async` alone.
        log: a file of JSON lines, which `relgrade shadow` reads, for one process; or a function that takes each row.
        enforce: share of the queries, in [0, 1], that ours decides. The LLM is not asked about them.
        recheck: share of those queries, in [0, 1], that the LLM is asked about all the same, to go on comparing.
        keep_unread: whether a document on which the LLM gave no verdict is kept.

    Raises:
        InvalidInput: a share is out of range, or another process writes the log.
        OutputError: the log cannot be opened.
    """

    def __init__(
        self,
        llm: Incumbent | AsyncIncumbent,
        grader: Any,
        *,
        log: Path | str | Sink | None = None,
        enforce: float = 0.0,
        recheck: float = 0.0,
        keep_unread: bool = True,
    ) -> None:
        for name, value in (("enforce", enforce), ("recheck", recheck)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
                raise InvalidInput(f"{name} is a share in [0, 1], got {value!r}")
        self._llm: Any = llm
        self._grader = grader
        self._enforce, self._recheck, self._keep_unread = float(enforce), float(recheck), keep_unread
        self._journal = JsonlJournal(log) if isinstance(log, str | Path) else None
        self._sink = log if callable(log) else None
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="relgrade-shadow")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Finish what is being graded and close the log."""
        self._threads.shutdown()
        if self._journal is not None:
            self._journal.close()

    def is_enforced(self, query: str) -> bool:
        """Whether ours decides about this query."""
        return _place(query, "enforce") < self._enforce

    def grade(self, query: str, documents: Sequence[Any]) -> ShadowResult:
        """The documents to go on with.

        Raises:
            Exception: what the LLM grader raised; ours never does.
        """
        documents = list(documents)
        if not documents:
            return ShadowResult((), (), "relgrade" if self.is_enforced(query) else "llm")
        ours = self._threads.submit(self._ask_own, query, documents)
        own = ours.result() if self.is_enforced(query) else None
        if own is not None and own.error is None and not self._is_rechecked(query):
            return self._finish(query, documents, own, None, 0.0)
        start = time.perf_counter()
        said = list(self._llm(query, documents))
        seconds = time.perf_counter() - start
        return self._finish(query, documents, own or ours.result(), said, seconds)

    async def grade_async(self, query: str, documents: Sequence[Any]) -> ShadowResult:
        """The same, with an LLM grader that is awaited."""
        documents = list(documents)
        if not documents:
            return ShadowResult((), (), "relgrade" if self.is_enforced(query) else "llm")
        ours = asyncio.ensure_future(self._ask_own_async(query, documents))
        own = await ours if self.is_enforced(query) else None
        if own is not None and own.error is None and not self._is_rechecked(query):
            return self._finish(query, documents, own, None, 0.0)
        start = time.perf_counter()
        try:
            said = list(await self._llm(query, documents))
        except BaseException:
            ours.cancel()
            raise
        seconds = time.perf_counter() - start
        return self._finish(query, documents, own or await ours, said, seconds)

    def _is_rechecked(self, query: str) -> bool:
        return _place(query, "recheck") < self._recheck

    def _ask_own(self, query: str, documents: list[Any]) -> _Own:
        start = time.perf_counter()
        try:
            graded = self._grader.grade(query, documents)
        except Exception as error:  # whatever it is, the application must not feel it
            return _Own(None, time.perf_counter() - start, f"{type(error).__name__}: {error}")
        return _own(graded, time.perf_counter() - start)

    async def _ask_own_async(self, query: str, documents: list[Any]) -> _Own:
        if not asyncio.iscoroutinefunction(self._grader.grade):
            return await asyncio.wrap_future(self._threads.submit(self._ask_own, query, documents))
        start = time.perf_counter()
        try:
            graded = await self._grader.grade(query, documents)
        except Exception as error:  # as in `_ask_own`
            return _Own(None, time.perf_counter() - start, f"{type(error).__name__}: {error}")
        return _own(graded, time.perf_counter() - start)

    def _finish(
        self, query: str, documents: list[Any], own: _Own, said: list[bool | None] | None, seconds: float
    ) -> ShadowResult:
        if said is not None and len(said) != len(documents):
            raise InvalidInput(f"the LLM grader gave {len(said)} verdicts for {len(documents)} documents")
        is_ours = own.graded is not None and self.is_enforced(query)
        if is_ours and own.graded is not None:
            relevant: tuple[bool | None, ...] = tuple(grade.relevant for grade in own.graded)
        else:
            relevant = tuple(said or ())
        if own.error is not None:
            log.warning("relgrade failed beside the LLM grader, which decided: %s", own.error)
        decided_by: Literal["llm", "relgrade"] = "relgrade" if is_ours else "llm"
        self._write(query, documents, own, said, seconds, decided_by)
        kept = (document for document, each in zip(documents, relevant, strict=True) if self._is_kept(each))
        return ShadowResult(tuple(kept), relevant, decided_by, own.error)

    def _is_kept(self, verdict: bool | None) -> bool:
        return self._keep_unread if verdict is None else verdict

    def _write(
        self,
        query: str,
        documents: list[Any],
        own: _Own,
        said: list[bool | None] | None,
        seconds: float,
        decided_by: str,
    ) -> None:
        if self._journal is None and self._sink is None:
            return
        try:
            rows = _rows(query, documents, own, said, seconds, decided_by)
            with self._lock:
                if self._journal is not None:
                    self._journal.append(rows)
                elif self._sink is not None:
                    for row in rows:
                        self._sink(row)
        except Exception as error:  # a full disk must not stop the application
            log.warning("a comparison was not written: %s: %s", type(error).__name__, error)


def _own(graded: GradedList, seconds: float) -> _Own:
    """A list that a client made up because its server was away is no verdict."""
    failure = getattr(graded, "failure", None)
    return _Own(graded, seconds) if failure is None else _Own(None, seconds, str(failure.message))


def _place(query: str, salt: str) -> float:
    """Where a query stands in [0, 1): uniform over queries, and the same in every process."""
    digest = hashlib.sha256(f"{salt}\0{clean_text(query)}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2.0**64


def _rows(
    query: str, documents: list[Any], own: _Own, said: list[bool | None] | None, seconds: float, decided_by: str
) -> list[dict[str, Any]]:
    rows = []
    for i, value in enumerate(documents):
        document = to_document(value, place=f"document {i}")
        row: dict[str, Any] = {
            "id": uuid.uuid4().hex,
            "query_id": query_id_of(query),
            "query": clean_text(query),
            "doc_id": document.id or document_id_of(document.text),
            "title": document.title,
            "document": clean_text(document.text),
            "verdict": None if said is None else said[i],
            "latency_ms": None if said is None else 1000.0 * seconds / len(documents),
            "is_llm_asked": said is not None,
            "decided_by": decided_by,
            "time": time.time(),
        }
        if own.graded is None:
            row |= {"relgrade_relevant": None, "relgrade_error": own.error}
        else:
            ours = own_verdict(own.graded[i], threshold=own.graded.operating_point.threshold, latency_s=None)
            row |= {
                "relgrade_relevant": ours.is_relevant,
                "relgrade_probability": ours.probability,
                "relgrade_margin": ours.margin,
                "relgrade_latency_ms": 1000.0 * own.seconds / len(documents),
                "relgrade_bundle": own.graded.bundle_hash,
            }
        rows.append(row)
    return rows
