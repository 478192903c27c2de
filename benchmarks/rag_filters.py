"""Retrieved lists, and the ways to thin them out that the RAG benchmark compares; thresholds of baselines are tuned."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.rag_corpora import Corpus
from relgrade.evaluate.baselines import BM25

TOP = 20
FEW = 5
RETRIEVERS = ("bm25", "dense")


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What one retriever found, best first, and both scores of it, whoever found it."""

    rows: NDArray[np.int64]  # (n_questions, n_top) of the corpus
    bm25: NDArray[np.float64]  # (n_questions, n_top)
    cosine: NDArray[np.float64]  # (n_questions, n_top)
    is_gold: NDArray[np.bool_]  # (n_questions, n_top)

    @property
    def bm25_share(self) -> NDArray[np.float64]:
        """BM25 as a share of the best of the list; 0 where nothing matches."""
        best = self.bm25.max(axis=1, keepdims=True)
        shares: NDArray[np.float64] = np.divide(self.bm25, best, out=np.zeros_like(self.bm25), where=best > 0)
        return shares


def retrieve(corpus: Corpus, vectors: Any, cache: Path) -> dict[str, Retrieved]:
    """The top of every question by BM25 and by the cosine of the encoder's vectors.

    Args:
        corpus: searched as a whole.
        vectors: a `TextVectors`.
        cache: folder for document vectors.
    """
    queries = [question.query for question in corpus.questions]
    bm25 = BM25(corpus.documents)
    by_word = np.stack([bm25.score([(query, text) for text in corpus.documents]) for query in queries])
    of_documents = _vectors(corpus.documents, vectors, cache)
    by_meaning = vectors.encode(queries, kind="query").astype(np.float64) @ of_documents.T  # (n_questions, n_documents)
    found = {}
    for name, scores in zip(RETRIEVERS, (by_word, by_meaning), strict=True):
        rows = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]
        at = np.arange(len(queries))[:, None]
        is_gold = [[row in q.gold for row in of_q] for q, of_q in zip(corpus.questions, rows.tolist(), strict=True)]
        found[name] = Retrieved(rows, by_word[at, rows], by_meaning[at, rows], np.asarray(is_gold, dtype=np.bool_))
    return found


def pick_threshold(scores: NDArray[np.float64], is_gold: NDArray[np.bool_]) -> float:
    """The lower limit with the best F1 over all retrieved documents of some train questions; the lowest of equals.

    Args:
        scores: shape (n_questions, n_top).
        is_gold: same shape.
    """
    order = np.argsort(-scores.ravel(), kind="stable")
    sorted_scores, hits = scores.ravel()[order], np.cumsum(is_gold.ravel()[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + max(1, int(is_gold.sum())))
    is_last = np.append(sorted_scores[1:] < sorted_scores[:-1], True)  # equal scores are kept together
    best = np.flatnonzero(is_last & (f1 >= f1[is_last].max() - 1e-12))[-1]
    return float(sorted_scores[best])


def baselines(found: Retrieved, tuned_on: Retrieved) -> tuple[dict[str, NDArray[np.bool_]], dict[str, float]]:
    """What each baseline keeps, shape (n_questions, n_top) each, and the limits chosen on train questions."""
    share = pick_threshold(tuned_on.bm25_share, tuned_on.is_gold)
    cosine = pick_threshold(tuned_on.cosine, tuned_on.is_gold)
    is_few = np.zeros(found.rows.shape, dtype=np.bool_)
    is_few[:, :FEW] = True
    kept = {
        "no filter": np.ones(found.rows.shape, dtype=np.bool_),
        f"top {FEW}": is_few,
        "BM25 share of best": found.bm25_share >= share,
        "cosine": found.cosine >= cosine,
    }
    return kept, {"bm25_share": share, "cosine": cosine}


def pairs_of(corpus: Corpus, found: Sequence[Retrieved]) -> list[tuple[str, str]]:
    """Distinct (query, document) texts of lists, those of one document together: each is read once a chunk."""
    keys = {(int(row), number) for each in found for number, rows in enumerate(each.rows.tolist()) for row in rows}
    return [(corpus.questions[number].query, corpus.documents[row]) for row, number in sorted(keys)]


def _vectors(texts: Sequence[str], vectors: Any, cache: Path) -> NDArray[np.float64]:
    digest = hashlib.sha256(json.dumps([vectors.name, *texts]).encode("utf-8")).hexdigest()[:24]
    path = cache / "vectors" / f"{digest}.npy"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part.npy")
        np.save(partial, vectors.encode(list(texts), kind="document"), allow_pickle=False)
        partial.replace(path)
    return np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)
