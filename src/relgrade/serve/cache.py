"""Remembers what a model said of a pair.

A logit depends on the bundle, the query and the document alone, so an entry never grows old; it is only pushed out.
Keys are hashes: no text is kept.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Reading:
    """What the model said of one pair."""

    logit: float
    truncated: bool
    windows: int
    span: tuple[int, int] | None = None  # of the part that won, in characters of the rendered document


class ResultCache(Protocol):
    """Readings by key. Neither call raises: a cache that is away is an empty one."""

    async def get(self, keys: Sequence[str]) -> dict[str, Reading]:
        """Those that are known."""
        ...

    async def put(self, readings: Mapping[str, Reading]) -> None:
        """Remember readings with a finite logit."""
        ...


def pair_key(bundle_hash: str, query: str, document: str) -> str:
    """Names a pair under a bundle. The lengths keep "ab" + "c" apart from "a" + "bc"."""
    text = f"{bundle_hash}:{len(query)}:{query}:{document}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class MemoryCache:
    """The last `n_entries` readings used, in this process; about 300 bytes each."""

    def __init__(self, n_entries: int) -> None:
        self._n_entries = n_entries
        self._entries: OrderedDict[str, Reading] = OrderedDict()

    async def get(self, keys: Sequence[str]) -> dict[str, Reading]:
        """Those that are known."""
        found = {key: self._entries[key] for key in keys if key in self._entries}
        for key in found:
            self._entries.move_to_end(key)
        return found

    async def put(self, readings: Mapping[str, Reading]) -> None:
        """Remember, and push out the longest unused."""
        for key, reading in readings.items():
            self._entries[key] = reading
            self._entries.move_to_end(key)
        while len(self._entries) > self._n_entries:
            self._entries.popitem(last=False)
