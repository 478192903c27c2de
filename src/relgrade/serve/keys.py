"""Who may call: keys compared in constant time, how often each may call, and how often an address may be wrong.

Every key is compared with what was sent, whether or not an earlier one fits, and as hashes of one length.
"""

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from relgrade.serve.guesses import Guesses
from relgrade.serve.refusals import Denied, RateLimited

ADMIN = "admin"  # the name of the admin key in the log
_BURST_S = 10.0  # a key that rested may send what it saved up in so many seconds, and at least one request


@dataclass
class _Bucket:
    """What a key may still send."""

    n_left: float
    filled_s: float


class Keyring:
    """The keys of a server.

    Args:
        keys: name -> key; empty lets everyone in.
        admin_key: opens the admin route as well; None: nothing does.
        requests_per_minute: of each key; None: unlimited.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        keys: Mapping[str, str],
        *,
        admin_key: str | None = None,
        requests_per_minute: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hashes = {name: _hash(key) for name, key in keys.items()}
        self._admin_hash = None if admin_key is None else _hash(admin_key)
        self._per_s = None if requests_per_minute is None else requests_per_minute / 60
        self._clock = clock
        self._guesses = Guesses(clock=clock)
        self._buckets: dict[str, _Bucket] = {}

    @property
    def is_open(self) -> bool:
        """True when no key is needed."""
        return not self._hashes

    @property
    def has_admin(self) -> bool:
        """True when there is an admin key."""
        return self._admin_hash is not None

    def admit(self, sent: str | None, *, address: str | None = None) -> str | None:
        """Name of the caller's key; None where no key is needed and none of ours was sent.

        Args:
            sent: the key.
            address: of the caller, for what it may still try; None: not counted.

        Raises:
            Denied: a key is needed, and none or a wrong one was sent.
            RateLimited: the key has used up its requests, or the address its wrong keys.
        """
        name = self.identify(sent)
        if not self.is_open and sent is not None:
            self._guesses.judge(address, name)
        if name is None and not self.is_open:
            raise Denied("no key was sent" if sent is None else "the key is not one of this server")
        self._count(name)
        return name

    def require_admin(self, sent: str | None, *, address: str | None = None) -> None:
        """Raise Denied unless it is the admin key, or RateLimited as `admit`."""
        name = self.identify(sent)
        if sent is not None:
            self._guesses.judge(address, name if name == ADMIN else None)
        if name != ADMIN:
            raise Denied("the admin key was expected")

    def identify(self, sent: str | None) -> str | None:
        """Name of a key, in a time that does not depend on how much of it is right."""
        found = None
        sent_hash = _hash(sent or "")
        for name, known in self._hashes.items():
            if hmac.compare_digest(sent_hash, known):
                found = name
        if self._admin_hash is not None and hmac.compare_digest(sent_hash, self._admin_hash):
            found = ADMIN
        return found

    def _count(self, name: str | None) -> None:
        if self._per_s is None:
            return
        now_s = self._clock()
        size = max(1.0, self._per_s * _BURST_S)
        bucket = self._buckets.setdefault(name or "", _Bucket(size, now_s))
        bucket.n_left = min(size, bucket.n_left + (now_s - bucket.filled_s) * self._per_s)
        bucket.filled_s = now_s
        if bucket.n_left < 1.0:
            raise RateLimited("this key has used up its requests", retry_after_s=(1.0 - bucket.n_left) / self._per_s)
        bucket.n_left -= 1.0


def sent_key(headers: Mapping[str, str]) -> str | None:
    """The key of a request: `Authorization: Bearer KEY`, the bare key there as some clients send it, or `X-Api-Key`."""
    value = headers.get("authorization", "").strip()
    if value:
        scheme, _, rest = value.partition(" ")
        return rest.strip() if scheme.lower() == "bearer" else value
    return headers.get("x-api-key") or None


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
