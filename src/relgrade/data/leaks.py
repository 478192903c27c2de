"""Finds what stands in two splits: the same query, the same document, nearly the same document.

A document is compared by its words; a corpus shared by train and test queries is therefore full of findings, which is
for the reader to judge. Only training pairs are ever dropped.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from relgrade.data.near import near_partners
from relgrade.data.queries import query_key
from relgrade.data.splits import SPLITS, TRAIN
from relgrade.errors import InvalidInput, SplitLeak
from relgrade.records import Pair

Kind = Literal["query", "document", "near-document"]
KINDS: tuple[Kind, ...] = ("query", "document", "near-document")
MAX_EXAMPLES = 5
_SHOWN_CHARACTERS = 100
_FINDING = {
    "query": "{n} of {n_first} queries of {first} are in {second} too",
    "document": "{n} of {n_first} documents of {first} are in {second} too",
    "near-document": "{n} of {n_first} documents of {first} are nearly the same as one in {second}",
}


@dataclass(frozen=True, slots=True)
class LeakExample:
    """Two texts that stand in two splits."""

    first: str  # in the first of the two splits
    second: str
    similarity: float  # Jaccard of word 5-grams; 1 for the same text


@dataclass(frozen=True, slots=True)
class Leak:
    """What two splits share, of one kind."""

    kind: Kind
    splits: tuple[str, str]
    n: int  # distinct texts of the first split that the second has as well
    n_first: int  # distinct texts of the first split
    examples: tuple[LeakExample, ...]  # `MAX_EXAMPLES` at most


@dataclass(frozen=True, slots=True)
class LeakReport:
    """Everything found."""

    leaks: tuple[Leak, ...]
    near_duplicate: float  # Jaccard similarity from which documents count as nearly the same
    train_queries: frozenset[str]  # keys of training queries that another split has
    train_documents: frozenset[str]  # texts of training documents that another split has, or nearly has

    @property
    def is_clean(self) -> bool:
        """True when nothing stands in two splits."""
        return not self.leaks

    def summary(self) -> str:
        """A line per finding, and one example of each."""
        if self.is_clean:
            return f"no query and no document stands in two splits (near duplicates from {self.near_duplicate:g})"
        lines = []
        for leak in self.leaks:
            first, second = leak.splits
            lines.append(_FINDING[leak.kind].format(n=leak.n, n_first=leak.n_first, first=first, second=second))
            example = leak.examples[0]
            lines.append(f"  for example {_clip(example.first)}")
            if leak.kind == "near-document":
                lines.append(f"  and {_clip(example.second)}, similarity {example.similarity:.2f}")
        return "\n".join(lines)

    def raise_if_found(self) -> None:
        """Do nothing when clean.

        Raises:
            SplitLeak: the summary.
        """
        if not self.is_clean:
            raise SplitLeak(self.summary())


def find_leaks(pairs: Sequence[Pair], *, near_duplicate: float, seed: int = 0) -> LeakReport:
    """Compare every two splits.

    Near duplicates are proposed by MinHash, which misses one in a thousand at the threshold and fewer above, and
    counted only when their exact similarity reaches it.

    Args:
        pairs: each with a split.
        near_duplicate: Jaccard similarity of word 5-grams, in (0, 1], from which two documents are nearly the same.
        seed: of the hashes.

    Raises:
        InvalidInput: a pair has no split, or `near_duplicate` is out of range.
    """
    if not 0.0 < near_duplicate <= 1.0:
        raise InvalidInput(f"near_duplicate must be in (0, 1], got {near_duplicate!r}")
    queries = _texts_by_key(pairs, "query")
    documents = _texts_by_key(pairs, "document")
    near = _near_documents(documents, near_duplicate, seed)
    found = {"query": _same(queries), "document": _same(documents), "near-document": near}
    totals = {"query": _totals(queries), "document": _totals(documents), "near-document": _totals(documents)}
    leaks = [
        Leak(kind, splits, len(examples), totals[kind][splits[0]], tuple(examples[:MAX_EXAMPLES]))
        for kind in KINDS
        for splits, examples in found[kind].items()
    ]
    shared = [found["document"], near]
    return LeakReport(
        tuple(leaks),
        near_duplicate,
        frozenset(query_key(example.first) for example in _of_train(found["query"])),
        frozenset(_document_key(example.first) for matches in shared for example in _of_train(matches)),
    )


def drop_leaks(pairs: Sequence[Pair], report: LeakReport) -> list[Pair]:
    """The pairs without the training pairs whose query or document another split has; order is kept."""
    return [
        pair
        for pair in pairs
        if pair.split != TRAIN
        or not (query_key(pair.query) in report.train_queries or _document_key(pair.document) in report.train_documents)
    ]


Texts = Mapping[str, Mapping[str, str]]  # key of a text -> split -> the text as it stands there
Matches = dict[tuple[str, str], list[LeakExample]]  # two splits -> one example per text of the first


def _document_key(document: str) -> str:
    return " ".join(document.casefold().split())


def _texts_by_key(pairs: Sequence[Pair], what: Literal["query", "document"]) -> Texts:
    make_key = query_key if what == "query" else _document_key
    keys: dict[str, str] = {}  # text -> key, for texts come many times
    texts: dict[str, dict[str, str]] = {}
    for pair in pairs:
        if pair.split is None:
            raise InvalidInput(f"query {pair.query_id!r} has no split; divide the pairs before they are checked")
        text = pair.query if what == "query" else pair.document
        key = keys.get(text)
        if key is None:
            key = keys[text] = make_key(text)
        if key:
            texts.setdefault(key, {}).setdefault(pair.split, text)
    return texts


def _totals(texts: Texts) -> dict[str, int]:
    totals: dict[str, int] = {}
    for by_split in texts.values():
        for split in by_split:
            totals[split] = totals.get(split, 0) + 1
    return totals


def _order(split: str) -> tuple[int, str]:
    return (SPLITS.index(split) if split in SPLITS else len(SPLITS)), split


def _same(texts: Texts) -> Matches:
    matches: Matches = {}
    for by_split in texts.values():
        for first, second in combinations(sorted(by_split, key=_order), 2):
            matches.setdefault((first, second), []).append(LeakExample(by_split[first], by_split[second], 1.0))
    return matches


def _of_train(matches: Matches) -> Iterator[LeakExample]:
    return (example for splits, examples in matches.items() if splits[0] == TRAIN for example in examples)


def _near_documents(documents: Texts, threshold: float, seed: int) -> Matches:
    """One partner per document and later split."""
    keys = list(documents)
    splits = sorted({split for by_split in documents.values() for split in by_split}, key=_order)
    bits = {split: 1 << position for position, split in enumerate(splits)}
    masks = np.asarray([sum(bits[split] for split in documents[key]) for key in keys], dtype=np.int64)
    matches: Matches = {}
    for partner in near_partners(keys, masks, threshold=threshold, seed=seed):
        first, second = documents[keys[partner.first]], splits[partner.group]
        partner_text = documents[keys[partner.second]][second]
        for split in sorted(first, key=_order):
            if _order(split) < _order(second):
                example = LeakExample(first[split], partner_text, partner.similarity)
                matches.setdefault((split, second), []).append(example)
    return matches


def _clip(text: str) -> str:
    """The beginning of an untrusted text on one line; what a terminal could obey is escaped."""
    text = " ".join(text.split())
    text = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
