"""Agreement of judges beyond chance, from tables of counts or weights; pure functions of arrays.

Each works on many tables at once, so that a bootstrap is one call. NaN marks a table on which a measure has no value:
nothing in it, or one and the same answer throughout, with which chance alone would agree always.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Level = Literal["nominal", "ordinal", "interval"]


def cross_tables(
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    *,
    n_categories: int,
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """One table a pair: its weight at (first answer, second answer).

    Args:
        first: category of the first judge, 0 to n_categories - 1, shape (n_pairs,).
        second: of the second judge.
        n_categories: number of categories.
        weights: of the pairs; None: 1 each.

    Returns:
        Shape (n_pairs, n_categories, n_categories).
    """
    tables = np.zeros((first.size, n_categories, n_categories))
    tables[np.arange(first.size), first, second] = 1.0 if weights is None else weights
    return tables


def raw_agreement(tables: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share on the diagonal, shape (n,) from tables of shape (n, n_categories, n_categories)."""
    return _divide(np.trace(tables, axis1=1, axis2=2), tables.sum(axis=(1, 2)))


def kappa(tables: NDArray[np.float64], *, is_quadratic: bool = False) -> NDArray[np.float64]:
    """Cohen's kappa of each table (Cohen 1960); quadratic weights for grades (Cohen 1968).

    1 - sum(w o) / sum(w e): o the table, e what its margins would give by chance, w the cost of a cell: 1 off the
    diagonal, or the squared distance of the grades.

    Args:
        tables: counts or weights >= 0, shape (n, n_categories, n_categories).
        is_quadratic: a miss by two grades costs four times a miss by one.

    Returns:
        In [-1, 1], shape (n,).
    """
    total = tables.sum(axis=(1, 2))
    rows, columns = tables.sum(axis=2), tables.sum(axis=1)  # (n, n_categories)
    by_chance = rows[:, :, None] * columns[:, None, :]
    cost = _distances(tables.shape[1], is_quadratic=is_quadratic)
    # Multiplied out by total squared, so that an empty table divides by nothing.
    return 1.0 - _divide((tables * cost).sum(axis=(1, 2)) * total, (by_chance * cost).sum(axis=(1, 2)))


def coincidences(answers: NDArray[np.float64], *, n_categories: int) -> NDArray[np.float64]:
    """What each pair adds to Krippendorff's coincidence matrix.

    Args:
        answers: category of each pair by each annotator, NaN where there is none, shape (n_pairs, n_annotators).
        n_categories: number of categories.

    Returns:
        Shape (n_pairs, n_categories, n_categories); zero for pairs that fewer than two people judged.
    """
    is_category = answers[:, :, None] == np.arange(n_categories)  # (n_pairs, n_annotators, n_categories)
    counts = is_category.sum(axis=1).astype(np.float64)  # (n_pairs, n_categories)
    n_answers = counts.sum(axis=1)
    together = counts[:, :, None] * counts[:, None, :]
    together[:, np.arange(n_categories), np.arange(n_categories)] -= counts  # nobody agrees with themselves
    added: NDArray[np.float64] = together / np.maximum(n_answers - 1.0, 1.0)[:, None, None]
    return added


def krippendorff_alpha(matrices: NDArray[np.float64], *, level: Level = "nominal") -> NDArray[np.float64]:
    """Krippendorff's alpha of each coincidence matrix.

    1 - (n - 1) sum(o d) / sum(n_c n_k d), with n_c the margins, n their sum and d the squared distance of two
    categories at the level of measurement (Krippendorff 2011, "Computing Krippendorff's alpha-reliability").

    Args:
        matrices: shape (n, n_categories, n_categories), from `coincidences`, summed over pairs.
        level: of the answers; grades are ordinal.

    Returns:
        At most 1, shape (n,).
    """
    margins = matrices.sum(axis=2)  # (n, n_categories)
    if level == "ordinal":  # answers between two categories, half of each end: its square is the distance
        middle = np.cumsum(margins, axis=1) - margins / 2.0
        distance = (middle[:, :, None] - middle[:, None, :]) ** 2
    else:
        distance = _distances(matrices.shape[1], is_quadratic=level == "interval")[None]
    expected = (margins[:, :, None] * margins[:, None, :] * distance).sum(axis=(1, 2))
    observed = (matrices * distance).sum(axis=(1, 2))
    return 1.0 - _divide((margins.sum(axis=1) - 1.0) * observed, expected)


def _distances(n_categories: int, *, is_quadratic: bool) -> NDArray[np.float64]:
    place = np.arange(n_categories)
    apart = (place[:, None] - place[None, :]).astype(np.float64)
    return apart**2 if is_quadratic else (apart != 0.0).astype(np.float64)


def _divide(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    quotient: NDArray[np.float64] = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return quotient
