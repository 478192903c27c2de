"""Populations of queries with known truth, and calibration queries drawn from them.

A population is a finite list of queries, drawn from with replacement: what a threshold really does is then a sum over
the list, without error of its own. Scores are cut to a few hundred levels, so that all counts can be tabulated once;
a threshold is a level.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from relgrade.calibrate.betting import weigh

LEVELS = 384
SHORTEST, LONGEST = 5, 50
SPREAD = 5.0  # standard deviation of the grader's logits


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """How queries and scores come about."""

    base_rate: float  # share of relevant documents
    query_effect: float = (
        1.0  # standard deviation of what a query adds to its documents' log-odds, unseen by the grader
    )
    length_effect: float = 0.0  # log-odds lost from the shortest to the longest list, unseen by the grader
    is_informed: bool = True  # False: scores say nothing
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Population:
    """Counts of every query at every level; a level's threshold is its number / LEVELS."""

    kept: NDArray[np.int16]  # (n_queries, LEVELS), columns contiguous
    found: NDArray[np.int16]  # (n_queries, LEVELS), relevant ones among the kept, columns contiguous
    best: NDArray[np.int64]  # (n_queries,) level of the best document
    best_relevant: NDArray[np.int64]  # (n_queries,) level of the best relevant document, -1 for none

    def truth(self, kind: str, *, limit: int = LONGEST) -> NDArray[np.float64]:
        """The share that a promise of `kind` is about, at every level, shape (LEVELS,); NaN where nothing is kept."""
        levels = np.arange(LEVELS)
        has_relevant = self.best_relevant >= 0
        if kind == "lost-queries":
            return np.asarray((self.best_relevant[has_relevant][:, None] < levels).mean(axis=0))
        if kind == "false-keeps":
            return np.asarray((self.best[~has_relevant][:, None] >= levels).mean(axis=0))
        shares = [self._ratio(kind, level, limit) for level in levels]
        return np.array(shares)

    def _ratio(self, kind: str, level: int, limit: int) -> float:
        whole = self.kept[:, level] if kind == "precision" else self.found[:, 0]
        part, whole = weigh(self.found[:, level], whole, limit=limit)
        return float(part.sum() / whole.sum()) if whole.any() else float("nan")


def populate(cell: Cell, *, n_queries: int = 5_000) -> Population:
    """Draw the queries of a population."""
    rng = np.random.default_rng(cell.seed)
    lengths = rng.integers(SHORTEST, LONGEST + 1, n_queries)
    query = np.repeat(np.arange(n_queries), lengths)
    unseen = rng.normal(0.0, cell.query_effect, n_queries)
    unseen -= cell.length_effect * (lengths - lengths.mean()) / (LONGEST - SHORTEST)
    logit = rng.normal(0.0, SPREAD, query.size)
    odds = unseen[query] + (logit if cell.is_informed else 0.0)
    uniform = rng.random(query.size)
    low, high = -20.0, 20.0
    for _ in range(50):  # the intercept that gives the base rate
        middle = (low + high) / 2.0
        low, high = (middle, high) if (1.0 / (1.0 + np.exp(-odds - middle))).mean() < cell.base_rate else (low, middle)
    is_relevant = uniform < 1.0 / (1.0 + np.exp(-odds - high))
    # Half of the levels go to the top tenth of the scores, where thresholds are.
    rank = logit.argsort().argsort() / logit.size
    level = np.where(rank < 0.9, rank / 0.9 * LEVELS / 2, LEVELS / 2 + (rank - 0.9) / 0.1 * LEVELS / 2).astype(np.int64)
    table = np.zeros((2, n_queries, LEVELS), dtype=np.int16)
    np.add.at(table[0], (query, level), 1)
    np.add.at(table[1], (query[is_relevant], level[is_relevant]), 1)
    kept, found = (np.asfortranarray(each[:, ::-1].cumsum(axis=1, dtype=np.int16)[:, ::-1]) for each in table)
    best, best_relevant = np.full((2, n_queries), -1)
    np.maximum.at(best, query, level)
    np.maximum.at(best_relevant, query[is_relevant], level[is_relevant])
    return Population(kept, found, best, best_relevant)


@dataclass(frozen=True)
class Drawn:
    """Calibration queries of a population: `relgrade.calibrate.queries.Queries` from its tables."""

    population: Population
    rows: NDArray[np.int64]  # (n_queries,) numbers of queries of the population, in random order

    @property
    def n_queries(self) -> int:
        """Number of calibration queries."""
        return int(self.rows.size)

    @property
    def longest(self) -> int:
        """Documents of the query that has most."""
        return int(self.population.kept[self.rows, 0].max())

    @property
    def n_relevant_of(self) -> NDArray[np.float64]:
        """Relevant documents of each query."""
        return self.population.found[self.rows, 0].astype(np.float64)

    @property
    def relevant_probabilities(self) -> NDArray[np.float64]:
        """Levels on which a relevant document stands, as thresholds, rising."""
        return np.flatnonzero(np.diff(self.sums[1], append=0) < 0) / LEVELS

    @cached_property
    def sums(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Documents kept and relevant documents kept at every level, over all queries, each of shape (LEVELS,)."""
        kept, found = (
            table.T[:, self.rows].sum(axis=1, dtype=np.int64) for table in (self.population.kept, self.population.found)
        )
        return kept, found

    def best_of(self, *, relevant_only: bool) -> NDArray[np.float64]:
        """Highest threshold that each query's (relevant) documents reach."""
        best = self.population.best_relevant if relevant_only else self.population.best
        return best[self.rows] / LEVELS

    def above(self, probability: float) -> float | None:
        """The next level, None above the last."""
        return probability + 1.0 / LEVELS if probability < (LEVELS - 1) / LEVELS else None

    def part(self, first: int, end: int) -> "Drawn":
        """The queries numbered first .. end - 1."""
        return Drawn(self.population, self.rows[first:end])

    def kept_at(self, thresholds: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Documents and relevant documents kept by each query, shape (n_queries, n_thresholds)."""
        levels = levels_of(thresholds)
        kept, found = (
            table.T[levels[:, None], self.rows].T.astype(np.float64)
            for table in (self.population.kept, self.population.found)
        )
        return kept, found


def levels_of(thresholds: NDArray[np.float64] | float) -> NDArray[np.int64]:
    """Numbers of the levels of thresholds; above the last level (nothing kept) has none and is not asked for."""
    return np.rint(np.asarray(thresholds) * LEVELS).astype(np.int64)
