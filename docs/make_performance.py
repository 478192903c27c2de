"""Fills the tables of docs/performance.md from benchmarks/results/speed.json and frontier.json.

    python docs/make_performance.py

A table stands between `<!-- table NAME -->` and `<!-- /table -->`. tests/test_filled_pages.py fails while the page
is out of date.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "benchmarks" / "results"
PART = re.compile(r"(?P<start><!-- table (?P<name>[^>]+?) -->\n).*?(?P<end><!-- /table -->)", re.DOTALL)
KINDS = ("short", "mixed", "long")


def main() -> None:
    """Write the page."""
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def filled(page: str) -> str:
    """The page with its tables replaced.

    Raises:
        KeyError: it asks for a table that is not made here.
    """
    speed, frontier = (json.loads((RESULTS / f"{name}.json").read_text()) for name in ("speed", "frontier"))
    tables = {
        "race, 1 thread": race(speed["threads_1"]),
        "race, 2 threads": race(speed["threads_2"]),
        "tiers": tiers(frontier),
        "growth": growth(speed["growth"]),
    }
    return PART.sub(lambda part: f"{part['start']}\n{tables[part['name']]}\n\n{part['end']}", page)


def race(found: Mapping[str, Any]) -> str:
    """A contender a row: its rate and latency on mixed lists, and how many times the reference it is on each kind."""
    rows = []
    for name, row in found["contenders"].items():
        mixed = row["mixed"]
        times = [_times(row[kind]["cpu_ratio"]) for kind in KINDS]
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
            _times((tier["times"], tier["times_low"], tier["times_high"])),
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


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown; the first column to the left, the others to the right."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _times(ratio: Sequence[float]) -> str:
    middle, low, high = ratio
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    main()
