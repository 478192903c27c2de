"""Labelled pairs gathered by query, and what a threshold keeps of each: the units that promises are tested on.

Queries stand in an order drawn from the seed and from their content alone, so neither the order of the rows nor the
names of the queries have a say in which of them choose and which test.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from relgrade.errors import InvalidInput

MIN_QUERIES = 20


class Queries(Protocol):
    """What the searches ask of labelled queries; `LabelledQueries` says what each member means."""

    @property
    def n_queries(self) -> int: ...  # noqa: D102
    @property
    def longest(self) -> int: ...  # noqa: D102
    @property
    def relevant_probabilities(self) -> NDArray[np.float64]: ...  # noqa: D102
    @property
    def n_relevant_of(self) -> NDArray[np.float64]: ...  # noqa: D102
    def best_of(self, *, relevant_only: bool) -> NDArray[np.float64]: ...  # noqa: D102
    def above(self, probability: float) -> float | None: ...  # noqa: D102
    def part(self, first: int, end: int) -> Self: ...  # noqa: D102
    def kept_at(self, thresholds: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class LabelledQueries:
    """Pairs sorted by query; queries are numbered 0 .. n_queries - 1 in the drawn order."""

    probability: NDArray[np.float64]  # (n_pairs,) in [0, 1]; only its order matters
    is_relevant: NDArray[np.bool_]  # (n_pairs,)
    query: NDArray[np.int64]  # (n_pairs,) number of the pair's query
    n_queries: int

    @property
    def n_pairs(self) -> int:
        """Number of labelled pairs."""
        return int(self.probability.size)

    @property
    def longest(self) -> int:
        """Documents of the query that has most."""
        return int(np.bincount(self.query).max())

    @property
    def relevant_probabilities(self) -> NDArray[np.float64]:
        """The distinct probabilities of relevant documents, rising."""
        return np.unique(self.probability[self.is_relevant])

    @property
    def n_relevant_of(self) -> NDArray[np.float64]:
        """Relevant documents of each query, shape (n_queries,)."""
        weights = self.is_relevant.astype(np.float64)
        return np.asarray(np.bincount(self.query, weights=weights, minlength=self.n_queries), dtype=np.float64)

    def best_of(self, *, relevant_only: bool) -> NDArray[np.float64]:
        """Highest probability of each query's documents, -inf where it has none, shape (n_queries,)."""
        best = np.full(self.n_queries, -np.inf)
        chosen = self.is_relevant if relevant_only else np.ones(self.n_pairs, dtype=bool)
        np.maximum.at(best, self.query[chosen], self.probability[chosen])
        return best

    def above(self, probability: float) -> float | None:
        """Midway to the next higher probability of any document (to 1 above the last), None when there is no room."""
        higher = self.probability[self.probability > probability]
        top = float(higher.min()) if higher.size else 1.0
        middle = probability + (top - probability) / 2.0
        return middle if middle > probability else top if top > probability else None

    def part(self, first: int, end: int) -> Self:
        """The queries numbered first .. end - 1, numbered anew from 0."""
        inside = (self.query >= first) & (self.query < end)
        return type(self)(self.probability[inside], self.is_relevant[inside], self.query[inside] - first, end - first)

    def kept_at(self, thresholds: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Documents that each query keeps (probability >= threshold), and how many of those are relevant.

        Args:
            thresholds: rising, shape (n_thresholds,).

        Returns:
            Two arrays of counts, shape (n_queries, n_thresholds).
        """
        width = thresholds.size + 1
        # Column: how many of the thresholds the document reaches; it is kept at all of those.
        place = self.query * width + np.searchsorted(thresholds, self.probability, side="right")
        size, shape = self.n_queries * width, (self.n_queries, width)
        kept = np.bincount(place, minlength=size).reshape(shape)
        found = np.bincount(place[self.is_relevant], minlength=size).reshape(shape)
        return _at_least(kept), _at_least(found)


def gather(probabilities: Any, labels: Any, query_ids: Sequence[Any] | NDArray[Any], *, seed: int) -> LabelledQueries:
    """Check labelled pairs and gather them by query.

    Args:
        probabilities: in [0, 1], shape (n_pairs,).
        labels: 0 or 1, shape (n_pairs,).
        query_ids: the query of each pair, shape (n_pairs,).
        seed: of the order of the queries.

    Raises:
        InvalidInput: shapes differ, a probability is NaN or outside [0, 1], a label is neither 0 nor 1, one class only,
            or fewer than 20 queries.
    """
    p, y, number = _checked(probabilities, labels, query_ids)
    n_queries = int(number.max()) + 1
    order = np.lexsort((y, p, number))
    p, y, number = p[order], y[order], number[order]
    starts = np.searchsorted(number, np.arange(n_queries + 1))
    # The bytes of a query's sorted pairs: any fixed order of contents will do, since a drawn one follows. Ranks stand
    # for the probabilities, so that a calibration fitted on these pairs has no say either.
    content = np.stack([np.unique(p, return_inverse=True)[1].reshape(-1), y.astype(np.int64)], axis=1)
    keys = [content[first:end].tobytes() for first, end in itertools.pairwise(starts)]
    by_content = sorted(range(n_queries), key=keys.__getitem__)
    rank = np.empty(n_queries, dtype=np.int64)
    rank[by_content] = np.random.default_rng(seed).permutation(n_queries)
    return LabelledQueries(p, y.astype(bool), rank[number], n_queries)


def _at_least(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums over the columns to the right, shape (n_queries, n_thresholds) from (n_queries, n_thresholds + 1)."""
    return counts[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:].astype(np.float64)


def _checked(
    probabilities: Any, labels: Any, query_ids: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    try:
        p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"probabilities and labels must be numbers, one a pair, none missing: {error}") from error
    ids = np.asarray(query_ids)
    if p.ndim != 1 or p.size == 0 or not p.shape == y.shape == ids.shape:
        raise InvalidInput(
            f"need probabilities, labels and query ids of shape (n_pairs,), got {p.shape}, {y.shape}, {ids.shape}"
        )
    if not ((p >= 0.0) & (p <= 1.0)).all():  # NaN fails both comparisons
        raise InvalidInput("probabilities must lie in [0, 1] and none may be missing; numbers beyond look like logits")
    if not ((y == 0.0) | (y == 1.0)).all():
        raise InvalidInput("labels must be 0 or 1; cut graded labels first, and say where")
    if y.min() == y.max():
        raise InvalidInput(
            f"all {y.size} labels are {int(y[0])}: no threshold can be judged; label relevant and irrelevant documents"
        )
    names, number = np.unique(ids, return_inverse=True)
    if names.size < MIN_QUERIES:
        raise InvalidInput(
            f"the query is the unit of the promise: need {MIN_QUERIES} labelled queries at least, got {names.size}"
        )
    return p, y, number.reshape(-1).astype(np.int64)
