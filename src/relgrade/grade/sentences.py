# ruff: noqa: RUF001  (the punctuation of other scripts is what this file is about)
"""Where the sentences of a text lie. Rules of punctuation and line breaks; it knows no model and no one language.

It is right most of the time and never loses text: every character that is not white space lies in exactly one
sentence. Libraries that do better were weighed: pysbd has had no release since 2021, the others bring models.
"""

import re
from itertools import pairwise

MAX_CHARACTERS = 600  # of one sentence; about half a window of most encoders, so that no sentence is judged in part
MIN_WORD_CHARACTERS = 3  # letters and digits below which a piece ("A.", "***") is no sentence and joins its neighbour

# Before a full stop, these never end a sentence ...
_TITLES = re.compile(
    r"mrs?|m[sx]|dr|prof|rev|fr|sr|st|mt|gen|col|maj|capt|cmdr|lt|sgt|gov|sen|rep|pres|hon|messrs|mme|mlle|dra|"
    r"vs|cf|eg|ie|viz|approx|figs?|eqs?|nos?|vol|pp?|eds?|ch|sec|art|al|dept|univ|bros|nr|bzw|ca|e\.g|i\.e|z\.b|d\.h|"
    r"u\.a|p\.ej|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec",
    re.IGNORECASE,
)
# ... and these, as initials, only where the next word is one that begins sentences more often than names.
_SUFFIXES = re.compile(
    r"inc|ltd|co|corp|llc|plc|jr|etc|usw|esq|ph\.?d|m\.d|b\.a|m\.a|d\.c|a\.m|p\.m|b\.c|a\.d", re.IGNORECASE
)
_STARTERS = re.compile(
    r"the|an?|it|he|she|they|we|you|i|this|that|these|those|there|here|in|on|at|by|for|from|to|with|as|of|and|but|or|"
    r"so|yet|if|when|while|after|before|since|although|though|because|however|its|his|her|their|our|my|what|who|where|"
    r"why|how|some|many|most|all|both|each|not?|one|two|today|during|under|over|between|also|then",
    re.IGNORECASE,
)

_CLOSERS = "\"'”’»›)]}」』】）》"
# A terminator, its repetitions and closing quotes, and a citation such as [12] that is set right behind it.
_END = re.compile(
    rf"(?P<wide>[。！？｡।॥።۔؟…။།։]+[{re.escape(_CLOSERS)}]*)"
    rf"|(?<![.!?])(?P<stop>[.!?]+)[{re.escape(_CLOSERS)}]*(?:\[[\w ]{{1,12}}\])*(?=\s|$)"
)
_LINE = re.compile(r"[\n\r\u2028\u2029]\s*")
_BREAK = re.compile(r"\r\n|[\n\r\u2028\u2029]")
_LIST_ITEM = re.compile(r"(?:[-*+•‣◦–—|#>]|\(?\d{1,3}[.)]|\(?[a-zA-Z][.)])\s")
_LAST_WORD = re.compile(r"[^\s(\[{\"'“‘«]+$")
_NEXT_WORD = re.compile(r"[\s\"'“‘«(\[{]*([^\W\d_]+)")
_INITIAL = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")  # J, U.S, J.R.R
_SOFT_BREAK = re.compile(r"[;:,、，；：]\s*|\s+")
_HARD_WRAP = 50  # a line shorter than this that is followed by a capital was ended by its author, not by a margin


def split_sentences(text: str) -> list[tuple[int, int]]:
    """The sentences of a text as (start, end), in code points, ascending, without white space at either end.

    Args:
        text: any, in any script. A line break ends a sentence at an empty line, before a list item, after a heading
            or after a full stop; elsewhere it is taken for the margin. A sentence longer than `MAX_CHARACTERS` is cut
            at a comma or white space, or anywhere where there is neither.
    """
    starts = sorted({0, *_after_lines(text), *_after_stops(text)})
    spans = [_stripped(text, start, end) for start, end in pairwise([*starts, len(text)])]
    joined = _join_small(text, [(start, end) for start, end in spans if start < end])
    return [piece for start, end in joined for piece in _cut_long(text, start, end)]


def _after_lines(text: str) -> list[int]:
    """Positions after line breaks that end a sentence."""
    found, line_start = [], 0
    for match in _LINE.finditer(text):
        line = text[max(line_start, match.start() - _HARD_WRAP) : match.start()].rstrip()
        rest = text[match.end() : match.end() + 8]
        is_paragraph = len(_BREAK.findall(match.group()[:40])) > 1
        is_heading = len(line) < _HARD_WRAP and not rest[:1].islower() and not line.endswith((",", ";"))
        if is_paragraph or is_heading or _LIST_ITEM.match(rest):
            found.append(match.end())
        line_start = match.end()
    return found


def _after_stops(text: str) -> list[int]:
    """Positions after terminators that end a sentence."""
    return [match.end() for match in _END.finditer(text) if match["wide"] or _is_end(text, match)]


def _is_end(text: str, match: re.Match[str]) -> bool:
    following = _NEXT_WORD.match(text, match.end(), match.end() + 60)
    next_word = following[1] if following else ""
    if next_word[:1].islower():
        return False
    if match["stop"] != ".":  # "?", "!", "..."
        return True
    before = _LAST_WORD.search(text, max(0, match.start() - 40), match.start())
    word = before[0] if before else ""
    if _TITLES.fullmatch(word):
        return False
    if _SUFFIXES.fullmatch(word) or (_INITIAL.fullmatch(word) and word != "I"):
        is_number = text[match.end() : match.end() + 3].strip()[:1].isdigit()
        return _STARTERS.fullmatch(next_word) is not None if following else not is_number
    # "3. Third point": the number of a list item stands at the start of its line.
    return not (before and word.isdigit() and len(word) <= 3 and _begins_line(text, before.start()))


def _begins_line(text: str, position: int) -> bool:
    lead = text[max(0, position - 8) : position].rstrip(" \t(")
    return not lead or lead[-1] in "\n\r"


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())


def _join_small(text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Pieces of hardly a letter join the sentence before them, the first one that after it."""
    joined: list[tuple[int, int]] = []
    for start, end in spans:
        last_is_small = len(joined) == 1 and _n_word_characters(text, *joined[0]) < MIN_WORD_CHARACTERS
        if joined and (last_is_small or _n_word_characters(text, start, end) < MIN_WORD_CHARACTERS):
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def _n_word_characters(text: str, start: int, end: int) -> int:
    """Letters and digits among the first hundred characters; one that is a word or syllable by itself counts thrice."""
    return sum(3 if ch >= "\u3040" else 1 for ch in text[start : min(end, start + 100)] if ch.isalnum())


def _cut_long(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Equal pieces of at most `MAX_CHARACTERS`, each moved to the last soft break in the second half of its room."""
    pieces = []
    while end - start > MAX_CHARACTERS:
        n_pieces = -(-(end - start) // MAX_CHARACTERS)
        target = start + min(MAX_CHARACTERS, -(-(end - start) // n_pieces) + MAX_CHARACTERS // 10)
        breaks = [match.end() for match in _SOFT_BREAK.finditer(text, start + MAX_CHARACTERS // 4, target)]
        cut = breaks[-1] if breaks else target
        piece = _stripped(text, start, cut)
        if piece[0] < piece[1]:
            pieces.append(piece)
        start, end = _stripped(text, cut, end)
    return [*pieces, (start, end)] if start < end else pieces
