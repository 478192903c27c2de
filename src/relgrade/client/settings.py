"""What both clients are told when they are made, checked."""

from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import SplitResult, urlsplit

from relgrade.client.failing import OnError, ServedList, require_on_error
from relgrade.client.wire import GRADE_PATH, TIMEOUT_HEADER
from relgrade.errors import InvalidInput

_MAX_TIMEOUT_S = 86_400.0


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """The arguments of a client; see `Client`."""

    url: str
    api_key: str | None = field(repr=False)
    timeout_s: float
    retries: int
    operating_point: str | None
    on_error: OnError
    model: str | None

    def __post_init__(self) -> None:
        parts = require_base_url(self.url)
        if parts.username is not None or parts.password is not None:
            raise InvalidInput("url: a key does not belong in it, where logs would show it; pass api_key")
        key = self.api_key
        if key is not None and (not isinstance(key, str) or not key.isascii() or not key.isprintable() or not key):
            raise InvalidInput("api_key: printable ASCII was expected")
        is_number = isinstance(self.timeout_s, int | float) and not isinstance(self.timeout_s, bool)
        if not is_number or not 0.0 < self.timeout_s <= _MAX_TIMEOUT_S:
            raise InvalidInput(f"timeout_s must be between 0 and {_MAX_TIMEOUT_S:g}, got {self.timeout_s!r}")
        if isinstance(self.retries, bool) or not isinstance(self.retries, int) or self.retries < 0:
            raise InvalidInput(f"retries must be a whole number >= 0, got {self.retries!r}")
        require_on_error(self.on_error)

    @property
    def endpoint(self) -> str:
        """Where calls go."""
        return self.url.rstrip("/").removesuffix(GRADE_PATH) + GRADE_PATH

    @property
    def headers(self) -> dict[str, str]:
        """Those of every request."""
        told = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "relgrade-client"}
        return told if self.api_key is None else {**told, "Authorization": f"Bearer {self.api_key}"}

    @staticmethod
    def time_header(remaining_s: float) -> dict[str, str]:
        """Tells the server how long an answer is of use."""
        return {TIMEOUT_HEADER: str(max(1, int(remaining_s * 1000)))}


def require_base_url(url: Any) -> SplitResult:
    """The parts of a server's base URL; raises InvalidInput for what is none."""
    try:
        parts = urlsplit(url) if isinstance(url, str) else urlsplit("")
    except ValueError:  # brackets that do not close
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise InvalidInput(f"url: a base URL such as http://localhost:8321 was expected, got {url!r}")
    return parts


def require_top_k(top_k: Any) -> None:
    """Raise InvalidInput unless it is None or a whole number from 1 on."""
    if top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1):
        raise InvalidInput(f"top_k must be a whole number >= 1, got {top_k!r}")


def reranked(graded: ServedList, *, top_k: int | None) -> ServedList:
    """By falling logit, documents that nobody judged last and in the order of the call, cut to `top_k`."""
    judged = [grade for grade in graded if grade.logit == grade.logit]
    rest = [grade for grade in graded if grade.logit != grade.logit]
    ordered = [*sorted(judged, key=lambda grade: -grade.logit), *rest]
    return replace(graded, grades=tuple(ordered[:top_k]))
