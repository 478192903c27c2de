"""A server for graders: its own route, the dialects of other rerankers, and a playground (extra `serve`)."""

from relgrade.errors import MissingExtra

try:
    import fastapi as _fastapi  # noqa: F401
    import prometheus_client as _prometheus_client  # noqa: F401
    import uvicorn as _uvicorn  # noqa: F401
except ImportError as error:
    package = (error.name or "fastapi").replace("_", "-")
    raise MissingExtra(package, extra="serve", purpose="serve a grader") from error

from relgrade.serve.app import create_app
from relgrade.serve.hosted import ModelRack, load_bundle_and_runtime
from relgrade.serve.running import log_as_json, open_socket, run_server
from relgrade.serve.settings import ServeSettings

__all__ = [
    "ModelRack",
    "ServeSettings",
    "create_app",
    "load_bundle_and_runtime",
    "log_as_json",
    "open_socket",
    "run_server",
]
