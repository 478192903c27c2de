"""Grades documents of any length with a runtime that reads so much at once.

A document that fits is handed on untouched. A longer one is read part by part, and its logit is that of the best part,
less a correction: the best of many readings of nothing is higher than one of them, so that without it a long document
would be kept for its length. It knows texts and logits, and nothing of calibrations.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from relgrade.bundle import Bundle
from relgrade.errors import BundleCorrupt, GradingError, InvalidInput
from relgrade.grade.parts import SplitDocument, split_document
from relgrade.grade.runtime import Reader, Room, RuntimeOutput

OPTION = "long_documents"  # in Manifest.options
DEFAULT_PER_DOUBLING = 0.2  # of bundles that say nothing, see docs/rag.md
TOKENS_OF_WIDE = 64  # the most that one character beyond ASCII can be: compatibility forms of 33 bytes are the longest
CHUNK_PARTS = 32  # different texts read in one call: a part of 2,000 tokens is held as some megabytes of vectors


@dataclass(frozen=True, slots=True)
class PartsCorrection:
    """What the best of n parts loses: per_doubling * log2(n). Nothing for one part, never less for more parts."""

    per_doubling: float = DEFAULT_PER_DOUBLING  # log-odds, raw as those of the model, >= 0

    def __post_init__(self) -> None:
        value = self.per_doubling
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not (math.isfinite(value) and value >= 0.0):
            raise InvalidInput(f"{OPTION}.per_doubling: log-odds >= 0 were expected, got {value!r}")

    @classmethod
    def of_bundle(cls, bundle: Bundle) -> Self:
        """That of `options.long_documents.per_doubling` of the manifest, or the default.

        Raises:
            BundleCorrupt: it is no number that a logit can lose.
        """
        said = bundle.manifest.options.get(OPTION, {})
        if not isinstance(said, Mapping):
            raise BundleCorrupt(f"{bundle.folder}: options.{OPTION} must be a JSON object, got {said!r}")
        try:
            return cls(said.get("per_doubling", DEFAULT_PER_DOUBLING))
        except InvalidInput as error:
            raise BundleCorrupt(f"{bundle.folder}: options.{error}") from error

    def of(self, n_parts: int) -> float:
        """Log-odds to take off the best part's, of `n_parts` >= 1."""
        return float(self.per_doubling * math.log2(n_parts))


@dataclass(frozen=True, slots=True)
class DocumentReading:
    """What all parts of one document say together."""

    logit: float  # NaN where a part has no finite one
    truncated: bool
    windows: int
    span: tuple[int, int] | None  # of the part that won, in characters of the rendered document


