"""What a report is made of: labelled rows, and what each contender says about them. Arrays and texts, no models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from relgrade.errors import InvalidInput
from relgrade.evaluate.evaluation import Evaluation, evaluate_rows
from relgrade.evaluate.rows import Floats, Rows, check_probabilities, check_scores, check_verdicts

Kind = Literal["grader", "predictions", "baseline"]


@dataclass(frozen=True, kw_only=True)
class Judgements:
    """Labelled rows, as columns of one length.

    Raises:
        InvalidInput: a column of another length, a pair that stands twice, or what `Rows.check` raises.
    """

    labels: NDArray[Any]  # 0 or 1, shape (n_pairs,)
    query_ids: Sequence[str] | None = None  # None: the rows carry none, and blocks of rows are drawn
    block_length: int | None = None  # without query ids; None takes `default_block_length`
    doc_ids: Sequence[str] | None = None
    queries: Sequence[str] | None = None  # texts
    documents: Sequence[str] | None = None  # texts
    grades: NDArray[Any] | None = None  # gains of nDCG >= 0; None: the labels
    fields: Mapping[str, Sequence[Any]] = field(default_factory=dict)  # to slice by

    def __post_init__(self) -> None:
        columns: dict[str, Any] = {"query_ids": self.query_ids, "doc_ids": self.doc_ids, "queries": self.queries}
        columns |= {"documents": self.documents, "grades": self.grades, **self.fields}
        for name, column in columns.items():
            if column is not None and len(column) != len(self.labels):
                raise InvalidInput(f"{name} must have one value for each of {len(self.labels)} rows, got {len(column)}")
        if self.query_ids is not None and self.doc_ids is not None:
            _refuse_repeats(self.query_ids, self.doc_ids)
        if self.query_ids is None and self.fields:
            raise InvalidInput("rows without query ids cannot be sliced: their blocks would fall apart")
        _ = self.rows

    @cached_property
    def rows(self) -> Rows:
        """The checked labels."""
        if self.query_ids is None:
            return Rows.check_blocks(self.labels, block_length=self.unit_length)
        return Rows.check(self.labels, self.query_ids)

    @property
    def unit_length(self) -> int:
        """Rows of a block."""
        return self.block_length or default_block_length(len(self.labels))


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """What one grader or baseline says about each row."""

    name: str
    kind: Kind
    note: str = ""  # one sentence: what it is, and where its threshold comes from
    scores: NDArray[Any] | None = None  # larger is more relevant, shape (n_pairs,)
    probabilities: NDArray[Any] | None = None  # in [0, 1], shape (n_pairs,)
    is_kept: NDArray[Any] | None = None  # shape (n_pairs,); None: nothing was decided
    threshold: float | None = None  # where `is_kept` comes from one

    def evaluate(self, judgements: Judgements, *, n_draws: int, seed: int) -> Evaluation:
        """Every measure that these columns allow."""
        rows = judgements.rows
        grades = judgements.grades
        return evaluate_rows(
            rows,
            scores=None if self.ranking is None else check_scores(self.ranking, rows),
            probabilities=None if self.probabilities is None else check_probabilities(self.probabilities, rows),
            is_kept=None if self.is_kept is None else check_verdicts(self.is_kept, rows),
            grades=None if grades is None else check_scores(grades, rows, name="grades"),
            threshold=self.threshold,
            n_draws=n_draws,
            seed=seed,
        )

    @property
    def ranking(self) -> Floats | None:
        """What the rows are ranked by: the scores, else the probabilities."""
        found = self.probabilities if self.scores is None else self.scores
        return None if found is None else np.asarray(found, dtype=np.float64)


def default_block_length(n_rows: int) -> int:
    """The square root of the number of rows, rounded up.

    Blocks have to be longer than the runs of rows that err together, which nobody knows here; the asymptotically best
    length grows with the cube root (Kuensch 1989; Lahiri 2003, "Resampling Methods for Dependent Data", chapter 5), so
    this one errs on the side of wide intervals.
    """
    return max(1, int(np.ceil(np.sqrt(n_rows))))


def _refuse_repeats(query_ids: Sequence[str], doc_ids: Sequence[str]) -> None:
    first: dict[tuple[str, str], int] = {}
    for row, key in enumerate(zip(query_ids, doc_ids, strict=True)):
        if key in first:
            raise InvalidInput(
                f"rows {first[key] + 1} and {row + 1} are the same pair, query {key[0]!r} with document {key[1]!r}; "
                "each pair counts once: remove the copies"
            )
        first[key] = row
