"""Numbers and times as logs write them."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any


def number_of(values: Mapping[str, Any], *names: str, is_count: bool = False, is_signed: bool = False) -> Any:
    """The first of the names that holds a finite number, a text of one too; None where none does.

    Args:
        values: of a row.
        names: tried in order.
        is_count: whole numbers alone are meant.
        is_signed: numbers below zero are meant too.
    """
    for name in names:
        value = values.get(name)
        if value is None or isinstance(value, bool):
            continue
        try:
            number = float(value)
        except (TypeError, ValueError):
            continue
        if math.isfinite(number) and (is_signed or number >= 0):
            return int(number) if is_count else number
    return None


def duration_of(values: Mapping[str, Any]) -> float | None:
    """Seconds that a call took, from a field that says so or from its start and end."""
    seconds = number_of(values, "latency_s", "duration_s", "latency", "duration")
    if seconds is not None:
        return float(seconds)
    milliseconds = number_of(values, "latency_ms", "duration_ms", "response_ms")
    if milliseconds is not None:
        return float(milliseconds) / 1000.0
    start, end = _moment(values.get("start_time")), _moment(values.get("end_time"))
    return None if start is None or end is None or end < start else end - start


def _moment(value: Any) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    # Without a zone both ends are of the same clock, and only their difference counts.
    return moment.replace(tzinfo=None).timestamp() if moment.tzinfo is None else moment.timestamp()
