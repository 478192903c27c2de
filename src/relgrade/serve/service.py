"""The routes' common ground: from a request to an answer, with its deadline, its client and what is counted."""

import asyncio
import time
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from starlette.requests import Request

from relgrade.serve.asking import Answer, Ask, Timings
from relgrade.serve.body import BodyRoom, read_json
from relgrade.serve.cache import ResultCache
from relgrade.serve.engine import Engine
from relgrade.serve.hosted import ModelRack, Reload
from relgrade.serve.keys import Keyring
from relgrade.serve.logs import Seen, logger
from relgrade.serve.measures import Measures
from relgrade.serve.refusals import ClientGone, DeadlinePassed
from relgrade.serve.scheduler import Scheduler
from relgrade.serve.settings import ServeSettings
from relgrade.serve.tracing import span

BODIES_BYTES = 256_000_000  # of all bodies that are arriving
TIMEOUT_HEADER = "x-request-timeout-ms"

Result = TypeVar("Result")


class Service:
    """What one app is made of.

    Args:
        rack: the bundles.
        settings: limits and behaviour.
        cache: of results; None for none.
    """

    def __init__(self, rack: ModelRack, settings: ServeSettings, *, cache: ResultCache | None = None) -> None:
        self.rack = rack
        self.settings = settings
        self.measures = Measures()
        self.keyring = Keyring(
            settings.keys, admin_key=settings.admin_key, requests_per_minute=settings.requests_per_minute
        )
        self.room = BodyRoom(max(settings.max_body_bytes, BODIES_BYTES))
        self.is_draining = False
        self._has_cache = cache is not None
        self._workers = ThreadPoolExecutor(settings.n_workers, thread_name_prefix="relgrade-run")
        self._encoders = ThreadPoolExecutor(1, thread_name_prefix="relgrade-encode")
        scheduler = Scheduler(
            self._workers,
            batch_tokens=settings.batch_tokens,
            n_workers=settings.n_workers,
            max_pairs=settings.max_queue_documents,
            max_wait_s=settings.max_wait_s,
            on_batch=self.measures.of_batch,
        )
        self.engine = Engine(scheduler, self._encoders, cache=cache)
        self.measures.queue_documents.set_function(lambda: scheduler.n_pairs)
        self.measures.of_models(rack.models)

    def close(self) -> None:
        """Stop the threads; what runs is let end."""
        self._workers.shutdown(wait=False)
        self._encoders.shutdown(wait=False)

    def deadline_s(self, request: Request) -> float:
        """Of time.monotonic: the server's limit, or less where the client says so."""
        told = request.headers.get(TIMEOUT_HEADER, "")
        wanted_s = int(told) / 1e3 if told.isascii() and told.isdigit() and len(told) < 10 else self.settings.timeout_s
        start_s: float = request.state.start_s
        return start_s + min(wanted_s, self.settings.timeout_s)

    async def read(self, request: Request) -> Any:
        """The body as JSON; raises Refusal."""
        limit, deadline_s = self.settings.max_body_bytes, self.deadline_s(request)
        return await read_json(request, max_bytes=limit, deadline_s=deadline_s, room=self.room)

    async def answer(self, request: Request, ask: Ask, *, dialect: str) -> Answer:
        """Judge everything and count it.

        Raises:
            Refusal: there is no answer; also when the client has gone.
        """
        with span("relgrade.answer", {"relgrade.documents": ask.n_documents, "relgrade.model": ask.model.name}):
            seen = self.see(request, ask, dialect=dialect)
            answer = await while_connected(request, self._judge(ask, deadline_s=self.deadline_s(request)))
            self.count(seen, answer)
            return answer

    async def _judge(self, ask: Ask, *, deadline_s: float) -> Answer:
        try:
            async with asyncio.timeout(max(0.0, deadline_s - time.monotonic()) + 1.0):  # a belt beside the braces
                return await self.engine.answer(await self.engine.encode(ask, deadline_s=deadline_s))
        except TimeoutError as error:
            raise DeadlinePassed("the documents were not judged in time") from error

    def see(self, request: Request, ask: Ask, *, dialect: str) -> Seen:
        """Note for the log what a request is about."""
        seen: Seen = request.state.seen
        seen.dialect, seen.model, seen.n_documents = dialect, ask.model.name, ask.n_documents
        if self.settings.logs_documents:
            seen.extra["lists"] = [
                {"query": each.query, "documents": [item.text for item in each.items]} for each in ask.lists
            ]
        return seen

    def count(self, seen: Seen, answer: Answer) -> None:
        """Note what came of it."""
        self.measures.of_answer(answer, has_cache=self._has_cache)
        times: Timings = answer.timings
        seen.extra |= {"tokens": answer.tokens, "queue_ms": times.queue_ms, "run_ms": times.run_ms}
        if answer.failing is not None:
            seen.kind = answer.failing.reason
            seen.extra["on_error"] = answer.failing.policy

    async def reload(self) -> list[Reload]:
        """Load every bundle again, in a thread; requests go on."""
        outcomes = await asyncio.to_thread(self.rack.reload)
        for outcome in outcomes:
            self.measures.of_reload(outcome)
            words = "bundle loaded" if outcome.is_loaded else "bundle refused, the old one serves on"
            told = {"model": outcome.name, "hash": outcome.hash, "seconds": round(outcome.seconds, 2)}
            logger.log(20 if outcome.is_loaded else 40, words, extra={**told, "reason": outcome.message})
        self.measures.of_models(self.rack.models)
        return outcomes


async def while_connected(request: Request, work: Awaitable[Result]) -> Result:
    """The result of some work, which is cancelled when the client goes away.

    Raises:
        ClientGone: it went.
    """
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone("nobody waits for the answer")
        return task.result()
    finally:
        for each in (task, watcher):
            each.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    """Returns when the client is gone; its body was read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
