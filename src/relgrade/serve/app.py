"""The ASGI app: routes, thin. What they do stands in the modules of each dialect."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from relgrade import __version__
from relgrade.serve.cache import MemoryCache, ResultCache
from relgrade.serve.gate import Gate, route_path
from relgrade.serve.hosted import ModelRack
from relgrade.serve.openapi import describe
from relgrade.serve.playground import add_playground
from relgrade.serve.refusals import Refusal
from relgrade.serve.replies import refusal_response
from relgrade.serve.routes_about import add_about_routes
from relgrade.serve.routes_grade import add_grade_routes
from relgrade.serve.routes_rerank import add_rerank_routes
from relgrade.serve.service import Service
from relgrade.serve.settings import ServeSettings, is_loopback


def create_app(rack: ModelRack, settings: ServeSettings | None = None, *, cache: ResultCache | None = None) -> FastAPI:
    """The app for any ASGI server; `app.state.service` is what it is made of.

    Args:
        rack: the loaded bundles.
        settings: limits, keys and behaviour; None takes the defaults.
        cache: of results; None takes the one that the settings ask for.
    """
    settings = settings or ServeSettings()
    if cache is None and settings.cache_entries:
        cache = MemoryCache(settings.cache_entries)
    service = Service(rack, settings, cache=cache)
    # Its own pages load scripts from elsewhere; docs/openapi.json says the same.
    app = FastAPI(
        title="relgrade",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would make clients repeat their key elsewhere
        lifespan=_lifespan,
    )
    app.state.service = service
    app.add_middleware(
        Gate,
        keyring=service.keyring,
        measures=service.measures,
        max_requests=settings.max_requests,
        is_local=is_loopback(settings.host),
    )
    app.add_exception_handler(Refusal, _refuse)
    app.add_exception_handler(HTTPException, _refuse_route)
    add_grade_routes(app, service)
    add_rerank_routes(app, service)
    add_about_routes(app, service)
    if settings.has_playground:
        add_playground(app, service)
    describe(app)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[object]] = set()

    def reload() -> None:
        task = loop.create_task(service.reload())
        reloads.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(reloads.discard)

    with contextlib.suppress(
        AttributeError, NotImplementedError, RuntimeError, ValueError
    ):  # not on every system, nor in a thread
        loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        yield
    finally:
        service.is_draining = True
        service.close()


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    request.state.seen.kind = error.kind
    return refusal_response(error, path=route_path(request.scope), request_id=request.state.seen.request_id)


async def _refuse_route(request: Request, error: Exception) -> Response:
    """No such route or method, in the shape of every other error."""
    assert isinstance(error, HTTPException)
    refusal = Refusal("there is no such route" if error.status_code == 404 else str(error.detail))
    refusal.status, refusal.kind = error.status_code, "route"
    response = await _refuse(request, refusal)
    response.headers.update(error.headers or {})
    if error.status_code == 405:  # Starlette names those of one route alone, and `/` has two
        routes = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
        response.headers["Allow"] = ", ".join(sorted({method for route in routes for method in route.methods or ()}))
    return response
