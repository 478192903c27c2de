"""Text to token ids: the only place that builds the model's input or cuts it.

It knows tokenizers and nothing of models. Whatever is cut is reported as `truncated`, never done silently.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from tokenizers import Tokenizer

from relgrade.errors import InvalidInput
from relgrade.records import Document

# No tokenizer in use makes a token of more characters than this on average, so cutting the text to
# `n_tokens * MAX_CHARACTERS_PER_TOKEN` first changes nothing the model reads and keeps a 10 MB document cheap.
MAX_CHARACTERS_PER_TOKEN = 24

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")

TITLE_MARK = "title: "  # before the title, on the first line of a rendered document

_OPENING, _CLOSING = frozenset("\"'\u2018\u201c\u201e\u00ab"), frozenset("\"'\u2019\u201c\u201d\u00bb")
_STRAIGHT = str.maketrans("\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f", "''''" + '""""')
_IN_QUOTES = re.compile(
    r"""\s* (?: "(?P<double>[^"]*)"
            | '(?P<single>(?:[^']|(?<=\w)'(?=\w))*)'
            | \u00ab(?P<angle>[^\u00ab\u00bb]*)\u00bb ) \s*""",
    re.VERBOSE,
)


def max_characters(n_tokens: int) -> int:
    """Characters of a text that are looked at for its first `n_tokens` tokens."""
    return (n_tokens + 1) * MAX_CHARACTERS_PER_TOKEN


def clean_text(text: str) -> str:
    """Replace what no tokenizer can read: lone surrogates become U+FFFD, NUL becomes a space."""
    if text.isascii():
        return text.replace("\0", " ") if "\0" in text else text
    return _LONE_SURROGATE.sub("\ufffd", text).replace("\0", " ")


def bare_query(query: str) -> str:
    """The query as it is asked: quotes around the whole of it come off, curly ones inside become straight.

    A pasted pair of quotes says nothing about what is asked, yet moves the vectors of a small encoder.
    """
    text = query if query.isascii() else query.translate(_STRAIGHT)
    while (quoted := _IN_QUOTES.fullmatch(text)) and (inside := quoted[quoted.lastgroup or 0]).strip():
        text = inside
    return text


def bare_document(document: str) -> str:
    """A rendered document without quotes around the whole of its text; what is quoted inside stays as it is."""
    end_of_title = document.find("\n") + 1 if document.startswith(TITLE_MARK) else 0
    text = document[end_of_title:].strip()
    if len(text) > 2 and text[0] in _OPENING and text[-1] in _CLOSING:
        return document[:end_of_title] + text[1:-1]
    return document


def render_document(document: Document) -> str:
    """The text the model reads: a title, where there is one, stands on the first line as `title: ...`."""
    text = clean_text(document.text)
    return f"{TITLE_MARK}{clean_text(document.title)}\n{text}" if document.title and document.title.strip() else text


@dataclass(frozen=True, slots=True)
class PairTemplate:
    """How one query and one document become one sequence: prefix, query, separator, document, suffix.

    The fixed parts are token ids, so that a bundle grades without knowing chat templates.
    """

    prefix: tuple[int, ...]
    separator: tuple[int, ...]
    suffix: tuple[int, ...]
    max_tokens: int  # length of the whole sequence, at most
    max_query_tokens: int  # of the query
    max_document_words: int | None = None  # the paper cuts to 300 words before it tokenises
    has_type_ids: bool = True  # second segment (document, suffix) marked 1

    def __post_init__(self) -> None:
        if self.room < 1:
            raise InvalidInput(
                f"max_tokens {self.max_tokens} leaves no room for a document after {self.n_fixed} template tokens "
                f"and {self.max_query_tokens} query tokens"
            )

    @property
    def n_fixed(self) -> int:
        """Tokens of the template itself."""
        return len(self.prefix) + len(self.separator) + len(self.suffix)

    @property
    def room(self) -> int:
        """Tokens a document always has, however long the query."""
        return self.max_tokens - self.n_fixed - self.max_query_tokens

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, as it stands in `bundle.json`."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in _slots(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`."""
        return cls(**_fields(data))


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """Token ids of one pair, without padding."""

    ids: list[int]
    type_ids: list[int]  # 0 prefix, query and separator; 1 document and suffix
    truncated: bool  # something of the query or the document is missing


def first_words(text: str, n_words: int) -> str:
    """At most that many words, with single spaces between them; a text that has no more is returned as it is."""
    words = text.split(None, n_words)
    return text if len(words) <= n_words else " ".join(words[:n_words])


