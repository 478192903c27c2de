"""Speaks to a relgrade server: the calls of a Grader, the same records, over HTTP (extra `client`)."""

from relgrade.errors import MissingExtra

try:
    import httpx as _httpx  # noqa: F401
except ImportError as error:
    raise MissingExtra("httpx", extra="client", purpose="speak to a relgrade server") from error

from relgrade.client.asynchronous import AsyncClient
from relgrade.client.failing import Failure, OnError, ServedCompressed, ServedList, ServerError
from relgrade.client.synchronous import Client

__all__ = ["AsyncClient", "Client", "Failure", "OnError", "ServedCompressed", "ServedList", "ServerError"]
