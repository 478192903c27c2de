"""Rubrics: named, versioned definitions of "relevant", each a TOML file, with the hash of all that a teacher reads.

A rubric with another word in it is another rubric: its hash names the labels made under it, and labels of two hashes
are never mixed. It knows nothing of servers.
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self, get_args

from relgrade.errors import InvalidSettings

Method = Literal["logprobs", "json_schema", "json_object", "text"]
METHODS: tuple[Method, ...] = get_args(Method)  # best first: what is tried, in this order
DEFAULT_RUBRIC = "answer-bearing"

# What `prompt` adds around a rubric's words is part of what a teacher reads: raise this when it changes.
_PROMPT_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How replies are drawn. None leaves the field out of the request."""

    temperature: float | None = 0.0
    top_p: float | None = None
    max_tokens: int | None = None  # of the reply; None: what the method needs
    seed: int | None = None  # of the first sample; sample i gets seed + i

    def __post_init__(self) -> None:
        if self.temperature is not None and not 0.0 <= self.temperature <= 2.0:
            raise InvalidSettings(f"temperature must lie in [0, 2], got {self.temperature!r}")
        if self.top_p is not None and not 0.0 < self.top_p <= 1.0:
            raise InvalidSettings(f"top_p must lie in (0, 1], got {self.top_p!r}")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise InvalidSettings(f"max_tokens must be at least 1, got {self.max_tokens!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rubric:
    """A definition of "relevant" and the words that ask for it."""

    name: str
    version: int
    kind: Literal["binary", "graded"]
    question: str  # one question; what decision APIs are asked
    system: str
    user: str  # with {query} and {document}
    answers: Mapping[str, int]  # word of the reply -> 0 and 1, or a grade
    criteria: Mapping[str, str]  # word -> when it is right
    relevant_from: int = 1  # lowest value that counts as relevant
    is_fenced: bool = True  # the document stands between lines that it cannot contain
    verdict: Literal["word", "last-line"] = "word"  # where a text reply holds the answer
    methods: tuple[Method, ...] = METHODS
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        values = sorted(self.answers.values())
        problem = None
        if not self.name or self.version < 1:
            problem = f"needs a name and a version from 1, got {self.name!r} and {self.version!r}"
        elif self.user.count("{query}") != 1 or self.user.count("{document}") != 1:
            problem = "`user` must hold {query} and {document} once each"
        elif self.kind == "binary" and values != [0, 1]:
            problem = f"a binary rubric has two answers with the values 0 and 1, got {dict(self.answers)}"
        elif self.kind == "graded" and (len(values) < 3 or values != list(range(len(values)))):
            problem = (
                f"a graded rubric has three or more answers with the values 0, 1, 2, ..., got {dict(self.answers)}"
            )
        elif len({word.casefold() for word in self.answers}) != len(values):
            problem = f"two answers differ in case alone: {list(self.answers)}"
        elif set(self.criteria) != set(self.answers):
            problem = f"`criteria` must say when each answer is right: {list(self.answers)}"
        elif not 0 < self.relevant_from <= values[-1]:
            problem = f"relevant_from must lie in 1..{values[-1]}, got {self.relevant_from}"
        elif not self.methods or not set(self.methods) <= set(METHODS):
            problem = f"`methods` must be some of {', '.join(METHODS)}, got {list(self.methods)}"
        if problem:
            raise InvalidSettings(f"rubric {self.name!r}: {problem}")

    @property
    def reference(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"

    @property
    def words(self) -> tuple[str, ...]:
        """The answers by falling value: Yes, No."""
        return tuple(sorted(self.answers, key=lambda word: -self.answers[word]))

    @property
    def max_value(self) -> int:
        """The highest value of an answer."""
        return max(self.answers.values())

    @property
    def hash(self) -> str:
        """16 hexadecimal digits of the sha256 of all that the teacher reads and of how replies are read.

        The default sampling is not in it: it stands in the key of each answer as it was used.
        """
        content = {**self.to_json(), "prompt": _PROMPT_VERSION}
        del content["sampling"]
        text = json.dumps(content, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        row = {item.name: getattr(self, item.name) for item in fields(self)}
        sampling = {item.name: getattr(self.sampling, item.name) for item in fields(Sampling)}
        plain = {"answers": dict(self.answers), "criteria": dict(self.criteria), "methods": list(self.methods)}
        return {**row, **plain, "sampling": sampling}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`; also the table of a TOML file.

        Raises:
            InvalidSettings: an unknown or missing field, or one that is out of range.
        """
        known = {item.name for item in fields(cls)}
        unknown = sorted(set(row) - known)
        if unknown:
            raise InvalidSettings(f"unknown field of a rubric: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        values = dict(row)
        try:
            if "sampling" in values:
                values["sampling"] = Sampling(**values["sampling"])
            if "methods" in values:
                values["methods"] = tuple(values["methods"])
            for name in ("system", "user", "question"):
                values[name] = values[name].strip()
            return cls(**values)
        except (TypeError, KeyError, AttributeError) as error:
            raise InvalidSettings(f"not a rubric: {error}") from error


def rubric_names() -> list[str]:
    """The rubrics that are part of relgrade."""
    return sorted(item.name.removesuffix(".toml") for item in _FOLDER.iterdir() if item.name.endswith(".toml"))


def read_rubric(name: str | Path) -> Rubric:
    """A rubric that is part of relgrade, by name, or one of your own, by the path of its TOML file.

    Raises:
        InvalidSettings: no such rubric, or a file that is none; says why.
    """
    text = str(name)
    own = Path(text)
    is_path = own.suffix == ".toml" or own.is_file()
    if not is_path and text not in rubric_names():
        known = ", ".join(rubric_names())
        raise InvalidSettings(f"no rubric {text!r}; known: {known}; or give the path of a .toml file")
    try:
        raw = own.read_bytes() if is_path else (_FOLDER / f"{text}.toml").read_bytes()
        return Rubric.from_json(tomllib.loads(raw.decode("utf-8")))
    except OSError as error:
        raise InvalidSettings(f"{own}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, InvalidSettings) as error:
        raise InvalidSettings(f"{text}: {error}") from error


_FOLDER = files("relgrade.label") / "rubrics"
