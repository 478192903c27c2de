"""One cell of the simulation: a population, a number of calibration queries, every promise and every method."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.naive import DOCUMENTS, POINT, by_documents, by_point
from benchmarks.simulation import LONGEST, Cell, Drawn, Population, levels_of
from relgrade.calibrate import shares, totals
from relgrade.records import Promise

DELTAS = (0.05, 0.1)
CAP = 5  # documents that one query counts for, where it is capped
TARGETS = {"precision": 0.8, "recall": 0.8, "lost-queries": 0.1, "false-keeps": 0.1}
HOPELESS = "useless scores"
CERTIFY = "certify"


def special_cells(seed: int) -> dict[str, Cell]:
    """Cells made to break promises."""
    return {
        "strong query effect": Cell(base_rate=0.4, query_effect=3.0, seed=seed),
        "long lists are worse": Cell(base_rate=0.1, length_effect=3.0, seed=seed),
        HOPELESS: Cell(base_rate=0.4, is_informed=False, seed=seed),
    }


@dataclass(slots=True)
class Tally:
    """Thresholds that one method returned for one promise."""

    promise: Promise
    method: str
    limit: int | None
    choose: Callable[[Drawn], float | None]
    levels: list[int] = field(default_factory=list)

    def draw(self, drawn: Drawn) -> None:
        """Ask the method once."""
        threshold = self.choose(drawn)
        if threshold is not None:
            self.levels.append(int(levels_of(threshold)))

    def row(self, truth: Callable[..., NDArray[np.float64]], n_draws: int) -> dict[str, Any]:
        """How often a point came back, how often it broke the promise, and what it was worth."""
        kind, target = self.promise.kind, self.promise.target
        share = truth(kind, limit=self.limit or LONGEST)
        is_floor = kind in ("precision", "recall")
        is_broken = (share < target) if is_floor else (share > target)
        broken = float(is_broken[self.levels].sum()) / n_draws
        recall, precision = truth("recall", limit=LONGEST), truth("precision", limit=LONGEST)
        kept = np.flatnonzero(~is_broken & ~np.isnan(share))
        best = None if not kept.size else kept[0] if kind in ("precision", "false-keeps") else kept[-1]
        return {
            "kind": kind,
            "target": target,
            "delta": self.promise.delta,
            "method": self.method,
            "max_per_query": self.limit,
            "n_draws": n_draws,
            "returned": len(self.levels) / n_draws,
            "broken": broken,
            "mc_error": float(np.sqrt(max(broken, 1 / n_draws) * (1 - min(broken, 1 - 1 / n_draws)) / n_draws)),
            "recall": float(recall[self.levels].mean()) if self.levels else None,
            "precision": float(np.nanmean(precision[self.levels])) if self.levels else None,
            "best_recall": None if best is None else float(recall[best]),
            "best_precision": None if best is None else float(precision[best]),
        }


def run_cell(
    name: str, population: Population, n_queries: int, n_draws: int, seed: int, advance: Callable[[], None]
) -> list[dict[str, Any]]:
    """Draw calibration queries `n_draws` times; one row for each promise and method."""
    targets = TARGETS
    if name == HOPELESS:  # just above what every threshold gives: whatever is returned is wrong
        targets = {"precision": float(np.nanmax(population.truth("precision")[:-LONGEST])) + 0.005}
    tallies = list(_tallies(targets))
    rng = np.random.default_rng([seed, n_queries])
    for _ in range(n_draws):
        drawn = Drawn(population, rng.integers(0, population.best.size, n_queries))
        for tally in tallies:
            tally.draw(drawn)
        advance()
    truth = cache(population.truth)
    return [{"cell": name, "n_queries": n_queries, **tally.row(truth, n_draws)} for tally in tallies]


def _tallies(targets: dict[str, float]) -> Iterator[Tally]:
    for kind, target in targets.items():
        for delta in DELTAS:
            promise = Promise(kind, target, delta)  # type: ignore[arg-type]
            if kind in shares.KINDS:
                yield Tally(promise, CERTIFY, None, lambda drawn, promise=promise: shares.passing(drawn, promise))
            else:
                for limit in (None, CAP):
                    yield Tally(promise, CERTIFY, limit, _betting(promise, limit))
                yield Tally(promise, DOCUMENTS, None, lambda drawn, promise=promise: by_documents(drawn, promise))
        yield Tally(promise, POINT, None, lambda drawn, promise=promise: by_point(drawn, promise))


def _betting(promise: Promise, limit: int | None) -> Callable[[Drawn], float | None]:
    return lambda drawn: totals.passing(drawn, promise, limit=limit or drawn.longest)
