"""Which of a query's ranked documents are kept: top ranks, mid ranks and random ones.

It knows rows of a corpus and text keys, and nothing of how they were ranked.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from relgrade.candidates.ranking import Ranking
from relgrade.candidates.settings import Mix

Stratum = Literal["top", "mid", "random"]
_MAX_TRIES = 20  # per wanted random document; a corpus of copies gives fewer


@dataclass(frozen=True, slots=True)
class Choice:
    """One document kept for a query."""

    row: int  # of the corpus
    stratum: Stratum
    rank: int | None  # from 1, copies left out; None when no method ranked it
    score: float | None  # of the ranking


def choose(ranking: Ranking, mix: Mix, *, text_keys: NDArray[np.int64], rng: np.random.Generator) -> list[Choice]:
    """Choose documents for one query; no text comes twice.

    Args:
        ranking: the rows that were found, the best first.
        mix: how many of each kind.
        text_keys: one number per row of the corpus, equal for equal texts, shape (n_rows,).
        rng: of the draws; one of its own per query, so that no query's draw depends on another's.

    Returns:
        Top, then mid by rank, then random ones as drawn.
    """
    ranked = _without_copies(ranking, text_keys)
    chosen = [Choice(row, "top", rank, score) for rank, row, score in ranked[: mix.top]]
    rest = ranked[mix.top :]
    if mix.mid and rest:
        drawn = rng.choice(len(rest), size=min(mix.mid, len(rest)), replace=False)
        chosen += [Choice(rest[i][1], "mid", rest[i][0], rest[i][2]) for i in sorted(drawn.tolist())]
    taken = {int(text_keys[choice.row]) for choice in chosen}
    place = {row: (rank, score) for rank, row, score in ranked}
    for row in _random_rows(mix.random, taken, text_keys, rng):
        chosen.append(Choice(row, "random", *place.get(row, (None, None))))
    return chosen


def _without_copies(ranking: Ranking, text_keys: NDArray[np.int64]) -> list[tuple[int, int, float]]:
    """(rank, row, score) of the first row of each text."""
    seen: set[int] = set()
    ranked: list[tuple[int, int, float]] = []
    for row, score in zip(ranking.rows.tolist(), ranking.scores.tolist(), strict=True):
        key = int(text_keys[row])
        if key not in seen:
            seen.add(key)
            ranked.append((len(ranked) + 1, row, score))
    return ranked


def _random_rows(
    n_wanted: int, taken: set[int], text_keys: NDArray[np.int64], rng: np.random.Generator
) -> Iterator[int]:
    n_rows = len(text_keys)
    # A small corpus is shuffled, so that its last document is found; of a large one rows are drawn until all are new.
    is_small = n_rows <= n_wanted * _MAX_TRIES
    rows = rng.permutation(n_rows) if is_small else rng.integers(n_rows, size=n_wanted * _MAX_TRIES)
    for row in rows.tolist():
        if n_wanted == 0:
            return
        key = int(text_keys[row])
        if key not in taken:
            taken.add(key)
            n_wanted -= 1
            yield row
