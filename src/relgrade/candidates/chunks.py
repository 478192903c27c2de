"""Long texts cut into chunks of so many tokens, at the largest boundaries that fit: sections, paragraphs, sentences.

Needs semantic-text-splitter, the extra `corpus`. A chunk knows where it stood, so that it can be found again.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from relgrade.encoding import MAX_CHARACTERS_PER_TOKEN
from relgrade.errors import MissingExtra

# Time of the splitter grows faster than the text, and no chunk is near this long.
_SEGMENT_CHARACTERS = 100_000


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a text: `text == whole[start:end]`."""

    text: str
    start: int  # characters
    end: int


class Chunker:
    """Cuts texts. The same text and settings give the same chunks.

    Args:
        tokenizer: counts; its truncation and special tokens do not matter.
        max_tokens: per chunk.
        overlap: tokens that neighbours may share, below `max_tokens`.

    Raises:
        MissingExtra: semantic-text-splitter is not installed.
    """

    def __init__(self, tokenizer: Tokenizer, *, max_tokens: int, overlap: int = 0) -> None:
        library = _library()
        plain = Tokenizer.from_str(tokenizer.to_str())
        plain.no_truncation()
        plain.no_padding()
        text = plain.to_str()
        self._max_characters = max_tokens * MAX_CHARACTERS_PER_TOKEN
        self._plain = library.TextSplitter.from_huggingface_tokenizer_str(text, max_tokens, overlap)
        self._markdown = library.MarkdownSplitter.from_huggingface_tokenizer_str(text, max_tokens, overlap)

    def cut(self, text: str, *, is_markdown: bool = False) -> Iterator[Chunk]:
        """The chunks of a text in order, without blank ones."""
        splitter = self._markdown if is_markdown else self._plain
        for begin, end in _segments(text):
            for offset, piece in splitter.chunk_indices(text[begin:end]):
                # A word too long for the tokenizer, such as an embedded picture, is one unknown token of any length.
                for cut in range(0, len(piece), self._max_characters):
                    part = piece[cut : cut + self._max_characters]
                    if part.strip():
                        yield Chunk(part, begin + offset + cut, begin + offset + cut + len(part))


def page_of(position: int, page_starts: Sequence[int]) -> int:
    """Number of the page, from 1, that a position of the text stands on."""
    return bisect_right(page_starts, position)


def _segments(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of pieces of bounded length, cut at the last paragraph, line or space before the bound."""
    start = 0
    while len(text) - start > _SEGMENT_CHARACTERS:
        bound = start + _SEGMENT_CHARACTERS
        cuts = (text.rfind(mark, start + 1, bound) for mark in ("\n\n", "\n", " "))
        end = next((cut for cut in cuts if cut > start), bound)
        yield start, end
        start = end
    yield start, len(text)


def _library() -> Any:
    try:
        import semantic_text_splitter
    except ImportError as error:
        raise MissingExtra("semantic-text-splitter", extra="corpus", purpose="cut documents into chunks") from error
    return semantic_text_splitter
