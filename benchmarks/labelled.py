"""Reads the collections the quality benchmark measures on: folders of gzipped JSON lines, one labelled pair a line."""

import gzip
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade.data.splits import split_by_query
from relgrade.errors import InvalidData
from relgrade.records import Pair
from relgrade.settings import SplitSettings

SUFFIX = ".jsonl.gz"
HELD_OUT = ("validation", "calibration")
# Licences that forbid training, or are not stated: these collections report and choose nothing, not even a threshold.
EVALUATION_ONLY = frozenset({"climate_fever", "trec_dl21"})


@dataclass(frozen=True, slots=True)
class Collection:
    """The test pairs of one file, ambiguous ones left out."""

    name: str
    pairs: tuple[Pair, ...]
    is_answerable: NDArray[np.bool_]  # (n_pairs,) of the pair's query
    corpus: tuple[str, ...]  # distinct documents of the whole file: what word frequencies are counted on

    @property
    def labels(self) -> NDArray[np.float64]:
        """0 or 1, shape (n_pairs,)."""
        return labels_of(self.pairs)

    @property
    def query_ids(self) -> NDArray[Any]:
        """Shape (n_pairs,)."""
        return np.asarray([pair.query_id for pair in self.pairs])


@dataclass(frozen=True, slots=True)
class Labelled:
    """Everything one run reads."""

    tests: tuple[Collection, ...]
    chosen_on: dict[str, tuple[Pair, ...]]  # source -> validation and calibration pairs of its train rows
    corpora: dict[str, tuple[str, ...]]  # source -> distinct documents of its file


def labels_of(pairs: Sequence[Pair]) -> NDArray[np.float64]:
    """The labels of labelled pairs, shape (n_pairs,)."""
    return np.asarray([pair.label for pair in pairs], dtype=np.float64)


def texts_of(pairs: Sequence[Pair]) -> list[tuple[str, str]]:
    """The (query, document) texts of pairs."""
    return [(pair.query, pair.document) for pair in pairs]


def read_labelled(
    folder: Path, *, names: Sequence[str] = (), seed: int = 0, limit_queries: int | None = None
) -> Labelled:
    """Read a folder of collections.

    Args:
        folder: holds NAME.jsonl.gz files.
        names: collections to report on; empty: all that have a test split. Thresholds are always chosen on all sources.
        seed: of the split of train rows, and of the queries drawn for a quick look.
        limit_queries: test queries kept of each collection, and validation queries of each source; None: all.

    Raises:
        InvalidData: no such file, or a line that is not a labelled pair.
    """
    paths = sorted(folder.glob(f"*{SUFFIX}"))
    known = [path.name.removesuffix(SUFFIX) for path in paths]
    missing = sorted(set(names) - set(known))
    if missing or not paths:
        raise InvalidData(
            f"no collection {', '.join(missing) or '*'}{SUFFIX}; found: {', '.join(known) or 'none'}", path=folder
        )
    rows = {name: _read(path, name) for path, name in zip(paths, known, strict=True)}
    corpora = {name: tuple(dict.fromkeys(pair.document for pair in of_file)) for name, of_file in rows.items()}
    tests = [
        _collection(name, _limited(test, limit_queries, seed), corpora[name])
        for name, of_file in rows.items()
        if (test := [pair for pair in of_file if pair.split == "test"]) and (not names or name in names)
    ]
    chosen_on = _held_out([pair for of_file in rows.values() for pair in of_file], seed)
    limited = {name: tuple(_limited(pairs, limit_queries, seed)) for name, pairs in chosen_on.items()}
    return Labelled(tuple(tests), limited, corpora)


def _held_out(rows: Sequence[Pair], seed: int) -> dict[str, list[Pair]]:
    """Validation and calibration pairs by source, as a recipe with default shares draws them.

    All files are divided together, so that a query that is tested in one file chooses nothing in another.
    """
    chosen_on: dict[str, list[Pair]] = {}
    for pair in split_by_query(rows, SplitSettings(), seed=seed):
        if pair.split in HELD_OUT and pair.source not in EVALUATION_ONLY and not pair.fields.get("ambiguous"):
            chosen_on.setdefault(str(pair.source), []).append(pair)
    return chosen_on


def _read(path: Path, name: str) -> list[Pair]:
    pairs = []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                texts = {key: str(row.pop(key)) for key in ("query_id", "query", "doc_id", "document", "split")}
                pairs.append(Pair(**texts, label=float(row.pop("label")), source=name, fields=row))
            except (ValueError, KeyError, TypeError) as error:
                raise InvalidData(f"not a labelled pair: {error!r}", path=path, line=number) from error
    return pairs


def _collection(name: str, rows: Sequence[Pair], corpus: tuple[str, ...]) -> Collection:
    # A query is unanswerable only when no document is relevant and none might be.
    answerable = {pair.query_id for pair in rows if pair.label == 1.0 or pair.fields.get("ambiguous")}
    pairs = tuple(pair for pair in rows if not pair.fields.get("ambiguous"))
    return Collection(name, pairs, np.asarray([pair.query_id in answerable for pair in pairs]), corpus)


def _limited(pairs: Iterable[Pair], limit: int | None, seed: int) -> list[Pair]:
    pairs = list(pairs)
    ids = sorted({pair.query_id for pair in pairs})
    if limit is None or len(ids) <= limit:
        return pairs
    kept = set(np.random.default_rng(seed).permutation(ids)[:limit].tolist())
    return [pair for pair in pairs if pair.query_id in kept]
