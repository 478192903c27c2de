"""`POST /v1/grade`, whole or line by line."""

from collections.abc import AsyncIterator
from contextlib import aclosing

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from relgrade.serve.asking import Answer
from relgrade.serve.engine import Work
from relgrade.serve.grade_request import (
    GradeRequest,
    grade_row,
    read_grade_request,
    reply,
    stream_end,
    stream_rows,
)
from relgrade.serve.refusals import Refusal
from relgrade.serve.replies import JsonResponse, refusal_body, to_bytes
from relgrade.serve.service import Service, while_connected

LINES = "application/x-ndjson"


def add_grade_routes(app: FastAPI, service: Service) -> None:
    """Register the route."""

    async def grade(request: Request) -> Response:
        """Judge documents against one query or several."""
        parsed = read_grade_request(await service.read(request), service.rack, service.settings)
        if parsed.is_streamed or LINES in request.headers.get("accept", ""):
            return await _stream(request, parsed, service)
        answer = await service.answer(request, parsed.ask, dialect="relgrade")
        body = reply(answer, is_single=parsed.is_single, request_id=request.state.seen.request_id)
        return JsonResponse(body, headers=answer_headers(answer))

    app.add_api_route("/v1/grade", grade, methods=["POST"], response_model=None)


def answer_headers(answer: Answer) -> dict[str, str]:
    """What judged, and whether a policy stood in for it."""
    headers = {"X-Relgrade-Model": _ascii(answer.ask.model.name), "X-Relgrade-Bundle": answer.ask.model.bundle.hash}
    if answer.failing is not None:
        headers["X-Relgrade-On-Error"] = f"{answer.failing.policy}; reason={answer.failing.reason}"
    return headers


async def _stream(request: Request, parsed: GradeRequest, service: Service) -> Response:
    """Documents as they are judged. What can be refused is refused before the first line."""
    service.see(request, parsed.ask, dialect="relgrade-lines")
    work = await while_connected(request, service.engine.encode(parsed.ask, deadline_s=service.deadline_s(request)))
    return StreamingResponse(_lines(request, work, service), media_type=LINES)


async def _lines(request: Request, work: Work, service: Service) -> AsyncIterator[bytes]:
    seen = request.state.seen
    places = [(i, j) for i, each in enumerate(work.ask.lists) for j in range(len(each.items))]
    sent: set[tuple[int, int]] = set()
    async with aclosing(service.engine.run(work)) as steps:
        async for _ in steps:
            rows = [row for row, place in enumerate(places) if place not in sent]
            for row, found in zip(rows, service.engine.settled(work, rows), strict=True):
                if found is not None:
                    sent.add(places[row])
                    number = places[row][0]
                    line = {"object": "grade", "list": number, **grade_row(found, work.ask.lists[number])}
                    yield to_bytes(line) + b"\n"
    try:
        answer = await service.engine.finish(work)
    except Refusal as refusal:
        seen.kind = refusal.kind
        told = refusal_body(refusal, path="/v1/grade", request_id=seen.request_id)
        yield to_bytes({"object": "error", "status": refusal.status, **told}) + b"\n"
        return
    service.count(seen, answer)
    for line in stream_rows(answer, sent):
        yield to_bytes(line) + b"\n"
    yield to_bytes(stream_end(answer, request_id=seen.request_id)) + b"\n"


def _ascii(name: str) -> str:
    return name.encode("ascii", "replace").decode("ascii")
