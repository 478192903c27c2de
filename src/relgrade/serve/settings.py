"""What a server is told when it starts, checked. It reads neither files nor the environment."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field

from relgrade.errors import InvalidSettings

MIN_KEY_LENGTH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """Limits and behaviour. Sizes are in bytes, characters or counts, as named; times in seconds."""

    host: str = "127.0.0.1"
    port: int = 8321
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)  # name -> key; empty: anyone may call
    admin_key: str | None = field(default=None, repr=False)  # of POST /admin/reload; None: there is no such route
    is_open: bool = False  # bind beyond this machine without a key
    requests_per_minute: float | None = None  # of each key; None: unlimited
    timeout_s: float = 30.0  # of one request, from its first byte; a caller may ask for less
    header_timeout_s: float = 10.0  # until a request's headers are there
    batch_tokens: int = 1024  # document tokens of one micro-batch, about
    n_workers: int = 2  # micro-batches in flight: while one is tokenised, the other runs
    n_threads: int | None = None  # sequences at once in one micro-batch; None: the cores
    max_queue_documents: int = 2000  # that wait or run; one request alone may hold more
    max_wait_s: float = 10.0  # a request that would wait longer is refused
    max_requests: int = 256  # in flight at once
    max_body_bytes: int = 16_000_000
    max_documents: int = 1000  # of one request, over all its queries
    max_characters: int = 8_000_000  # of one request: documents, titles and queries
    cache_entries: int = 0  # results of pairs kept in memory; 0: none
    has_playground: bool = True
    logs_documents: bool = False  # write queries and documents into the log

    def __post_init__(self) -> None:
        for name in ("batch_tokens", "n_workers", "max_queue_documents", "max_requests", "max_body_bytes"):
            _require(getattr(self, name) >= 1, f"{name} must be >= 1, got {getattr(self, name)}")
        for name in ("max_documents", "max_characters"):
            _require(getattr(self, name) >= 1, f"{name} must be >= 1, got {getattr(self, name)}")
        _require(0 <= self.port <= 65535, f"port must be between 0 and 65535, got {self.port}")
        for name in ("timeout_s", "max_wait_s", "header_timeout_s"):
            _require(getattr(self, name) > 0, f"{name} must be > 0, got {getattr(self, name)}")
        _require(self.cache_entries >= 0, f"cache_entries must be >= 0, got {self.cache_entries}")
        rate = self.requests_per_minute
        _require(rate is None or rate > 0, f"requests_per_minute must be > 0, got {rate}")
        for name, key in {**self.keys, **({"admin": self.admin_key} if self.admin_key is not None else {})}.items():
            is_sound = len(key) >= MIN_KEY_LENGTH and key.isascii() and key.isprintable() and " " not in key
            _require(is_sound, f"key {name!r}: at least {MIN_KEY_LENGTH} printable ASCII characters were expected")
        keys = [*self.keys.values(), *([] if self.admin_key is None else [self.admin_key])]
        _require(len(set(keys)) == len(keys), "two keys are the same")
        _require(
            is_loopback(self.host) or bool(self.keys) or self.is_open,
            f"{self.host} is reachable from other machines and no key is set; set RELGRADE_API_KEYS or --key-file, "
            "bind to 127.0.0.1, or say --open if whoever reaches the port may call",
        )


def is_loopback(host: str) -> bool:
    """True when only this machine reaches it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:  # a name, which may resolve to anything
        return False


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InvalidSettings(message)
