"""How often the 95 % interval of prediction-powered inference holds the truth, by simulation, clustered by query.

    python -m benchmarks.ppi_coverage [--draws 2000] [--output benchmarks/results/ppi_coverage.json]

Each draw makes new queries and pairs: relevance and the teacher's errors both depend on the query, so that pairs of one
query go wrong together. A sample is drawn as `relgrade audit sample` draws it, "people" say the truth about it, and the
interval is asked whether it holds the share relevant, the student's precision and the student's recall of the whole
population. The normal interval that takes pairs for independent is counted beside. The last line is JSON.
"""

import argparse
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade.audit.clusters import Interval
from relgrade.audit.ppi import Audited, CorrectedShare, share_found, share_relevant
from relgrade.audit.sampling import draw_units, inclusion_probabilities, probability_bins

MEASURES = ("prevalence", "precision", "recall")
_N_TRUTH = 200_000  # queries behind the true values
NOMINAL_Z = 1.959964


@dataclass(frozen=True, slots=True)
class World:
    """How pairs come about."""

    name: str
    n_queries: int
    n_documents: int  # of a query
    n_judged: int
    per_query: int  # judged pairs of one query, at most
    query_spread: float  # standard deviation of a query's log-odds of relevance
    teacher_noise: float  # of the teacher's log-odds, pair by pair
    teacher_drift: float  # of the teacher's log-odds, one draw a query: errors that a query's pairs share
    is_hard: bool  # the teacher says 0 or 1


WORLDS = (
    World("soft labels", 400, 10, 300, 3, 1.0, 1.0, 0.7, False),
    World("hard labels", 400, 10, 300, 3, 1.0, 1.0, 0.7, True),
    World("strong clusters, ten judged a query", 150, 20, 300, 10, 2.0, 1.0, 2.0, False),
)


@dataclass(frozen=True, slots=True)
class Population:
    """Pairs of one draw, each array of shape (n_pairs,)."""

    query: NDArray[np.int64]
    is_relevant: NDArray[np.bool_]
    teacher: NDArray[np.float64]
    is_kept: NDArray[np.bool_]  # by a student


def make_population(world: World, *, n_queries: int, generator: np.random.Generator) -> Population:
    """Draw queries with their pairs."""
    query = np.repeat(np.arange(n_queries), world.n_documents)
    log_odds = -1.2 + world.query_spread * generator.normal(size=n_queries)[query]
    log_odds = log_odds + 2.0 * generator.normal(size=query.size)
    is_relevant = generator.random(query.size) < 1.0 / (1.0 + np.exp(-log_odds))
    heard = 1.5 * log_odds + 0.6 + world.teacher_noise * generator.normal(size=query.size)
    heard = heard + world.teacher_drift * generator.normal(size=n_queries)[query]
    teacher = 1.0 / (1.0 + np.exp(-heard))
    student = heard + 1.5 * generator.normal(size=query.size)  # it learned from the teacher, errors included
    return Population(query, is_relevant, (teacher >= 0.5).astype(float) if world.is_hard else teacher, student >= 0.0)


def audit(world: World, population: Population, *, generator: np.random.Generator) -> Audited:
    """Draw a sample and judge it."""
    chances = inclusion_probabilities(population.teacher, population.query, n=world.n_judged, per_query=world.per_query)
    drawn = draw_units(chances, population.query, probability_bins(population.teacher), generator=generator)
    return Audited(
        teacher=population.teacher,
        query=population.query,
        judged=drawn,
        people=population.is_relevant[drawn].astype(float),
        weights=1.0 / chances[drawn],
    )


def truth_of(world: World, *, seed: int) -> dict[str, float]:
    """The values for all queries there could be, known to about 0.001."""
    population = make_population(world, n_queries=_N_TRUTH, generator=np.random.default_rng(seed))
    relevant, kept = population.is_relevant, population.is_kept
    values = (relevant.mean(), relevant[kept].mean(), kept[relevant].mean())
    return dict(zip(MEASURES, map(float, values), strict=True))


def naive_interval(audited: Audited) -> Interval:
    """The interval of the share relevant as if each judged pair stood alone, and were drawn with equal chances."""
    miss = audited.people - audited.teacher[audited.judged]
    half = NOMINAL_Z * float((audited.teacher.var() / audited.teacher.size + miss.var() / miss.size) ** 0.5)
    value = float(audited.teacher.mean() + miss.mean())
    return Interval(value, value - half, value + half, 0, miss.size)


def simulate(world: World, *, n_draws: int, seed: int) -> dict[str, Any]:
    """Coverage and width of each measure in one world."""
    truth = truth_of(world, seed=seed + 1)
    generator = np.random.default_rng(seed)
    held = {name: [0, 0] for name in (*MEASURES, "naive")}  # corrected, people alone
    widths = {name: np.zeros(2) for name in MEASURES}
    errors = {name: 0.0 for name in MEASURES}
    for _ in range(n_draws):
        population = make_population(world, n_queries=world.n_queries, generator=generator)
        audited = audit(world, population, generator=generator)
        shares: dict[str, CorrectedShare] = {
            "prevalence": share_relevant(audited),
            "precision": share_relevant(audited.among(population.is_kept)),
            "recall": share_found(audited, population.is_kept),
        }
        for name, share in shares.items():
            for i, interval in enumerate((share.corrected, share.people_alone)):
                held[name][i] += _holds(interval, truth[name])
                widths[name][i] += 2.0 * (interval.half_width or 0.0)
            errors[name] += (share.corrected.value or 0.0) - truth[name]
        held["naive"][0] += _holds(naive_interval(audited), truth["prevalence"])
    return {
        "world": asdict(world),
        "truth": truth,
        "coverage": {name: held[name][0] / n_draws for name in MEASURES},
        "coverage_people_alone": {name: held[name][1] / n_draws for name in MEASURES},
        "coverage_naive_prevalence": held["naive"][0] / n_draws,
        "bias": {name: errors[name] / n_draws for name in MEASURES},
        "mean_width": {name: float(widths[name][0]) / n_draws for name in MEASURES},
        "mean_width_people_alone": {name: float(widths[name][1]) / n_draws for name in MEASURES},
    }


def _holds(interval: Interval, truth: float) -> bool:
    return interval.low is not None and interval.high is not None and interval.low <= truth <= interval.high


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the simulation."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args(arguments)
    start, worlds = time.perf_counter(), []
    for world in WORLDS:
        found = simulate(world, n_draws=options.draws, seed=options.seed)
        worlds.append(found)
        naive = found["coverage_naive_prevalence"]
        print(f"{world.name}: {options.draws} draws, naive interval of the prevalence holds {naive:.1%}")
        for name in MEASURES:
            held, width = found["coverage"][name], found["mean_width"][name]
            alone, alone_width = found["coverage_people_alone"][name], found["mean_width_people_alone"][name]
            print(
                f"  {name:<12} holds {held:.1%}, width {width:.3f} (people alone {alone:.1%}, {alone_width:.3f}), "
                f"bias {found['bias'][name]:+.4f}"
            )
    result = {
        "draws": options.draws,
        "seed": options.seed,
        "seconds": round(time.perf_counter() - start, 1),
        "python": platform.python_version(),
        "worlds": worlds,
    }
    text = json.dumps(result)
    if options.output is not None:
        options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
