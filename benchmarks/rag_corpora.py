"""Corpora with questions for the RAG benchmark: what a retriever searches, and which documents are gold.

Read from the same files of labelled pairs as the quality benchmark; the pairs only say which documents exist and which
are gold, the lists come from a retriever over the whole corpus.
"""

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.labelled import SUFFIX
from relgrade.errors import InvalidData

# Name -> files. The wiki one is large: its corpus is the paragraphs of one split; the news one is all its sentences.
CORPORA = {"wiki": ("nq_oracle", "squad2_dev"), "news": ("multihop_rag",)}
WHOLE = frozenset({"news"})
MAX_TRAIN_DOCUMENTS = 1_000  # about as many as a test corpus has: limits are chosen on lists of the same kind


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the rows of its gold documents; none: it cannot be answered from the corpus."""

    id: str
    query: str
    gold: frozenset[int]


@dataclass(frozen=True, slots=True)
class Corpus:
    """What a retriever searches, and some questions to it."""

    name: str
    documents: tuple[str, ...]
    questions: tuple[Question, ...]

    @property
    def n_unanswerable(self) -> int:
        """Questions without a gold document."""
        return sum(not question.gold for question in self.questions)


def read_corpus(folder: Path, name: str, *, split: str, n_questions: int, seed: int) -> Corpus:
    """A corpus with a sample of the questions of one split, the same number from each file.

    Args:
        folder: holds NAME.jsonl.gz files.
        name: one of `CORPORA`.
        split: "test", or "train" to choose thresholds on.
        n_questions: in all.
        seed: of the sample, and of the documents left out of a large train corpus.

    Raises:
        InvalidData: a file is missing or a line is no labelled pair.
    """
    rng = np.random.default_rng(seed)
    rows_of = {file: read_rows(folder / f"{file}{SUFFIX}") for file in CORPORA[name]}
    chosen: list[tuple[str, list[dict[str, Any]]]] = []
    texts: dict[str, None] = {}
    for number, rows in enumerate(rows_of.values()):
        by_query: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            if row["split"] == split:
                by_query.setdefault(row["query_id"], []).append(row)
        share = (n_questions + len(rows_of) - 1 - number) // len(rows_of)
        ids = sorted(by_query)
        picked = rng.permutation(len(ids))[:share].tolist()
        chosen += [(ids[i], by_query[ids[i]]) for i in sorted(picked)]
        texts.update(dict.fromkeys(row["document"] for row in rows if row["split"] == split or name in WHOLE))
    needed = dict.fromkeys(row["document"] for _, rows in chosen for row in rows)
    if split == "train" and len(texts) > MAX_TRAIN_DOCUMENTS:
        others = [text for text in texts if text not in needed]
        n_more = max(0, MAX_TRAIN_DOCUMENTS - len(needed))
        needed.update(dict.fromkeys(others[i] for i in rng.permutation(len(others))[:n_more].tolist()))
        texts = {text: None for text in texts if text in needed}
    row_of = {text: row for row, text in enumerate(texts)}
    questions = [
        Question(query_id, rows[0]["query"], frozenset(row_of[r["document"]] for r in rows if r["label"] == 1))
        for query_id, rows in chosen
    ]
    return Corpus(name, tuple(texts), tuple(questions))


def gold_pairs(folder: Path, files: Sequence[str]) -> list[tuple[str, str]]:
    """All (query, gold document) of the test splits of files; a file that is not there has none."""
    paths = [path for file in files if (path := folder / f"{file}{SUFFIX}").is_file()]
    rows = [row for path in paths for row in read_rows(path)]
    return [(row["query"], row["document"]) for row in rows if row["split"] == "test" and row["label"] == 1]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of pairs, five fields each.

    Raises:
        InvalidData: no such file, or a line that is no labelled pair.
    """
    rows: list[dict[str, Any]] = []
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                rows.append({key: row[key] for key in ("query_id", "query", "document", "label", "split")})
    except FileNotFoundError as error:
        raise InvalidData("no such file; --data names the folder of collections", path=path) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidData(f"not a labelled pair: {error!r}", path=path, line=len(rows) + 1) from error
    return rows
