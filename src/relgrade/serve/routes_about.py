"""Routes about the server: whether it lives and is ready, what it serves, its metrics, and the admin's reload."""

import re
import time
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from relgrade import __version__
from relgrade.serve.gate import address_of
from relgrade.serve.grade_request import point_json
from relgrade.serve.hosted import HostedModel
from relgrade.serve.keys import sent_key
from relgrade.serve.refusals import Draining, NoRoute, Stuck
from relgrade.serve.replies import JsonResponse
from relgrade.serve.service import Service

# Of a path in a message; the log has it whole, a client gets the name of the file.
_FOLDERS = re.compile(r"(?:[A-Za-z]:)?[\\/][^:'\"\n]*[\\/]")
STUCK_DEADLINES = 2  # so long at one micro-batch, a worker will not come back
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def add_about_routes(app: FastAPI, service: Service) -> None:
    """Register the routes."""

    async def health(request: Request) -> Response:
        """200 while the process answers."""
        return JsonResponse({"status": "ok", "unix": time.time()})

    async def ready(request: Request) -> Response:
        """200 while it takes requests, 503 from the moment it is told to stop, and when nothing is judged any more."""
        if service.is_draining:
            raise Draining("the server is about to stop")
        if service.engine.scheduler.is_stuck(STUCK_DEADLINES * service.settings.timeout_s):
            raise Stuck("the model does not answer; the server must be started again")
        return JsonResponse({"status": "ready", "models": [model.name for model in service.rack.models]})

    async def version(request: Request) -> Response:
        """Of relgrade."""
        return JsonResponse({"name": "relgrade", "version": __version__})

    async def info(request: Request) -> Response:
        """What serves, as Text Embeddings Inference tells it, and what relgrade adds."""
        return JsonResponse(info_body(service))

    async def models(request: Request) -> Response:
        """The bundles, in the words of two families of clients."""
        return JsonResponse(models_body(service.rack.models))

    async def metrics(request: Request) -> Response:
        """For Prometheus."""
        return Response(service.measures.exposition(), headers={"Content-Type": METRICS_TYPE})

    async def reload(request: Request) -> Response:
        """Load every bundle again; a bad one is refused and the old one serves on."""
        if not service.keyring.has_admin:
            raise NoRoute("there is no such route")
        service.keyring.require_admin(sent_key(request.headers), address=address_of(request.scope))
        outcomes = await service.reload()
        is_good = all(outcome.is_loaded for outcome in outcomes)
        told = [{**asdict(outcome), "message": _FOLDERS.sub("", outcome.message)} for outcome in outcomes]
        return JsonResponse({"models": told}, status_code=200 if is_good else 409)

    for path, endpoint in (
        ("/health", health),
        ("/ready", ready),
        ("/version", version),
        ("/info", info),
        ("/v1/models", models),
        ("/models", models),
        ("/metrics", metrics),
    ):
        app.add_api_route(path, endpoint, methods=["GET"], response_model=None)
    app.add_api_route("/admin/reload", reload, methods=["POST"], response_model=None)


def info_body(service: Service) -> dict[str, Any]:
    """`GET /info`. `model_type` is an object whose first key is `reranker`: clients look for it."""
    settings, model = service.settings, service.rack.get(None)
    return {
        "model_id": model.name,
        "model_sha": model.bundle.hash,
        "model_dtype": "float32",
        "model_type": {"reranker": {"id2label": {"0": "relevant"}, "label2id": {"relevant": 0}}},
        "max_concurrent_requests": settings.max_requests,
        "max_input_length": model.limit_tokens,
        "max_batch_tokens": settings.batch_tokens,
        "max_batch_requests": None,
        "max_client_batch_size": settings.max_documents,
        "auto_truncate": True,
        "tokenization_workers": 1,
        "version": __version__,
        "sha": None,
        "docker_label": None,
        "relgrade": {each.name: _model_body(each) for each in service.rack.models},
    }


def models_body(models: tuple[HostedModel, ...]) -> dict[str, Any]:
    """`GET /v1/models`: `data` for OpenAI's clients, `models` for TypeSafe's."""
    data = [
        {
            "id": model.name,
            "object": "model",
            "created": int(model.loaded_s),
            "owned_by": "relgrade",
            "architecture": {"output_modalities": ["decisions"]},
            **_model_body(model),
        }
        for model in models
    ]
    named = [
        {
            "name": model.name,
            "description": model.bundle.manifest.description,
            "release_date": time.strftime("%Y-%m-%d", time.gmtime(model.loaded_s)),
        }
        for model in models
    ]
    return {"object": "list", "data": data, "models": named}


def _model_body(model: HostedModel) -> dict[str, Any]:
    manifest = model.bundle.manifest
    return {
        "bundle": manifest.name,
        "bundle_hash": model.bundle.hash,
        "rubric": manifest.rubric,
        "operating_points": [point_json(point) for point in manifest.operating_points],
        "default_point": manifest.default_point,
    }
