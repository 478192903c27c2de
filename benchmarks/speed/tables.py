"""Tables of docs/performance.md from results that are committed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.markdown import table

FOLDER = Path(__file__).resolve().parents[1] / "results"
KINDS = ("short", "mixed", "long")


def all_tables(folder: Path = FOLDER) -> dict[str, str]:
    """Markdown of every table, by name."""
    speed, frontier = (json.loads((folder / f"{name}.json").read_text()) for name in ("speed", "frontier"))
    return {
        "race, 1 thread": race(speed["threads_1"]),
        "race, 2 threads": race(speed["threads_2"]),
        "tiers": tiers(frontier),
        "growth": growth(speed["growth"]),
    }


def race(found: Mapping[str, Any]) -> str:
    """A contender a row: its rate and latency on mixed lists, and how many times the reference it is on each kind."""
    rows = []
    for name, row in found["contenders"].items():
        mixed = row["mixed"]
        times = [with_quartiles(row[kind]["cpu_ratio"]) for kind in KINDS]
        latency = [f"{mixed[key]:,.0f}" for key in ("p50_ms", "p95_ms")]
        rows.append([name, f"{mixed['pairs_a_second']:.1f}", *latency, *times, f"{row['peak_mb']:,.0f}"])
    heads = ["on lists of 20", "pairs/s, mixed", "p50 ms", "p95 ms", *(f"times, {kind}" for kind in KINDS), "peak MB"]
    return table(heads, rows)


def tiers(found: Mapping[str, Any]) -> str:
    """A grader a row, the slowest first."""
    ordered = sorted(found["tiers"], key=lambda tier: tier["times"])
    rows = [
        [
            tier["name"],
            f"{tier['macro_ap']:.3f} [{tier['low']:.3f}, {tier['high']:.3f}]",
            f"{tier['macro_ap'] - ordered[0]['macro_ap']:+.3f}",
            f"{tier['margin']:+.3f}",
            f"{tier['worst_difference']:+.3f}",
            f"{tier['pairs_a_second']:.0f}",
            with_quartiles((tier["times"], tier["times_low"], tier["times_high"])),
            f"{tier['megabytes']:.1f}",
        ]
        for tier in ordered
    ]
    heads = ["grader", "macro AP", "to the default", "to the better baseline", "worst file", "pairs/s", "times", "MB"]
    return table(heads, rows)


def growth(rows: Sequence[Mapping[str, float]]) -> str:
    """Cost as more pairs are streamed."""
    cells = [[f"{r['pairs']:,.0f}", f"{r['cpu_us_a_pair'] / 1000:.2f}", f"{r['resident_mb']:,.0f}"] for r in rows]
    return table(["pairs", "processor ms a pair", "MB of the process after them"], cells)


def with_quartiles(ratio: Sequence[float], *, digits: int = 2) -> str:
    """A ratio with its quartiles."""
    middle, low, high = (f"{each:.{digits}f}" for each in ratio)
    return f"{middle} [{low}, {high}]"