class LongDocumentRuntime:
    """Implements `grade.runtime.Runtime` above a reader. Safe to share between threads where the reader is.

    Args:
        reader: reads what fits, and each part of what does not.
        correction: for the number of parts.
    """

    def __init__(self, reader: Reader, *, correction: PartsCorrection) -> None:
        self.reader = reader
        self.correction = correction

    def score(self, pairs: Sequence[tuple[str, str]]) -> RuntimeOutput:
        """Logits of (query, rendered document) pairs, in their order; `spans` tells the parts that won.

        Args:
            pairs: clean texts of any length; any number.

        Raises:
            GradingError: of the reader, with the index of the pair.
        """
        plans = self.plan(pairs)
        if not any(plans):
            return self.reader.score(pairs)
        texts, rows = part_pairs(pairs, plans)
        logits = np.empty(len(texts), np.float64)
        truncated = np.empty(len(texts), np.bool_)
        windows = np.empty(len(texts), np.int64)
        for chunk in _chunks(texts):
            try:
                output = self.reader.score([texts[i] for i in chunk])
            except GradingError as error:  # it counts from its own first pair
                raise GradingError(str(error), index=rows[chunk[error.index]]) from error
            logits[chunk], truncated[chunk], windows[chunk] = output.logits, output.truncated, output.windows
        whole = RuntimeOutput(logits, truncated, windows)
        found, first = [], 0
        for plan in plans:
            found.append(self.together(plan, whole, first))
            first += 1 if plan is None else len(plan.parts)
        return RuntimeOutput(
            np.array([each.logit for each in found], np.float64),
            np.array([each.truncated for each in found], np.bool_),
            np.array([each.windows for each in found], np.int64),
            tuple(each.span for each in found),
        )

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Model tokens of each text, special tokens left out; each counts once, however the parts overlap."""
        return self.reader.count_tokens(texts)

    def plan(self, pairs: Sequence[tuple[str, str]]) -> list[SplitDocument | None]:
        """The parts of each pair's document; None: it is read at once."""
        rooms = {query: self.reader.room(query) for query in dict.fromkeys(query for query, _ in pairs)}
        open_rows = [i for i, (query, text) in enumerate(pairs) if not _fits_surely(text, rooms[query])]
        keys = list(dict.fromkeys((pairs[i][1], rooms[pairs[i][0]]) for i in open_rows))
        counts = self.reader.count_tokens([text[: room.characters] for text, room in keys]) if keys else []
        made = {
            (text, room): _parts(text, room, self.reader)
            for (text, room), count in zip(keys, counts, strict=True)
            if not _fits(text, room, n_tokens=count)
        }
        return [made.get((text, rooms[query])) for query, text in pairs]

    def together(self, plan: SplitDocument | None, output: RuntimeOutput, first: int) -> DocumentReading:
        """One document of the output of its parts, which begin at row `first`."""
        if plan is None:
            logit, cut, windows = output.logits[first], output.truncated[first], output.windows[first]
            return DocumentReading(float(logit), bool(cut), int(windows), None)
        rows = slice(first, first + len(plan.parts))
        logits = output.logits[rows]
        best = int(np.argmax(logits))  # the first of equals
        is_sound = bool(np.isfinite(logits).all())
        return DocumentReading(
            float(logits[best]) - self.correction.of(len(plan.parts)) if is_sound else math.nan,
            plan.is_cut or bool(output.truncated[rows].any()),
            int(output.windows[rows].sum()),
            None if len(plan.parts) == 1 and not plan.is_cut else (plan.parts[best].start, plan.parts[best].end),
        )


def part_pairs(
    pairs: Sequence[tuple[str, str]], plans: Sequence[SplitDocument | None]
) -> tuple[list[tuple[str, str]], list[int]]:
    """What a reader reads of pairs, in their order and that of their parts, and the row of the pair of each."""
    texts: list[tuple[str, str]] = []
    rows: list[int] = []
    for row, ((query, text), plan) in enumerate(zip(pairs, plans, strict=True)):
        own = [text] if plan is None else [part.text for part in plan.parts]
        texts += [(query, each) for each in own]
        rows += [row] * len(own)
    return texts, rows


def _parts(text: str, room: Room, reader: Reader) -> SplitDocument | None:
    """None where what did not fit was white space."""
    made = split_document(text, room, count_tokens=reader.count_tokens)
    return made if len(made.parts) > 1 or made.is_cut or made.parts[0].text != text else None


def _fits_surely(text: str, room: Room) -> bool:
    """Whether a document fits whatever its tokens are: a token of ASCII text is at least a character long."""
    n_characters = room.tokens if room.words is None else min(room.tokens, room.words)
    if len(text) >= n_characters:
        return False
    n_wide = 0 if text.isascii() else len(text) - len(text.encode("ascii", "ignore"))
    return len(text) + n_wide * TOKENS_OF_WIDE < n_characters


def _fits(text: str, room: Room, *, n_tokens: int) -> bool:
    if n_tokens > room.tokens or len(text) > room.characters:
        return False
    return room.words is None or len(text.split(None, room.words)) <= room.words


def _chunks(pairs: Sequence[tuple[str, str]]) -> Iterator[list[int]]:
    """Rows with at most `CHUNK_PARTS` different documents together; a document stands in one chunk."""
    rows_of: dict[str, list[int]] = {}
    for row, (_, text) in enumerate(pairs):
        rows_of.setdefault(text, []).append(row)
    groups = list(rows_of.values())
    for start in range(0, len(groups), CHUNK_PARTS):
        yield [row for group in groups[start : start + CHUNK_PARTS] for row in group]
