"""An app behind uvicorn: the socket, the log, and a stop that lets running requests end."""

import logging
import socket
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI

from relgrade.serve.connections import guarded
from relgrade.serve.logs import JsonFormatter, logger
from relgrade.serve.service import Service
from relgrade.serve.settings import ServeSettings

DRAIN_EXTRA_S = 2  # beyond the deadline of the last request
MAX_HEADER_BYTES = 32_768
BACKLOG = 512


def open_socket(settings: ServeSettings) -> socket.socket:
    """Bind and listen; port 0 takes a free one.

    Raises:
        OSError: the port is taken, or the address is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host.strip("[]"), settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        error.filename = f"{settings.host}:{settings.port}"
        raise


def run_server(app: FastAPI, *, bound: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT; then no connection is taken, and running requests end.

    Args:
        app: of `create_app`.
        bound: see `open_socket`.
    """
    service: Service = app.state.service
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here depends on who the client says it is
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(service.settings.timeout_s) + DRAIN_EXTRA_S,
        limit_concurrency=None,  # the gate answers in words
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        http=guarded(service.settings.header_timeout_s, write_timeout_s=service.settings.timeout_s),
        ws="none",
    )
    _Server(config, service).run(sockets=[bound])


class _Server(uvicorn.Server):
    """Tells the service that it drains as soon as the signal comes."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: Any) -> None:
        self._service.is_draining = True
        logger.info("draining", extra={"signal": sig})
        super().handle_exit(sig, frame)


def log_as_json(level: str = "info") -> None:
    """Send the log of the server to stderr, a JSON object a line. Changes logging for the whole process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name in ("relgrade.serve", "uvicorn", "uvicorn.error"):
        each = logging.getLogger(name)
        each.handlers, each.propagate = [handler], False
        each.setLevel(level.upper())
    logging.getLogger("uvicorn.error").handlers = []
    logging.getLogger("uvicorn.error").propagate = True
