"""JSON without its traps: no NaN, no key twice, and only values that read back as they were written."""

import json
import math
from collections.abc import Mapping
from typing import Any

from relgrade.errors import InvalidInput


def parse(content: bytes) -> Any:
    """The value of a UTF-8 JSON text.

    Raises:
        ValueError: not UTF-8, not JSON, NaN or Infinity, a key twice in one object, or nested too deeply.
    """
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=_unique_keys, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def is_number(value: Any) -> bool:
    """True for a finite int or float that float64 can hold; bool is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond float64
        return False


def plain(value: Any, place: str) -> Any:
    """A deep copy with mappings as dict and tuples as list.

    Args:
        value: anything.
        place: its name in messages.

    Raises:
        InvalidInput: the value is not JSON: another type, a key that is no string, NaN or an infinity.
    """
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise InvalidInput(f"{place}: a JSON key is a string, got {key!r}")
        return {key: plain(item, f"{place}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{place}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput(f"{place}: JSON has no {value!r}")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise InvalidInput(f"{place}: {type(value).__name__} is not JSON; convert it first")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice in one object")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
