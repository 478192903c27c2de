"""Every way a request ends without grades, each with its status, its kind and what the client is told.

Kinds are those of Text Embeddings Inference where it has one, so that its clients know them.
"""

import math


class Refusal(Exception):
    """Ends a request.

    Attributes:
        status: of HTTP.
        kind: one word for programs and metrics.
        message: one sentence for people; never the inside of the server.
        retry_after_s: when to try again; None: no use.
    """

    status = 500
    kind = "internal"

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        self.message = message
        self.retry_after_s = retry_after_s
        super().__init__(message)

    @property
    def headers(self) -> dict[str, str]:
        """What belongs to the answer beside the body."""
        if self.retry_after_s is None:
            return {}
        seconds = max(0.05, self.retry_after_s)
        return {"Retry-After": str(max(1, math.ceil(seconds))), "Retry-After-Ms": str(math.ceil(seconds * 1000))}


class Malformed(Refusal):
    """The body is not JSON at all."""

    status, kind = 400, "malformed"


class Denied(Refusal):
    """No key, or a wrong one."""

    status, kind = 401, "unauthorized"

    @property
    def headers(self) -> dict[str, str]:
        """Says what was expected."""
        return {"WWW-Authenticate": "Bearer"}


class WrongHost(Refusal):
    """The request names another machine than this one."""

    status, kind = 403, "host"


class NoRoute(Refusal):
    """Nothing is here."""

    status, kind = 404, "route"


class Slow(Refusal):
    """The body did not arrive in time."""

    status, kind = 408, "timeout"


class TooLarge(Refusal):
    """More than a limit allows."""

    status, kind = 413, "too_large"


class WrongType(Refusal):
    """The body is not sent as JSON."""

    status, kind = 415, "media_type"


class Invalid(Refusal):
    """The body is JSON and makes no sense."""

    status, kind = 422, "validation"

    def __init__(self, message: str, *, place: str = "body") -> None:
        self.place = place
        super().__init__(message)


class Ungradable(Refusal):
    """The model gave no finite logit."""

    status, kind = 424, "backend"


class Overloaded(Refusal):
    """No room, or no time before the deadline."""

    status, kind = 429, "overloaded"


class RateLimited(Refusal):
    """The key has used up its requests."""

    status, kind = 429, "rate_limited"


class Draining(Refusal):
    """The server is about to stop."""

    status, kind = 503, "unhealthy"


class Stuck(Refusal):
    """The server runs, and its model does not."""

    status, kind = 503, "unhealthy"


class DeadlinePassed(Refusal):
    """The time of the request is over."""

    status, kind = 504, "deadline"


class ClientGone(Refusal):
    """Nobody waits for the answer any more; the status is for the log."""

    status, kind = 499, "cancelled"
