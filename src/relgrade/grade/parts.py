"""A document too long to be read at once, as overlapping parts that begin and end on sentence borders.

It knows how to count tokens and where sentences lie, and nothing of models. Where the parts lie depends on the document
and the room for it alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from relgrade.encoding import TITLE_MARK, max_characters
from relgrade.grade.runtime import Room
from relgrade.grade.sentences import split_sentences

MAX_PARTS = 64  # of one document; what lies beyond them is not read, and said to be `truncated`
OVERLAP_SENTENCES = 2  # at most, that end one part and begin the next
OVERLAP_SHARE = 0.25  # of a part, at most: long sentences overlap by one, or not at all
TITLE_SHARE = 0.25  # of a part, at most: a longer title line is read once, where it stands
_N_TRIES = 4  # to make parts that fit, where the tokens of sentences do not add up to those of their part
_SMALLER = 0.875
_FIRST_LOOK = (
    6  # characters a token, at most, of most text: more of a very long document is looked at where it is needed
)

CountTokens = Callable[[Sequence[str]], list[int]]


@dataclass(frozen=True, slots=True)
class Part:
    """What is read at once."""

    start: int  # characters of the document; a title line that is read with every part lies before the first
    end: int
    text: str  # the title line, if there is one, and the part without white space around it


@dataclass(frozen=True, slots=True)
class SplitDocument:
    """The parts of one document, in its order."""

    parts: tuple[Part, ...]
    is_cut: bool  # the document goes on after the last of them


@dataclass(frozen=True, slots=True)
class _Segment:
    """A sentence with the white space after it."""

    start: int
    end: int
    tokens: int
    words: int

    def fits(self, room: Room) -> bool:
        return self.tokens <= room.tokens and (room.words is None or self.words <= room.words)


def split_document(text: str, room: Room, *, count_tokens: CountTokens) -> SplitDocument:
    """Cut a document into parts that are read at once.

    Each part holds as many sentences as fit, and begins with the last ones of the part before it: `OVERLAP_SENTENCES`
    at most, and no more than `OVERLAP_SHARE` of the room. A sentence that does not fit is cut at white space, or
    anywhere where there is none. The parts leave out no character between the title line and the end of the last.

    Args:
        text: rendered, with or without a line `title: ...`.
        room: what a reading takes.
        count_tokens: tokens of each of some texts.
    """
    head = _title_end(text, room, count_tokens)
    inner = _inner_room(text[:head], room, count_tokens)
    limit = head + max_characters(MAX_PARTS * room.tokens)
    first_look = head + MAX_PARTS * room.tokens * _FIRST_LOOK
    parts = _parts_within(text, head, min(first_look, limit, len(text)), room, inner, count_tokens)
    if len(parts) < MAX_PARTS and first_look < min(limit, len(text)):
        parts = _parts_within(text, head, min(limit, len(text)), room, inner, count_tokens)
    return SplitDocument(tuple(parts), is_cut=bool(text[parts[-1].end :].strip()))


def _parts_within(text: str, head: int, end: int, room: Room, inner: Room, count_tokens: CountTokens) -> list[Part]:
    """Parts of the characters from `head` to `end`, each with the title line, which leaves an inner room."""
    parts: list[Part] = []
    for _ in range(_N_TRIES):
        segments = _segments(text, head, end, room=inner, count_tokens=count_tokens)
        spans = [(segments[first].start, segments[last].end) for first, last in _runs(segments, inner)]
        parts = [Part(start, stop, text[:head] + text[start:stop].strip()) for start, stop in spans]
        if all(tokens <= room.tokens for tokens in count_tokens([part.text for part in parts])):
            break
        inner = Room(max(1, int(inner.tokens * _SMALLER)), inner.characters, inner.words)
    return parts


def _title_end(text: str, room: Room, count_tokens: CountTokens) -> int:
    """Characters of the title line that every part is read with, its line break too; 0: there is none."""
    end = text.find("\n", 0, room.characters) + 1
    if not end or not text.startswith(TITLE_MARK) or not text[end:].strip():
        return 0
    limit = TITLE_SHARE * min(room.tokens, room.words or room.tokens)
    return end if max(count_tokens([text[:end]])[0], len(text[:end].split())) <= limit else 0


def _inner_room(title: str, room: Room, count_tokens: CountTokens) -> Room:
    """What the title leaves."""
    n_tokens = count_tokens([title])[0] if title else 0
    n_words = None if room.words is None else room.words - len(title.split())
    return Room(room.tokens - n_tokens, room.characters, n_words)


def _segments(text: str, start: int, end: int, *, room: Room, count_tokens: CountTokens) -> list[_Segment]:
    """All characters from start to end as segments that fit, in order; a single character always counts as one."""
    sentences = [start + first for first, _ in split_sentences(text[start:end])]
    bounds = [start, *sentences[1:], end] if sentences else [start, end]
    spans = list(pairwise(bounds))
    while True:
        counts = count_tokens([text[first:last] for first, last in spans])
        found = [
            _Segment(first, last, tokens, len(text[first:last].split()) if room.words is not None else 0)
            for (first, last), tokens in zip(spans, counts, strict=True)
        ]
        if all(each.fits(room) or each.end - each.start < 2 for each in found):
            return found
        spans = [span for each in found for span in _halves(text, each, room)]


def _halves(text: str, segment: _Segment, room: Room) -> list[tuple[int, int]]:
    start, end = segment.start, segment.end
    if segment.fits(room) or end - start < 2:
        return [(start, end)]
    middle = (start + end) // 2
    before = next((i for i in range(middle, start, -1) if text[i - 1].isspace()), None)
    after = next((i for i in range(middle + 1, end) if text[i - 1].isspace()), middle)
    cut = after if before is None else before
    return [(start, cut), (cut, end)]


def _runs(segments: Sequence[_Segment], room: Room) -> list[tuple[int, int]]:
    """First and last segment of each part, `MAX_PARTS` at most."""
    runs: list[tuple[int, int]] = []
    first = 0
    while len(runs) < MAX_PARTS:
        last = first
        total = segments[first]
        while last + 1 < len(segments) and (more := _joined(total, segments[last + 1])).fits(room):
            last, total = last + 1, more
        runs.append((first, last))
        if last == len(segments) - 1:
            break
        first = _next_first(segments, first, last, room)
    return runs


def _next_first(segments: Sequence[_Segment], first: int, last: int, room: Room) -> int:
    """Where the part after one begins: behind its beginning, and so that it holds a segment that is new."""
    largest = Room(
        int(room.tokens * OVERLAP_SHARE), room.characters, None if room.words is None else int(room.words / 4)
    )
    begin, overlap = last + 1, None
    for i in range(last, max(first, last - OVERLAP_SENTENCES), -1):
        overlap = segments[i] if overlap is None else _joined(segments[i], overlap)
        if not overlap.fits(largest) or not _joined(overlap, segments[last + 1]).fits(room):
            break
        begin = i
    return begin


def _joined(left: _Segment, right: _Segment) -> _Segment:
    return _Segment(left.start, right.end, left.tokens + right.tokens, left.words + right.words)
