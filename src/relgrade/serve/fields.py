"""Reads one JSON object field by field, leniently where clients differ: null is absent, "true" is true."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from relgrade.serve.refusals import Invalid

_TRUE, _FALSE = {"true", "1", "yes"}, {"false", "0", "no", ""}
_MAX_SHOWN = 60


class Fields:
    """One object.

    Args:
        body: parsed JSON.
        place: its name in messages; empty for the body itself.

    Raises:
        Invalid: it is no object.
    """

    def __init__(self, body: Any, place: str = "") -> None:
        if not isinstance(body, Mapping):
            raise Invalid(
                f"{place or 'the body'}: a JSON object was expected, got {shown(body)}", place=place or "body"
            )
        self._body = body
        self._prefix = f"{place}." if place else ""

    def has(self, name: str) -> bool:
        """True when it is there and not null."""
        return self._body.get(name) is not None

    def get(self, name: str) -> Any:
        """Whatever is there, None for nothing."""
        return self._body.get(name)

    def text(self, name: str) -> str | None:
        """A string, None for nothing."""
        value = self._body.get(name)
        if value is None or isinstance(value, str):
            return value
        raise self.wrong(name, "a string", value)

    def require_text(self, name: str) -> str:
        """A string that must be there."""
        value = self.text(name)
        if value is None:
            raise Invalid(f"{self._prefix}{name} is missing", place=self._prefix + name)
        return value

    def flag(self, name: str) -> bool | None:
        """A boolean, or one spelt as a string or number; None for nothing."""
        value = self._body.get(name)
        if value is None or isinstance(value, bool):
            return value
        word = str(value).strip().lower() if isinstance(value, str | int) else None
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
        raise self.wrong(name, "true or false", value)

    def count(self, name: str, *, lowest: int) -> int | None:
        """A whole number; None for nothing."""
        value = self._body.get(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
            raise self.wrong(name, f"a whole number >= {lowest}", value)
        return value

    def number(self, name: str) -> float | None:
        """A finite number; None for nothing."""
        value = self._body.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(name, "a number", value)
        try:
            number = float(value)
        except OverflowError:  # a whole number of more than 308 digits
            number = math.inf
        if not math.isfinite(number):
            raise self.wrong(name, "a number", value)
        return number

    def choice(self, name: str, choices: Sequence[str]) -> str | None:
        """One of some strings; None for nothing."""
        value = self._body.get(name)
        if value is None or (isinstance(value, str) and value in choices):
            return value
        raise self.wrong(name, f"one of {', '.join(choices)}", value)

    def require_list(self, name: str) -> list[Any]:
        """A list that must be there."""
        value = self._body.get(name)
        if value is None:
            raise Invalid(f"{self._prefix}{name} is missing", place=self._prefix + name)
        if not isinstance(value, list):
            raise self.wrong(name, "a list", value)
        return value

    def wrong(self, name: str, expected: str, value: Any) -> Invalid:
        """The error of a field that is not what was expected."""
        place = self._prefix + name
        return Invalid(f"{place}: {expected} was expected, got {shown(value)}", place=place)


def shown(value: Any) -> str:
    """A value in a message: numbers and words as they are, short; of the rest the type alone."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**15:
        return "a number too large"  # str() of an endless number is slow, and fails from 4300 digits on
    return repr(value)[:_MAX_SHOWN]
