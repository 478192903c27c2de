"""Routes that other servers' clients call: rerank in three dialects, and the two decision formats."""

import time
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from relgrade.serve import decisions, rerank_request
from relgrade.serve.asking import Answer
from relgrade.serve.replies import JsonResponse
from relgrade.serve.routes_grade import answer_headers
from relgrade.serve.service import Service

RERANK_PATHS = ("/rerank", "/v1/rerank", "/v2/rerank", "/reranking", "/v1/reranking", "/")


def add_rerank_routes(app: FastAPI, service: Service) -> None:
    """Register the routes."""

    async def rerank(request: Request) -> Response:
        """Sort documents by calibrated probability, in the dialect of the body."""
        parsed = rerank_request.read_rerank_request(await service.read(request), service.rack, service.settings)
        answer = await service.answer(request, parsed.ask, dialect=parsed.dialect)
        body = rerank_request.reply(parsed, answer, request_id=_id(request), created=int(time.time()))
        headers = answer_headers(answer)
        if parsed.dialect == "tei":
            headers |= tei_headers(answer, total_s=time.monotonic() - request.state.start_s)
        return JsonResponse(body, headers=headers)

    async def systemone(request: Request) -> Response:
        """Answer yes-or-no and score questions about the relevance of documents."""
        body = await service.read(request)
        parsed = decisions.read_systemone(body, service.rack, service.settings)
        answer = await service.answer(request, parsed.ask, dialect="systemone")
        return JsonResponse(decisions.systemone_reply(parsed, answer), headers=answer_headers(answer))

    async def decide(request: Request) -> Response:
        """Answer predicate and score questions about the relevance of documents."""
        body = await service.read(request)
        parsed = decisions.read_decision(body, service.rack, service.settings)
        answer = await service.answer(request, parsed.ask, dialect="decisions")
        told: dict[str, Any] = decisions.decision_reply(
            parsed, answer, request_id=_id(request), created=int(time.time())
        )
        return JsonResponse(told, headers=answer_headers(answer))

    for path in RERANK_PATHS:
        app.add_api_route(path, rerank, methods=["POST"], response_model=None)
    app.add_api_route("/v1/systemone", systemone, methods=["POST"], response_model=None)
    app.add_api_route("/v1/decisions", decide, methods=["POST"], response_model=None)


def tei_headers(answer: Answer, *, total_s: float) -> dict[str, str]:
    """What Text Embeddings Inference tells in headers; times in milliseconds."""
    times = answer.timings
    n_characters = sum(len(item.text) for each in answer.lists for item in each.ask.items)
    return {
        "x-compute-type": "cpu",
        "x-compute-time": str(round(times.encode_ms + times.run_ms)),
        "x-compute-characters": str(n_characters),
        "x-compute-tokens": str(answer.tokens),
        "x-total-time": str(round(total_s * 1e3)),
        "x-tokenization-time": str(round(times.encode_ms)),
        "x-queue-time": str(round(times.queue_ms)),
        "x-inference-time": str(round(times.run_ms)),
    }


def _id(request: Request) -> str:
    found: str = request.state.seen.request_id
    return found
