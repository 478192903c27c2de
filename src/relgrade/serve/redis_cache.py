"""A result cache in Redis, shared by several servers (extra `serve-redis`). One that does not answer costs a moment."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

from relgrade.errors import MissingExtra
from relgrade.serve.cache import Reading

_PREFIX = "relgrade:1:"  # raised when the value changes its form
_TIMEOUT_S = 0.25  # a cache slower than this is slower than the model

_logger = logging.getLogger("relgrade.serve")


class RedisCache:
    """Implements `serve.cache.ResultCache`.

    Args:
        client: of `redis.asyncio`.
        keep_s: seconds an entry stays; memory is bounded by this and by Redis's own `maxmemory`.
    """

    def __init__(self, client: Any, *, keep_s: int = 86_400) -> None:
        self._client = client
        self._keep_s = keep_s

    @classmethod
    def connect(cls, url: str, *, keep_s: int = 86_400) -> Self:
        """A cache at redis://host:port/number; nothing is sent yet.

        Raises:
            MissingExtra: redis is not installed.
        """
        try:
            from redis.asyncio import Redis
        except ImportError as error:
            raise MissingExtra("redis", extra="serve-redis", purpose="keep results in Redis") from error
        client = Redis.from_url(url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)
        return cls(client, keep_s=keep_s)

    async def get(self, keys: Sequence[str]) -> dict[str, Reading]:
        """Those that are known; none while Redis does not answer."""
        if not keys:
            return {}
        try:
            values = await self._client.mget([_PREFIX + key for key in keys])
        except Exception as error:  # whatever its client raises: a cache must not stop a grade
            _logger.warning("redis does not answer: %s", type(error).__name__)
            return {}
        return {key: found for key, value in zip(keys, values, strict=True) if (found := _reading(value)) is not None}

    async def put(self, readings: Mapping[str, Reading]) -> None:
        """Remember, if Redis answers."""
        if not readings:
            return
        try:
            async with self._client.pipeline(transaction=False) as pipe:
                for key, reading in readings.items():
                    value = json.dumps([reading.logit, reading.truncated, reading.windows, reading.span])
                    pipe.set(_PREFIX + key, value, ex=self._keep_s)
                await pipe.execute()
        except Exception as error:
            _logger.warning("redis does not answer: %s", type(error).__name__)


def _reading(value: bytes | str | None) -> Reading | None:
    """None for what is missing or was written by something else."""
    try:
        logit, truncated, windows, span = json.loads(value or "null")
    except (TypeError, ValueError):
        return None
    is_sound = isinstance(logit, float) and math.isfinite(logit) and type(truncated) is bool and type(windows) is int
    if not is_sound or not (span is None or _is_span(span)):
        return None
    return Reading(logit, truncated, windows, None if span is None else (span[0], span[1]))


def _is_span(value: Any) -> bool:
    is_pair = isinstance(value, list) and len(value) == 2 and all(type(each) is int for each in value)
    return is_pair and 0 <= value[0] <= value[1]
