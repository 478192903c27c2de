"""Which pairs people are asked about: how likely each is to be drawn, and the draw itself.

Guarantees of `draw_units`: pair i is drawn with exactly the chance asked for, the number drawn is the sum of the
chances, and no query gives more than its own sum rounded up. They hold because pairs duel for their chances, first
inside a query, then inside a stratum, then across: the pivotal method of Deville and Tille 1998, "Unequal probability
sampling without replacement through a splitting method", Biometrika 85. Knowing the chances is what makes estimates
from the sample unbiased for all pairs (Horvitz and Thompson 1952).

It knows arrays and nothing of files or texts.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade.errors import InvalidInput

BIN_EDGES = (0.1, 0.35, 0.65, 0.9)  # of the teacher's probability; a bin takes its lower edge
N_BINS = len(BIN_EDGES) + 1
# A stratum of n pairs gets a share that grows with the root of n: between equal shares, which learn most about rare
# strata, and proportional ones, which learn most about the whole (power allocation, Bankier 1988, exponent 1/2).
POWER = 0.5
DISAGREEMENT_WEIGHT = 4.0  # a pair on which teachers disagree entirely is this much likelier again to be drawn
_NEAR = 1e-9  # chances this close to 0 or 1 are settled: rounding, not luck, is all that is left


def probability_bins(probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin, 0 to `N_BINS` - 1, of each teacher probability, shape (n_pairs,)."""
    return np.searchsorted(BIN_EDGES, probabilities, side="right").astype(np.int64)


def inclusion_probabilities(
    probabilities: NDArray[np.float64],
    query: NDArray[np.int64],
    *,
    n: int,
    per_query: int,
    disagreement: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """The chance of each pair to be drawn.

    Args:
        probabilities: the teacher's, in [0, 1], shape (n_pairs,).
        query: index of the pair's query, shape (n_pairs,).
        n: pairs to draw.
        per_query: pairs of one query, at most.
        disagreement: of teachers or samples on the pair, in [0, 1], shape (n_pairs,); None: none known.

    Returns:
        Numbers in (0, 1] that sum to n, and to `per_query` at most inside a query, shape (n_pairs,).

    Raises:
        InvalidInput: no pairs, arguments out of range, or so many pairs are not there.
    """
    if probabilities.size == 0 or probabilities.shape != query.shape or min(n, per_query) < 1:
        raise InvalidInput(
            f"a draw needs pairs, n >= 1 and per_query >= 1, got {probabilities.size} pairs, n {n}, {per_query}"
        )
    if not ((probabilities >= 0.0) & (probabilities <= 1.0)).all():  # NaN fails both
        raise InvalidInput("teacher probabilities must lie in [0, 1]")
    n_possible = int(np.minimum(np.bincount(query), per_query).sum())
    if n > n_possible:
        raise InvalidInput(
            f"{n} pairs were asked for and {n_possible} can be drawn from {probabilities.size} pairs with at most "
            f"{per_query} a query; lower n or raise the limit per query"
        )
    bins = probability_bins(probabilities)
    weights = np.bincount(bins, minlength=N_BINS)[bins] ** (POWER - 1.0)
    if disagreement is not None:
        weights = weights * (1.0 + DISAGREEMENT_WEIGHT * np.clip(disagreement, 0.0, 1.0))
    low, high = 0.0, 1.0 / weights.min()  # at `high` every pair's chance is 1 before the limit per query
    for _ in range(100):
        scale = (low + high) / 2.0
        low, high = (scale, high) if _limited(scale * weights, query, per_query).sum() < n else (low, scale)
    chances = _limited(high * weights, query, per_query)
    settled: NDArray[np.float64] = np.minimum(chances * (n / chances.sum()), 1.0)
    return settled


def draw_units(
    chances: NDArray[np.float64],
    query: NDArray[np.int64],
    stratum: NDArray[np.int64],
    *,
    generator: np.random.Generator,
) -> NDArray[np.int64]:
    """Draw pairs with the given chances; see the module for what holds.

    Args:
        chances: in (0, 1], shape (n_pairs,).
        query: index of the pair's query, shape (n_pairs,).
        stratum: index of the pair's stratum, whose share of the draw is kept as near as the queries allow.
        generator: of the draw.

    Returns:
        Indices of the pairs drawn, rising.
    """
    duel = _Duel(chances.tolist(), generator)
    order = generator.permutation(chances.size)
    left = duel.run_groups(order, query)  # one undecided pair a query, at most
    left = duel.run_groups(np.asarray(left, dtype=np.int64), stratum)  # one a stratum
    last = duel.run(left)
    if last is not None and generator.random() < duel.chances[last]:  # only where the chances sum to no whole number
        duel.drawn.append(last)
    return np.asarray(sorted(duel.drawn), dtype=np.int64)


def _limited(chances: NDArray[np.float64], query: NDArray[np.int64], per_query: int) -> NDArray[np.float64]:
    chances = np.minimum(chances, 1.0)
    sums = np.bincount(query, weights=chances)
    shrink: NDArray[np.float64] = np.minimum(1.0, per_query / np.maximum(sums, _NEAR))
    return chances * shrink[query]


class _Duel:
    """Chances that pairs win from each other until each is drawn or out."""

    def __init__(self, chances: list[float], generator: np.random.Generator) -> None:
        self.chances = chances
        self.drawn: list[int] = []
        self._luck: Any = iter(generator.random(2 * len(chances) + 1).tolist())

    def run_groups(self, order: NDArray[np.int64], group: NDArray[np.int64]) -> list[int]:
        """Duel inside each group; the pairs still undecided, one a group at most, in the order they came."""
        members: dict[int, list[int]] = {}
        for unit, name in zip(order.tolist(), group[order].tolist(), strict=True):
            members.setdefault(name, []).append(unit)
        left = (self.run(units) for units in members.values())
        return [unit for unit in left if unit is not None]

    def run(self, units: Iterable[int]) -> int | None:
        """Duel in the order given; the one pair still undecided, if any."""
        holder: int | None = None
        for unit in units:
            unit_left = self._settle(unit)
            if unit_left is None or holder is None:
                holder = holder if unit_left is None else unit_left
                continue
            holder = self._settle(self._fight(holder, unit_left))
        return holder

    def _fight(self, one: int, two: int) -> int:
        """Settle one of two pairs; the other goes on with what is left of the chances."""
        a, b = self.chances[one], self.chances[two]
        together = a + b
        if together < 1.0:  # one of them is out
            winner = one if next(self._luck) * together < a else two
            self.chances[winner] = together
            return winner
        # One of them is drawn; the other keeps the rest.
        is_one_drawn = next(self._luck) * (2.0 - together) < 1.0 - b
        drawn, other = (one, two) if is_one_drawn else (two, one)
        self.drawn.append(drawn)
        self.chances[other] = together - 1.0
        return other

    def _settle(self, unit: int) -> int | None:
        chance = self.chances[unit]
        if chance >= 1.0 - _NEAR:
            self.drawn.append(unit)
            return None
        return unit if chance > _NEAR else None
