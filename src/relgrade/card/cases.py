"""A question, what a retriever found for it, and what is known of its answer. No files and no models."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relgrade.errors import InvalidInput

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Listed:
    """A document of a list."""

    doc_id: str
    text: str  # what a model reads, a known title in its first line


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One question to the system under test.

    Raises:
        InvalidInput: a document is listed twice, or what is known of the answer contradicts itself.
    """

    query_id: str
    query: str
    documents: tuple[Listed, ...] = ()  # as retrieved, the best first
    relevant: frozenset[str] | None = None  # ids of the documents that answer, listed or not; None: not known
    answers: tuple[str, ...] = ()  # texts, each of which answers
    is_answerable: bool | None = None  # from the corpus; None: not known

    def __post_init__(self) -> None:
        ids = [document.doc_id for document in self.documents]
        if len(set(ids)) != len(ids):
            twice = next(each for each in ids if ids.count(each) > 1)
            raise InvalidInput(f"query {self.query_id!r}: the document {twice!r} is listed twice; list it once")
        if self.is_answerable is False and (self.relevant or self.answers):
            raise InvalidInput(
                f"query {self.query_id!r}: said to be unanswerable, and has {len(self.relevant or ())} relevant "
                f"documents and {len(self.answers)} answers; leave one of the two out"
            )
        if self.is_answerable is None and (self.relevant or self.answers):
            object.__setattr__(self, "is_answerable", True)

    @property
    def is_judged(self) -> bool:
        """Whether it is known which documents are relevant."""
        return self.relevant is not None or bool(self.answers) or self.is_answerable is False

    def gold(self) -> list[bool]:
        """For each listed document whether it is relevant: by its id, else because an answer stands in it."""
        if self.relevant is not None:
            return [document.doc_id in self.relevant for document in self.documents]
        return [holds_answer(document.text, self.answers) for document in self.documents]

    def n_gold(self) -> int:
        """Relevant documents, listed or not; where answers alone are known, those listed, and one at least."""
        if self.relevant is not None:
            return len(self.relevant)
        return max(1, sum(self.gold())) if self.answers else 0


@dataclass(frozen=True, slots=True)
class Scores:
    """What words and vectors say of the listed documents."""

    bm25: NDArray[np.float64]  # (n_documents,)
    cosine: NDArray[np.float64]  # (n_documents,)
    bm25_ms: float  # to score the list
    cosine_ms: float  # to encode the query; vectors of documents are taken to be there


def holds_answer(text: str, answers: Sequence[str]) -> bool:
    """Whether one of the answers stands in a text as whole words; case, accents' spelling and punctuation do not count.

    Scripts without spaces between words are not cut into any: there an answer must fill what lies between two signs.

    Args:
        text: of a document.
        answers: without any, False.
    """
    words = f" {_words(text)} " if answers else ""
    return any(f" {found} " in words for found in map(_words, answers) if found)


def _words(text: str) -> str:
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))