class PairEncoder:
    """Encodes pairs for one cross-encoder.

    Args:
        tokenizer: its padding, truncation and special tokens are switched off in a copy.
        template: the fixed parts and the limits.
    """

    def __init__(self, tokenizer: Tokenizer, template: PairTemplate) -> None:
        self.template = template
        self._tokenizer = _plain_copy(tokenizer)

    def encode(self, pairs: Sequence[tuple[str, str]]) -> list[EncodedPair]:
        """Encode (query, document) pairs; each distinct query is tokenised once."""
        limit = self.template
        queries = {query: index for index, query in enumerate(dict.fromkeys(query for query, _ in pairs))}
        query_ids = _tokenise(self._tokenizer, [bare_query(query) for query in queries], limit.max_query_tokens)
        texts, is_cut = [], []
        for document in (bare_document(document) for _, document in pairs):
            text = first_words(document, limit.max_document_words) if limit.max_document_words else document
            texts.append(text)
            is_cut.append(text is not document)
        document_ids = _tokenise(self._tokenizer, texts, limit.max_tokens)
        return [
            self._join(query_ids[queries[query]], encoded, is_cut=cut)
            for (query, _), encoded, cut in zip(pairs, document_ids, is_cut, strict=True)
        ]

    def document_room(self, query: str) -> int:
        """Tokens of a document that are read beside a query."""
        limit = self.template
        [(kept, _)] = _tokenise(self._tokenizer, [bare_query(query)], limit.max_query_tokens)
        return limit.max_tokens - limit.n_fixed - len(kept)

    def _join(
        self, query_part: tuple[list[int], bool], document_part: tuple[list[int], bool], *, is_cut: bool
    ) -> EncodedPair:
        limit = self.template
        query_kept, query_has_more = query_part
        document, document_has_more = document_part
        document_kept = document[: limit.max_tokens - limit.n_fixed - len(query_kept)]
        head = [*limit.prefix, *query_kept, *limit.separator]
        tail = [*document_kept, *limit.suffix]
        truncated = is_cut or query_has_more or document_has_more or len(document_kept) < len(document)
        type_ids = [0] * len(head) + [1 if limit.has_type_ids else 0] * len(tail)
        return EncodedPair(head + tail, type_ids, truncated)


@dataclass(frozen=True, slots=True)
class TextTemplate:
    """How a text that is read on its own becomes sequences: windows between a prefix and a suffix."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    max_query_tokens: int  # text tokens of a query, read as one sequence
    window_tokens: int  # text tokens of one document window
    max_windows: int  # windows of a document, at most

    def __post_init__(self) -> None:
        if min(self.max_query_tokens, self.window_tokens, self.max_windows) < 1:
            raise InvalidInput(f"token and window limits must be >= 1, got {self}")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, as it stands in `bundle.json`."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in _slots(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`."""
        return cls(**_fields(data))


@dataclass(frozen=True, slots=True)
class EncodedText:
    """One text as one or more windows of token ids, each with prefix and suffix."""

    windows: list[list[int]]
    truncated: bool


class TextEncoder:
    """Encodes queries and documents apart, for architectures that read them with one encoder."""

    def __init__(self, tokenizer: Tokenizer, template: TextTemplate) -> None:
        self.template = template
        self._tokenizer = _plain_copy(tokenizer)

    def encode(self, texts: Sequence[str], *, kind: Literal["query", "document"]) -> list[EncodedText]:
        """Encode texts; an empty one has one window of prefix and suffix alone."""
        limit = self.template
        size = limit.max_query_tokens if kind == "query" else limit.window_tokens
        n_windows = 1 if kind == "query" else limit.max_windows
        texts = [bare_query(text) if kind == "query" else bare_document(text) for text in texts]
        encoded = []
        for kept, has_more in _tokenise(self._tokenizer, texts, size * n_windows):
            # Windows of equal length: a last window of three tokens would be judged without its context.
            n_used = max(1, -(-len(kept) // size))
            step = -(-len(kept) // n_used)
            windows = [kept[i * step : (i + 1) * step] for i in range(n_used)]
            encoded.append(EncodedText([[*limit.prefix, *w, *limit.suffix] for w in windows], has_more))
        return encoded


class TokenCounter:
    """Counts the model tokens of whole texts, special tokens left out."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = _plain_copy(tokenizer)

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, however long."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [len(encoding.ids) for encoding in encodings]


def _plain_copy(tokenizer: Tokenizer) -> Tokenizer:
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.no_padding()
    copy.no_truncation()
    # A document that spells "[SEP]" or a chat model's end-of-turn is text, not a marker. Lost in serialisation.
    copy.encode_special_tokens = True
    return copy


def _tokenise(tokenizer: Tokenizer, texts: Sequence[str], n_wanted: int) -> list[tuple[list[int], bool]]:
    """The first `n_wanted` token ids of each text, and whether the text goes on after them."""
    n_characters = max_characters(n_wanted)
    encodings = tokenizer.encode_batch_fast([text[:n_characters] for text in texts], add_special_tokens=False)
    return [
        (encoding.ids[:n_wanted], len(encoding.ids) > n_wanted or len(text) > n_characters)
        for text, encoding in zip(texts, encodings, strict=True)
    ]


def _slots(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__slots__}


def _fields(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
