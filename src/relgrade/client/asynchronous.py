"""The client for asyncio."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import httpx

from relgrade.client.compressing import compress_options, read_compressed, uncompressed
from relgrade.client.exchange import Answer, Tries
from relgrade.client.failing import OnError, ServedCompressed, ServedList, ServerError, unjudged
from relgrade.client.settings import ClientSettings, require_top_k, reranked
from relgrade.client.wire import Call, read_call, read_kept, read_reply
from relgrade.records import KeepPolicy

_DEFAULT_POLICY = KeepPolicy()


class AsyncClient:
    """`Client` with `await`; one event loop.

    Arguments as those of `Client`.

    Raises:
        InvalidInput: an argument is out of range.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        retries: int = 2,
        operating_point: str | None = None,
        on_error: OnError = "raise",
        model: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._settings = ClientSettings(url, api_key, timeout_s, retries, operating_point, on_error, model)
        self._http = httpx.AsyncClient(headers=self._settings.headers, transport=transport, follow_redirects=False)

    async def grade(
        self, query: str, documents: Iterable[Any], *, operating_point: str | None = None, evidence: bool = False
    ) -> ServedList:
        """Judge documents against one query, as `Grader.grade` does.

        Args:
            query: not empty.
            documents: what `Grader.grade` takes. Text, title, id and the plain entries of metadata are sent.
            operating_point: of this call; None takes the client's.
            evidence: as for `Grader.grade`: grades of relevant and unsure documents carry their sentences.

        Raises:
            InvalidInput: the call is wrong, here or in the server's eyes.
            ServerError: there are no grades, and `on_error` is "raise".
        """
        call = self._read(query, documents, operating_point=operating_point, evidence=evidence)
        return (await self._ask(call))[0]

    async def filter(
        self,
        query: str,
        documents: Iterable[Any],
        *,
        policy: KeepPolicy = _DEFAULT_POLICY,
        operating_point: str | None = None,
        evidence: bool = False,
    ) -> ServedList:
        """Keep what is relevant, within the limits of a policy, as `Grader.filter` does; raises as `grade`."""
        call = self._read(query, documents, operating_point=operating_point, policy=policy, evidence=evidence)
        graded, kept, _ = await self._ask(call)
        return replace(graded, grades=tuple(graded.grades[i] for i in kept))

    async def compress(
        self,
        query: str,
        documents: Iterable[Any],
        *,
        policy: KeepPolicy = _DEFAULT_POLICY,
        point: str | None = None,
        threshold: float | None = None,
        operating_point: str | None = None,
    ) -> ServedCompressed:
        """Keep what is relevant, and of each document the sentences above a point, as `Grader.compress` does.

        Args:
            query: not empty.
            documents: as for `grade`.
            policy: which documents are kept; `max_tokens` counts what is left of them.
            point: name of the operating point for sentences, see `Grader.compress`.
            threshold: probability in [0, 1] that a sentence must reach, instead of a point.
            operating_point: of this call; None takes the client's.

        Raises:
            InvalidInput, ServerError: as `grade`.
        """
        how = compress_options(point=point, threshold=threshold)
        call = self._read(query, documents, operating_point=operating_point, policy=policy, compress=how)
        graded, kept, body = await self._ask(call)
        if body is None:
            return uncompressed(graded, kept, texts=call.texts)
        return read_compressed(call, body, graded)

    async def rerank(
        self, query: str, documents: Iterable[Any], *, top_k: int | None = None, operating_point: str | None = None
    ) -> ServedList:
        """Sort documents by falling logit, as `Grader.rerank` does; a list nobody judged keeps its order."""
        require_top_k(top_k)
        graded = await self.grade(query, documents, operating_point=operating_point)
        return reranked(graded, top_k=top_k)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _read(
        self,
        query: str,
        documents: Iterable[Any],
        *,
        operating_point: str | None,
        policy: KeepPolicy | None = None,
        evidence: bool = False,
        compress: bool | Mapping[str, Any] = False,
    ) -> Call:
        point = self._settings.operating_point if operating_point is None else operating_point
        return read_call(
            query,
            documents,
            operating_point=point,
            on_error=self._settings.on_error,
            policy=policy,
            model=self._settings.model,
            evidence=evidence,
            compress=compress,
        )

    async def _ask(self, call: Call) -> tuple[ServedList, list[int], Any]:
        """The list, the positions that are kept, and the reply itself; None where there is none."""
        try:
            body, request_id = await self._exchange(call)
            graded = read_reply(call, body, request_id=request_id)
            return graded, read_kept(body, n_documents=len(graded)), body
        except ServerError as error:
            graded = unjudged(call.query, call.originals, error=error, policy=self._settings.on_error)
            return graded, [grade.index for grade in graded if grade.relevant], None

    async def _exchange(self, call: Call) -> tuple[Any, str | None]:
        tries = Tries(retries=self._settings.retries, timeout_s=self._settings.timeout_s)
        while True:
            answer = None
            try:
                async with asyncio.timeout(tries.remaining_s):
                    answer = await self._send(call, tries)
            except TimeoutError as error:
                raise tries.too_late() from error
            except httpx.HTTPError as error:
                tries.after_breakdown(error)
            if answer is not None and (body := tries.body_of(answer)) is not None:
                return body, answer.request_id
            await asyncio.sleep(min(tries.wait_s(answer), tries.remaining_s))
            tries.count()

    async def _send(self, call: Call, tries: Tries) -> Answer:
        request = self._http.build_request(
            "POST",
            self._settings.endpoint,
            content=call.content,
            headers=self._settings.time_header(tries.remaining_s),
            timeout=max(tries.remaining_s, 0.001),
        )
        response = await self._http.send(request)
        return Answer(response.status_code, response.headers, response.content)
