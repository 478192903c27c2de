"""Measures of pairs, computed once by a frozen encoder and kept on disk in parts, so that a crash costs one part."""

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from relgrade.records import Pair

PART_PAIRS = 2048
BATCH_TOKENS = 4096
BATCH_PAIRS = 64  # the matrix of query tokens by document tokens is per pair, however often a text is shared


class EvidenceCache:
    """Rows of measures by (query, document).

    Args:
        folder: where parts lie; made.
        measure: a batch of pairs -> (n_pairs, n_measures).
        fingerprint: names the model; parts of another one are not used.
    """

    def __init__(self, folder: Path, measure: Callable[[Sequence[Pair]], Tensor], *, fingerprint: str) -> None:
        self._folder = folder
        self._measure = measure
        self._fingerprint = fingerprint
        self._row: dict[tuple[str, str], int] = {}
        self._rows: NDArray[np.float32] = np.zeros((0, 0), np.float32)

    def fill(self, pairs: Sequence[Pair], *, lengths: Mapping[str, int]) -> None:
        """Compute what is missing for `pairs`; a bar on stderr shows how far, on a terminal only.

        Pairs of one document stand side by side, so that it is read once for all its queries, and documents of like
        length together, so that little is padded.

        Args:
            pairs: repeated ones count once.
            lengths: tokens of each query and each document.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        distinct = {(pair.query, pair.document): i for i, pair in enumerate(pairs)}
        order = sorted(
            distinct.values(),
            key=lambda i: (
                lengths[pairs[i].document] // 16,
                pairs[i].document,
                lengths[pairs[i].query],
                pairs[i].query,
            ),
        )
        parts = [order[start : start + PART_PAIRS] for start in range(0, len(order), PART_PAIRS)]
        rows = []
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
            for part in progress.track(parts, description="reading pairs"):
                rows.append(self._part([pairs[i] for i in part], lengths))
        self._rows = np.concatenate(rows)
        self._row = {(pairs[i].query, pairs[i].document): row for row, i in enumerate(order)}

    def has_all(self, pairs: Sequence[Pair]) -> bool:
        """Whether every pair has its row."""
        return all((pair.query, pair.document) in self._row for pair in pairs)

    def rows(self, pairs: Sequence[Pair]) -> NDArray[np.float32]:
        """Measures of pairs that were filled in, shape (n_pairs, n_measures)."""
        return self._rows[[self._row[pair.query, pair.document] for pair in pairs]]

    def _part(self, pairs: Sequence[Pair], lengths: Mapping[str, int]) -> NDArray[np.float32]:
        digest = hashlib.sha256(self._fingerprint.encode())
        for pair in pairs:
            digest.update(repr((pair.query, pair.document)).encode("utf-8", "replace"))
        path = self._folder / f"measures-{digest.hexdigest()[:24]}.npy"
        if path.exists():
            found: NDArray[np.float32] = np.load(path, allow_pickle=False)
            return found
        rows = np.concatenate([self._measure(batch).numpy() for batch in _batches(pairs, lengths)]).astype(np.float32)
        unfinished = path.with_suffix(".part")
        with unfinished.open("wb") as file:
            np.save(file, rows, allow_pickle=False)
        unfinished.replace(path)
        return rows


def _batches(pairs: Sequence[Pair], lengths: Mapping[str, int]) -> Iterator[list[Pair]]:
    """Runs of at most `BATCH_PAIRS` pairs whose distinct texts, padded, hold at most `BATCH_TOKENS` tokens."""
    batch: list[Pair] = []
    queries: set[str] = set()
    documents: set[str] = set()
    for pair in pairs:
        wider_queries, wider_documents = queries | {pair.query}, documents | {pair.document}
        n_tokens = sum(len(texts) * max(lengths[text] for text in texts) for texts in (wider_queries, wider_documents))
        if batch and (n_tokens > BATCH_TOKENS or len(batch) == BATCH_PAIRS):
            yield batch
            batch, wider_queries, wider_documents = [], {pair.query}, {pair.document}
        batch.append(pair)
        queries, documents = wider_queries, wider_documents
    if batch:
        yield batch
