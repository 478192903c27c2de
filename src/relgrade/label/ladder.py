"""What one server can do for one model: methods from the best down, and the fields it refuses; kept in the journal.

Logprobs give soft labels, a schema gives answers that always parse, text works everywhere. The ladder goes down when
the server refuses a field by name, or when a method has never worked and the next one does; never because of one pair.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from relgrade.label.requests import TOP_LOGPROBS
from relgrade.label.rubric import Method

_MAX_FRUITLESS = 3  # replies without an answer, before a method that never gave one is given up
_FIELDS = ("temperature", "top_p", "seed")
_STRUCTURE = ("response_format", "json_schema", "json_object", "schema", "grammar", "structured")


class Ladder:
    """The method to use now, and what was learned.

    Args:
        methods: what may be used, best first.
        state: what an earlier run learned.
        remember: is told the state whenever it changes.
    """

    def __init__(
        self,
        methods: Sequence[Method],
        *,
        state: Mapping[str, Any] | None = None,
        remember: Callable[[dict[str, Any]], None] = lambda state: None,
    ) -> None:
        known = state or {}
        self._methods = tuple(methods)
        self._refused: set[str] = set(known.get("refused", ()))  # methods
        self._worked: set[str] = set(known.get("worked", ()))
        self.dropped: set[str] = set(known.get("dropped", ()))  # fields
        self._fruitless: dict[str, int] = {}
        self._remember = remember

    @property
    def method(self) -> Method:
        """The best that was not refused; the last of all when every one was."""
        return next((item for item in self._methods if item not in self._refused), self._methods[-1])

    def below(self, method: Method) -> Method | None:
        """The next one down."""
        later = self._methods[self._methods.index(method) + 1 :]
        return next((item for item in later if item not in self._refused), None)

    def has_worked(self, method: Method) -> bool:
        """True once it gave an answer."""
        return method in self._worked

    def note_answer(self, method: Method) -> None:
        """A method gave an answer; those above it that never did are given up."""
        above = set(self._methods[: self._methods.index(method)])
        given_up = {item for item in above - self._worked if self._fruitless.get(item, 0) >= _MAX_FRUITLESS}
        if method not in self._worked or given_up - self._refused:
            self._worked.add(method)
            self._refused |= given_up
            self._save()

    def note_rejection(self, method: Method, detail: str) -> bool:
        """The server refused a request.

        Returns:
            True when its words name a field, which is left out or asked for otherwise from now on.
        """
        text = detail.casefold()
        if "context" in text or "too long" in text:  # such messages name max_tokens too, and mean the document
            return False
        change = self._change_for(method, text)
        if change is None:
            return False
        if change == method:
            self._refused.add(method)
        else:
            self.dropped.add(change)
        self._save()
        return True

    def note_fruitless(self, method: Method) -> None:
        """A method brought a reply that holds no answer, or was refused without a reason that is understood."""
        self._fruitless[method] = self._fruitless.get(method, 0) + 1

    def give_up(self, method: Method) -> None:
        """The server does not do this at all."""
        if method not in self._refused and self.below(method) is not None:
            self._refused.add(method)
            self._save()

    def _change_for(self, method: Method, text: str) -> str | None:
        """The field to drop, or the method itself to give it up."""
        fewer = f"top_logprobs:{TOP_LOGPROBS}"
        if method == "logprobs" and "top_logprobs" in text and fewer not in self.dropped:
            return fewer
        if method == "logprobs" and "logprob" in text:
            return method if self.below(method) else None
        if method in ("json_schema", "json_object") and any(name in text for name in _STRUCTURE):
            return method if self.below(method) else None
        if ("max_tokens" in text or "max_completion_tokens" in text) and "max_tokens" not in self.dropped:
            return "max_tokens"
        return next((name for name in _FIELDS if name in text and name not in self.dropped), None)

    def _save(self) -> None:
        names = {"refused": self._refused, "worked": self._worked, "dropped": self.dropped}
        self._remember({name: sorted(values) for name, values in names.items()})
