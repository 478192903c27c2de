"""What the grader asks of a model: logits for pairs. One implementation per architecture, chosen by the bundle."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class RuntimeOutput:
    """One row per pair of the call, in its order."""

    logits: NDArray[np.float64]  # (n_pairs,) log-odds before calibration
    truncated: NDArray[np.bool_]  # (n_pairs,) something of the pair was not read
    windows: NDArray[np.int64]  # (n_pairs,) pieces the document was read in
    # (start, end) of the part that won, in characters of the rendered document; None: read at once; (): all were
    spans: Sequence[tuple[int, int] | None] = ()
    settled: Sequence[bool] | NDArray[np.bool_] = ()  # by the first stage of a cascade, unread; (): none was

    def is_settled(self, row: int) -> bool:
        """Of one pair, whether or not `settled` was given."""
        return bool(self.settled[row]) if len(self.settled) else False

    def span(self, row: int) -> tuple[int, int] | None:
        """Of one pair, whether or not spans were given."""
        return self.spans[row] if self.spans else None


@dataclass(frozen=True, slots=True)
class Room:
    """What one reading takes of a document. Beyond any of the three the model would read it only in part."""

    tokens: int  # model tokens, special tokens left out
    characters: int  # looked at, white space too; tokens end long before them
    words: int | None = None  # between white space; None: any number


class Runtime(Protocol):
    """A loaded model. Safe to call from several threads; the logit of a pair does not depend on the others."""

    def score(self, pairs: Sequence[tuple[str, str]]) -> RuntimeOutput:
        """Logits of (query, rendered document) pairs; the texts are clean, not blank, and any number is accepted."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Model tokens of each text, special tokens left out."""
        ...


@runtime_checkable
class Reader(Runtime, Protocol):
    """A runtime that reads a document at once, and cuts what it has no room for."""

    def room(self, query: str) -> Room:
        """What is left for a document beside a clean query."""
        ...
