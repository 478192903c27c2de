"""Whether promises hold: calibration queries drawn again and again, the threshold judged by the known truth.

    python -m benchmarks.guarantee [--draws 2000] [--power-draws 2000] [--scores FILE.jsonl | --grade]

Simulated queries share a random effect that the grader does not see; lists hold 5 to 50 documents. A promise is broken
when a threshold is returned at which the population does not keep it; draws that return nothing count as kept. Beside
`certify` stand the choices made today: the point estimate, and a bound that takes documents for independent.
The second table splits scored real collections in halves: `--scores` reads rows of query_id, source, label and
probability; `--grade` makes such a file from the test splits of `--data`. Finished cells are kept in `--cache`.
The last line is JSON.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from benchmarks.cells import run_cell, special_cells
from benchmarks.guarantee_tables import broken_table, power_table, real_table
from benchmarks.real_splits import grade_tests, read_scores, split_again
from benchmarks.simulation import Cell, populate
from benchmarks.summaries import environment

ROOT = Path(__file__).resolve().parent.parent
BASE_RATES = (0.05, 0.1, 0.2, 0.4)
FEW, MANY = (100, 300), (1000, 3000)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    options = _options(arguments)
    start = time.perf_counter()
    with Progress(console=Console(stderr=True), disable=options.quiet) as progress:
        rows = _simulate(options, progress)
    scores = options.scores or (grade_tests(options) if options.grade else None)
    real = split_again(read_scores(scores), n_splits=options.splits, seed=options.seed) if scores else []
    certified = [row for row in rows if row["method"] == "certify"]
    worst = max(certified, key=lambda row: row["broken"] - row["delta"])
    summary = {
        "benchmark": "guarantee",
        "n_cells": len(certified),
        "n_cells_above_delta": sum(row["broken"] > row["delta"] for row in certified),
        "n_cells_above_delta_by_two_errors": sum(
            row["broken"] - 2 * row["mc_error"] > row["delta"] for row in certified
        ),
        "worst": {key: worst[key] for key in ("cell", "n_queries", "kind", "delta", "broken", "mc_error")},
        "naive_worst": {
            method: max((row["broken"] for row in rows if row["method"] == method), default=None)
            for method in ("point estimate", "documents as units")
        },
        "n_real_rows": len(real),
    }
    seconds = round(time.perf_counter() - start, 1)
    report = {
        "summary": summary,
        "simulation": rows,
        "real": real,
        "draws": options.draws,
        "power_draws": options.power_draws,
        "environment": {**environment(), "seconds": seconds},
    }
    print(broken_table(rows))
    print(power_table(rows))
    if real:
        print(real_table(real))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    print(json.dumps(summary, allow_nan=False))
    return 0


def _simulate(options: argparse.Namespace, progress: Progress) -> list[dict[str, Any]]:
    plain = {f"base rate {rate:g}": Cell(base_rate=rate, seed=options.seed) for rate in BASE_RATES}
    special = special_cells(options.seed)
    plan = [(name, cell, n, options.draws) for n in FEW for name, cell in plain.items()]
    plan += [(name, cell, FEW[-1], options.draws) for name, cell in special.items()]
    plan += [(name, cell, n, options.power_draws) for n in MANY for name, cell in plain.items()]
    task, rows = progress.add_task("simulation", total=sum(each[-1] for each in plan)), []
    for name, cell, n_queries, n_draws in plan:
        if not n_draws:
            continue
        path = options.cache / f"{name} {n_queries} {n_draws} {options.seed} {options.population}.json".replace(
            " ", "-"
        )
        if not path.is_file():
            population = populate(cell, n_queries=options.population)
            found = run_cell(name, population, n_queries, n_draws, options.seed, lambda: progress.advance(task))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(found), encoding="utf-8")
        else:
            progress.advance(task, n_draws)
        rows += json.loads(path.read_text(encoding="utf-8"))
    return rows


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guarantee", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    data = Path(os.environ.get("RELGRADE_DATA", ROOT.parent / "shared" / "data"))
    add("--draws", type=int, default=2000, help="calibration draws of a cell of 100 or 300 queries")
    add("--power-draws", type=int, default=2000, help="calibration draws of a cell of 1,000 or 3,000 queries")
    add("--population", type=int, default=5_000, help="queries of a simulated population")
    add("--scores", type=Path, help="JSON lines of query_id, source, label, probability: the table on real data")
    add("--grade", action="store_true", help="make that file from the test splits of --data")
    add("--data", type=Path, default=data, help="folder of NAME.jsonl.gz (RELGRADE_DATA)")
    add("--bundle", help="grader that scores; left out: the embedded default")
    add("--limit-queries", type=int, help="test queries scored of each collection, for a quick look")
    add("--splits", type=int, default=200, help="halvings of each real collection")
    add("--seed", type=int, default=0, help="of populations, draws and halvings")
    cache = ROOT / "runs" / "guarantee"
    add("--cache", type=Path, default=cache, help="finished cells and scores; empty it when the code changes")
    add("--output", type=Path, default=ROOT / "benchmarks" / "results" / "guarantee.json", help="report to write")
    add("--quiet", action="store_true", help="no progress bar")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
