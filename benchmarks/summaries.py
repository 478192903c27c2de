"""From the scores and evaluations of the quality benchmark to its report: macro averages, margins, checks, hardware."""

import os
import platform
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.labelled import Collection
from relgrade.evaluate import Estimate, Evaluation, compare_scores
from relgrade.evaluate.evaluation import average_precision_draws
from relgrade.evaluate.intervals import estimate

GRADER = "grader"  # the name of the contender under test; the others are baselines
# What the embedded default has to show: margin of the macro AP, and the worst collection.
MIN_MARGIN, WORST_DIFFERENCE = 0.02, -0.05
PACKAGES = ("relgrade", "numpy", "onnxruntime", "tokenizers", "bm25s", "torch")


@dataclass(frozen=True, slots=True)
class Draws:
    """How intervals are drawn."""

    n_draws: int
    seed: int

    def seed_of(self, collection: Collection) -> int:
        """One seed for each set of queries: files over the same queries draw alike, others independently."""
        ids = sorted(set(collection.query_ids.tolist()))
        return zlib.crc32("\n".join([str(self.seed), *ids]).encode("utf-8", "surrogatepass"))


@dataclass(frozen=True, slots=True)
class Measured:
    """One contender on one collection."""

    scores: NDArray[np.float64]  # (n_pairs,)
    evaluation: Evaluation

    @property
    def ap(self) -> float:
        """Average precision; 0 where nothing is relevant."""
        return self.evaluation.average_precision.value or 0.0


Results = Mapping[str, Mapping[str, Measured]]  # by collection, then contender


def better_baseline(measured: Mapping[str, Measured]) -> str:
    """The baseline with the higher AP on this very collection: the harder one to beat, chosen with hindsight."""
    return max((name for name in measured if name != GRADER), key=lambda name: measured[name].ap)


def paired_difference(collection: Collection, measured: Mapping[str, Measured], draws: Draws) -> dict[str, Any]:
    """AP of the grader minus that of the better baseline, on the same draws."""
    other = better_baseline(measured)
    difference = compare_scores(
        measured[GRADER].scores,
        measured[other].scores,
        collection.labels,
        collection.query_ids,
        n_draws=draws.n_draws,
        seed=draws.seed_of(collection),
    )
    return {"baseline": other, **asdict(difference)}


def macro_averages(tests: tuple[Collection, ...], results: Results, draws: Draws) -> dict[str, Estimate]:
    """Mean AP over collections of each contender and, with a grader, its `margin` over each one's better baseline."""
    values: dict[str, list[float]] = {}
    drawn: dict[str, list[NDArray[np.float64]]] = {}
    for collection in tests:
        measured = results[collection.name]
        for name, each in measured.items():
            values.setdefault(name, []).append(each.ap)
            drawn.setdefault(name, []).append(
                average_precision_draws(
                    each.scores,
                    collection.labels,
                    collection.query_ids,
                    n_draws=draws.n_draws,
                    seed=draws.seed_of(collection),
                )
            )
        if GRADER in measured:
            other = better_baseline(measured)
            values.setdefault("margin", []).append(measured[GRADER].ap - measured[other].ap)
            drawn.setdefault("margin", []).append(drawn[GRADER][-1] - drawn[other][-1])
    n_queries = sum(len(set(each.query_ids.tolist())) for each in tests)
    n_pairs = sum(len(each.pairs) for each in tests)
    return {
        name: estimate(float(np.mean(values[name])), np.mean(drawn[name], axis=0), n_queries=n_queries, n_pairs=n_pairs)
        for name in values
    }


def summarise(results: Results, *, is_whole: bool) -> dict[str, Any]:
    """The line for machines: macro AP, and the grader's margin and worst collection with the two checks.

    The checks are None unless `is_whole`: on part of the data, or without a baseline, they would pass or fail for the
    wrong reason.
    """
    names = list(next(iter(results.values())))
    best = float(np.mean([each[better_baseline(each)].ap for each in results.values()]))
    summary: dict[str, Any] = {
        "benchmark": "quality",
        "n_collections": len(results),
        "macro_ap": {name: round(float(np.mean([each[name].ap for each in results.values()])), 4) for name in names},
        "better_baseline_macro_ap": round(best, 4),
    }
    if GRADER not in names:
        return summary
    differences = {file: each[GRADER].ap - each[better_baseline(each)].ap for file, each in results.items()}
    worst = min(differences, key=lambda file: differences[file])
    margin = float(np.mean(list(differences.values())))
    return {
        **summary,
        "margin": round(margin, 4),
        "worst_collection": worst,
        "worst_difference": round(differences[worst], 4),
        "margin_ok": margin >= MIN_MARGIN if is_whole else None,
        "worst_ok": differences[worst] >= WORST_DIFFERENCE if is_whole else None,
    }


def environment() -> dict[str, Any]:
    """Processor, cores and versions."""
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        cpu = models[0] if models else cpu
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
