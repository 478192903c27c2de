"""Dataclasses from JSON, strictly: a field too many, one too few or one of the wrong type is named."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from relgrade.bundle import strict_json
from relgrade.errors import InvalidInput


def require(condition: bool, message: str) -> None:
    """Raise InvalidInput with the message unless the condition holds."""
    if not condition:
        raise InvalidInput(message)


def require_text(name: str, value: Any) -> None:
    """Raise InvalidInput unless the value is a string with something in it."""
    is_text = isinstance(value, str) and bool(value.strip())
    require(is_text, f"{name} must be a string that is not empty, got {value!r}")


def mapping(value: Any, place: str) -> Mapping[str, Any]:
    """The value, when it is a JSON object; `place` names it in the message of InvalidInput."""
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{place} must be a JSON object, got {value!r}")
    return value


def listed(value: Any, place: str) -> list[Any]:
    """The value, when it is a list; `place` names it in the message of InvalidInput."""
    if not isinstance(value, list):
        raise InvalidInput(f"{place} must be a list, got {value!r}")
    return value


def number(value: Any, place: str) -> float:
    """The value as a float, when it is a finite number; `place` names it in the message of InvalidInput."""
    require(strict_json.is_number(value), f"{place} must be a finite number, got {value!r}")
    return float(value)


def checked_fields(kind: Any, data: Any, place: str, *, is_whole: bool = False) -> dict[str, Any]:
    """A copy of `data` that has the fields of a dataclass, all those without a default, and no other.

    Args:
        kind: the dataclass.
        data: a JSON object.
        place: its name in messages.
        is_whole: fields with a default must be there too.

    Raises:
        InvalidInput: not an object, a field is unknown, or one is missing.
    """
    known = {item.name: item for item in fields(kind)}
    unknown = sorted(set(mapping(data, place)) - set(known))
    require(not unknown, f"{place} has unknown fields {unknown}")
    missing = [
        name
        for name, item in known.items()
        if name not in data and (is_whole or (item.default is MISSING and item.default_factory is MISSING))
    ]
    require(not missing, f"{place} lacks the fields {missing}")
    return dict(data)
