"""How fast and how much: a pace of requests and tokens a minute, and a budget that is never overdrawn."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from relgrade.errors import InvalidSettings
from relgrade.label.journal_schema import Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a run. None is no limit. Totals are those of the journal: of all its runs and processes."""

    concurrency: int = 16  # requests in flight, of each teacher
    requests_per_minute: float | None = None  # of each teacher
    tokens_per_minute: float | None = None  # of each teacher, input and output
    max_request_tokens: int | None = None  # of one request, input estimated and output allowed; longer ones are errors
    max_request_cost: float | None = None  # of one request, in the currency of the prices
    max_tokens: int | None = None  # in total
    max_cost: float | None = None  # in total
    timeout_s: float = 120.0  # of one request, to the last byte of its reply
    max_retries: int = 5  # after a failure that may pass

    def __post_init__(self) -> None:
        positive = ("requests_per_minute", "tokens_per_minute", "max_request_tokens", "max_request_cost", "max_tokens")
        for name in ("concurrency", "timeout_s", *positive, "max_cost"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InvalidSettings(f"{name} must be above 0, got {value!r}")
        if self.max_retries < 0:
            raise InvalidSettings(f"max_retries must be 0 or more, got {self.max_retries!r}")


class Pace:
    """Lets requests start no faster than a rate: a bucket that fills evenly and holds a few seconds' worth.

    Args:
        per_minute: amount that may start in a minute; None lets everything pass.
        clock: seconds, never going back.
    """

    _BURST_S = 2.0

    def __init__(self, per_minute: float | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = None if per_minute is None else per_minute / 60.0
        self._clock = clock
        self._level = 0.0 if self._rate is None else max(1.0, self._rate * self._BURST_S)
        self._capacity = self._level
        self._filled_s = clock()

    def reserve(self, amount: float) -> float:
        """Take an amount out; returns the seconds to wait before it may be used. The level may go below zero."""
        if self._rate is None:
            return 0.0
        now_s = self._clock()
        self._level = min(self._capacity, self._level + (now_s - self._filled_s) * self._rate)
        self._filled_s = now_s
        # More than the bucket can hold waits for a full one, else it would wait for ever.
        wait_s = max(0.0, (min(amount, self._capacity) - self._level) / self._rate)
        self._level -= amount
        return wait_s

    def correct(self, amount: float) -> None:
        """Take out what an estimate fell short of, or put back what it was too high."""
        self._level -= amount

    async def wait(self, amount: float) -> None:
        """Take an amount out and sleep until it may be used."""
        wait_s = self.reserve(amount)
        if wait_s > 0.0:
            await asyncio.sleep(wait_s)


class Budget:
    """Refuses a request that could pass the limit. One process never overdraws; a second may add what it has in flight.

    Args:
        limits: the run's.
        spent: what the journal's totals are now; called before each request.

    Attributes:
        has_limit: False where no request will ever be refused.
    """

    def __init__(self, limits: Limits, spent: Callable[[], Totals]) -> None:
        self._limits = limits
        self._spent = spent
        self.has_limit = limits.max_tokens is not None or limits.max_cost is not None
        self._n_reserved = 0
        self._reserved_tokens = 0.0
        self._reserved_cost = 0.0
        self._settled = asyncio.Event()

    async def reserve(self, tokens: float, cost: float) -> str | None:
        """Set an amount aside for a request; near the limit, wait for those in flight: they take less than they may.

        Args:
            tokens: it may take at most, about.
            cost: it may take at most, about.

        Returns:
            None, or the reason why the request must not be made; nothing is set aside then.
        """
        while self.has_limit and (reason := self._reason_against(tokens, cost)) is not None:
            if not self._n_reserved:
                return reason
            self._settled.clear()
            await self._settled.wait()
        self._n_reserved += 1
        self._reserved_tokens += tokens
        self._reserved_cost += cost
        return None

    def settle(self, tokens: float, cost: float) -> None:
        """Give back what was set aside; the journal has the true amount by now."""
        self._n_reserved -= 1
        self._reserved_tokens -= tokens
        self._reserved_cost -= cost
        self._settled.set()

    def _reason_against(self, tokens: float, cost: float) -> str | None:
        spent, limits = self._spent(), self._limits
        if limits.max_tokens is not None and spent.tokens + self._reserved_tokens + tokens > limits.max_tokens:
            return f"the limit of {limits.max_tokens:,} tokens is near: {spent.tokens:,} spent"
        if limits.max_cost is not None and spent.cost + self._reserved_cost + cost > limits.max_cost:
            return f"the limit of {limits.max_cost:g} is near: {spent.cost:.4f} spent"
        return None
