"""What an LLM grader said about a pair, and what its many ways of saying so mean. It knows nothing of files."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

YES = frozenset({"yes", "true", "relevant", "pass", "keep", "1", "y"})
NO = frozenset({"no", "false", "irrelevant", "not relevant", "not_relevant", "fail", "drop", "0", "n"})
# Names under which a structured answer holds its verdict; the first that is there counts.
VERDICT_NAMES = (
    *("binary_score", "verdict", "relevant", "is_relevant", "relevance", "llm", "grade", "score", "answer"),
    "output",
)
_WORD = re.compile(r"\b(not relevant|irrelevant|relevant|yes|no|true|false|pass|fail)\b", re.IGNORECASE)
_MAX_DEPTH = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedVerdict:
    """One verdict of the LLM grader. What a log does not tell is None, and never taken for zero."""

    query: str
    document: str
    query_id: str
    doc_id: str
    title: str | None = None
    is_relevant: bool | None  # None: the reply cannot be read as a verdict, or the call failed
    reply: str | None = None  # what was said, where it could not be read
    latency_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: float | None = None  # in the currency of the log
    model: str | None = None
    own: "OwnVerdict | None" = None  # ours, where a live run wrote both
    line: int | None = None  # of the log, from 1


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnVerdict:
    """What our grader said about the same pair."""

    is_relevant: bool | None  # None: it failed
    probability: float | None = None
    margin: float | None = None  # logit minus that of the threshold: how sure it is, and of which side
    latency_s: float | None = None  # of the query's call, shared among its documents
    error: str | None = None


def parse_verdict(value: Any) -> bool | None:
    """True for relevant, False for not relevant, None for what is neither.

    Args:
        value: a flag, 0 or 1, a word, a text that holds one of the words, or a mapping with one of `VERDICT_NAMES`,
            as JSON or not.

    A text in which both a yes and a no stand is read by its last line, where models put their conclusion, and is None
    when that does not settle it.
    """
    return _parse(value, depth=0)


def _parse(value: Any, *, depth: int) -> bool | None:
    if depth > _MAX_DEPTH:
        return None
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return bool(value) if value in (0, 1) else None
    if isinstance(value, Mapping):
        for name in VERDICT_NAMES:
            if value.get(name) is not None:
                return _parse(value[name], depth=depth + 1)
        return None
    return _parse_text(value, depth=depth) if isinstance(value, str) else None


def _parse_text(text: str, *, depth: int) -> bool | None:
    word = text.strip().strip("\"'`*.").strip().lower()
    if word in YES or word in NO:
        return word in YES
    start, end = text.find("{"), text.rfind("}")
    if 0 <= start < end:
        try:
            found = json.loads(text[start : end + 1])
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, Mapping):
            return _parse(found, depth=depth + 1)
    verdict = _one_word(text)
    lines = [line for line in text.splitlines() if line.strip()]
    return verdict if verdict is not None or not lines else _one_word(lines[-1])


def _one_word(text: str) -> bool | None:
    """The verdict of a text whose words all point one way."""
    said = {word.lower() in YES for word in _WORD.findall(text)}
    return said.pop() if len(said) == 1 else None
