"""Lists of 20 documents for one query each: short, mixed and long, as real collections have them."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

N_DOCUMENTS = 20
KINDS = ("short", "mixed", "long")
SHORT_WORDS, LONG_WORDS = 60, 180  # at most; at least
EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"

QueryList = tuple[str, list[str]]


def draw_lists(data: Path | None, *, n_lists: int, seed: int = 0) -> dict[str, list[QueryList]]:
    """Lists of each kind.

    Args:
        data: folder of NAME.jsonl.gz with `query` and `document`; None takes the example corpus, whose short documents
            are joined to longer ones.
        n_lists: of each kind, >= 1.
        seed: of the draw.
    """
    random = np.random.default_rng(seed)
    queries, documents = _examples() if data is None else _collections(data)
    n_words = np.asarray([len(document.split()) for document in documents])
    chosen = {"short": n_words <= SHORT_WORDS, "mixed": n_words > 0, "long": n_words >= LONG_WORDS}
    lists: dict[str, list[QueryList]] = {}
    for kind in KINDS:
        rows = np.flatnonzero(chosen[kind])
        lists[kind] = [
            (str(random.choice(queries)), [documents[row] for row in random.choice(rows, N_DOCUMENTS)])
            for _ in range(n_lists)
        ]
    return lists


def _collections(folder: Path) -> tuple[list[str], list[str]]:
    """Every 50th row of each file."""
    queries, documents = [], []
    for path in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines):
                if number % 50 == 0:
                    row = json.loads(line)
                    queries.append(str(row["query"]))
                    documents.append(str(row["document"]))
    return queries, documents


def _examples() -> tuple[list[str], list[str]]:
    texts = [str(row.get("text", row.get("document", ""))) for row in _rows(EXAMPLES / "corpus/documents.jsonl")]
    queries = [str(row.get("query", row.get("text", ""))) for row in _rows(EXAMPLES / "queries.jsonl")]
    words = " ".join(texts).split()
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(4.6, 0.7, 400), 12, 600).astype(int)  # about 100 words, as passages have
    starts = random.integers(0, max(1, len(words) - 600), len(lengths))
    return queries, [" ".join(words[a : a + n]) for a, n in zip(starts, lengths, strict=True)]


def _rows(path: Path) -> Iterator[dict[str, object]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
