"""The labels of one report, checked once, and sums over queries: what every measure of this package starts from."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade.errors import InvalidInput
from relgrade.evaluate.intervals import Estimate, estimate, ratio_draws

Floats = NDArray[np.float64]

NO_QUERIES = "the rows carry no query ids"


@dataclass(frozen=True, slots=True)
class Rows:
    """The checked labels of one collection, and which query each row belongs to."""

    relevant: NDArray[np.bool_]  # (n_pairs,)
    query: NDArray[np.int64]  # (n_pairs,) index of the query, or of the block
    is_answerable: NDArray[np.bool_]  # (n_queries,)
    n_relevant: Floats  # (n_queries,) pairs
    is_by_query: bool = True  # False: the units are blocks of rows, and measures of queries have no value

    @property
    def n_queries(self) -> int:
        """Units that are drawn: queries, or blocks."""
        return self.is_answerable.size

    @property
    def n_pairs(self) -> int:
        """Rows."""
        return self.query.size

    def sums(self, values: NDArray[Any]) -> Floats:
        """Sum of the values over each query's pairs, shape (n_queries,)."""
        return np.bincount(self.query, weights=values, minlength=self.n_queries).astype(np.float64)

    def estimate(self, value: float | None, draws: Floats | None = None, *, reason: str | None = None) -> Estimate:
        """An estimate that rests on every query; without draws it has no value, for the reason given."""
        drawn = np.full(1, np.nan) if draws is None else draws
        return estimate(value, drawn, n_queries=self.n_queries, n_pairs=self.n_pairs, reason=reason)

    def ratio(
        self,
        counts: Floats,
        part: Floats,
        whole: Floats,
        *,
        of: NDArray[np.bool_] | None = None,
        reason: str = "there is nothing to take a share of",
    ) -> Estimate:
        """sum(part) / sum(whole), each given per query.

        Args:
            counts: of `draw_queries`, shape (n_draws, n_queries).
            part: shape (n_queries,).
            whole: shape (n_queries,).
            of: the queries it rests on, shape (n_queries,); None all.
            reason: why there is no value when sum(whole) is 0.
        """
        total = float(whole.sum())
        rests_on = np.ones(self.n_queries, dtype=bool) if of is None else of
        return estimate(
            float(part.sum()) / total if total > 0 else None,
            ratio_draws(counts, part, whole),
            n_queries=int(rests_on.sum()),
            n_pairs=int(rests_on[self.query].sum()),
            reason=reason if total <= 0 else None,
        )

    @classmethod
    def check(cls, labels: Any, query_ids: Any, *, is_answerable: Any = None) -> "Rows":
        """Read labels and ids.

        Args:
            labels: 0 or 1, shape (n_pairs,).
            query_ids: shape (n_pairs,).
            is_answerable: of the pair's query, shape (n_pairs,); None: a query without a relevant pair is unanswerable.

        Raises:
            InvalidInput: shapes differ, a label is neither 0 nor 1, or a query is answerable in one pair and not in
                another, or unanswerable with a relevant pair.
        """
        label, ids = _numbers("labels", labels), np.asarray(query_ids)
        if label.ndim != 1 or label.size == 0 or label.shape != ids.shape:
            raise InvalidInput(f"need labels and query_ids of shape (n_pairs,), got {label.shape} and {ids.shape}")
        is_odd = ~((label == 0.0) | (label == 1.0))
        if is_odd.any():
            raise InvalidInput(f"labels must be 0 or 1, got {label[int(is_odd.argmax())]}; cut graded labels first")
        query = np.unique(ids, return_inverse=True)[1]
        n_relevant = np.bincount(query, weights=label).astype(np.float64)
        if is_answerable is None:
            return cls(label.astype(bool), query, n_relevant > 0, n_relevant)
        flags = _numbers("is_answerable", is_answerable)
        if flags.shape != label.shape:
            raise InvalidInput(f"is_answerable must have shape {label.shape}, got {flags.shape}")
        share = np.bincount(query, weights=flags) / np.bincount(query)
        if ((share != 0.0) & (share != 1.0)).any():
            raise InvalidInput("a query is marked answerable in one pair and unanswerable in another")
        if ((share == 0.0) & (n_relevant > 0)).any():
            raise InvalidInput("a query is marked unanswerable and has a relevant pair")
        return cls(label.astype(bool), query, share == 1.0, n_relevant)

    @classmethod
    def check_blocks(cls, labels: Any, *, block_length: int) -> "Rows":
        """Rows without query ids: consecutive blocks of `block_length` rows are the units, the last may be shorter.

        Raises:
            InvalidInput: a label is neither 0 nor 1, or the length is below 1.
        """
        if block_length < 1:
            raise InvalidInput(f"a block needs a length >= 1, got {block_length}")
        label = _numbers("labels", labels)
        rows = cls.check(label, np.arange(label.size) // block_length)
        return cls(rows.relevant, rows.query, rows.is_answerable, rows.n_relevant, is_by_query=False)


def check_scores(scores: Any, rows: Rows, *, name: str = "scores") -> Floats:
    """Finite numbers, one a row.

    Raises:
        InvalidInput: another shape, or NaN or infinity.
    """
    values = _numbers(name, scores)
    if values.shape != rows.query.shape:
        raise InvalidInput(f"{name} must have shape {rows.query.shape}, got {values.shape}")
    is_bad = ~np.isfinite(values)
    if is_bad.any():
        raise InvalidInput(
            f"{name} holds NaN or infinity at row {int(is_bad.argmax())}; a pair without a verdict must be left out "
            "and reported"
        )
    return values


def check_probabilities(probabilities: Any, rows: Rows) -> Floats:
    """Numbers in [0, 1], one a row.

    Raises:
        InvalidInput: another shape, NaN, or out of range.
    """
    values = check_scores(probabilities, rows, name="probabilities")
    if values.min() < 0.0 or values.max() > 1.0:
        raise InvalidInput(
            f"probabilities must lie in [0, 1], got {values.min():.4g} to {values.max():.4g}; these look like logits"
        )
    return values


def check_verdicts(is_kept: Any, rows: Rows) -> NDArray[np.bool_]:
    """0/1 or booleans, one a row.

    Raises:
        InvalidInput: another shape or value.
    """
    values = check_scores(is_kept, rows, name="is_kept")
    if not ((values == 0.0) | (values == 1.0)).all():
        raise InvalidInput("verdicts must be 0 or 1")
    return values.astype(bool)


def _numbers(name: str, values: Any) -> Floats:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{name} must be numbers, one a pair: {error}") from error
