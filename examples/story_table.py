"""The last lines of the story: graders side by side on the queries held out, each number with its interval."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MEASURES = {"precision": "precision", "recall": "recall", "f1": "F1", "log_loss": "log loss"}


@dataclass(frozen=True, slots=True)
class Row:
    """A grader and what `relgrade evaluate --json` says of it."""

    name: str
    evaluation: Mapping[str, Any]


def read_rows(evaluations: Mapping[str, Path]) -> list[Row]:
    """The graders, and BM25 from the evaluation that measured it.

    Args:
        evaluations: name of a grader -> what `relgrade evaluate --json` wrote.
    """
    found, baselines = [], []
    for name, path in evaluations.items():
        contenders = json.loads(path.read_text(encoding="utf-8"))["contenders"]
        found.append(Row(name, contenders[0]["evaluation"]))
        baselines += [Row(each["name"], each["evaluation"]) for each in contenders if each["name"] == "BM25"]
    return found + baselines


def table_lines(rows: Sequence[Row]) -> list[str]:
    """A line per grader, under a head, and what the intervals are."""
    head = ["", "threshold", *MEASURES.values()]
    cells = [
        [row.name, _number(row.evaluation["threshold"]), *(_interval(row.evaluation[name]) for name in MEASURES)]
        for row in rows
    ]
    widths = [max(len(line[i]) for line in [head, *cells]) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in [head, *cells]]
    found = rows[0].evaluation
    return [
        "",
        *(line.rstrip() for line in lines),
        "",
        f"95 % intervals; {found['n_queries']} test queries, {found['n_pairs']} pairs, {found['n_relevant']} relevant. "
        "Intervals that overlap prove nothing.",
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(measure: Mapping[str, Any]) -> str:
    if measure["value"] is None:
        return "-"
    return f"{measure['value']:.2f} ({measure['low']:.2f} to {measure['high']:.2f})"
