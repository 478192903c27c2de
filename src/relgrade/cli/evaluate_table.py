"""The report as lines of text for a terminal; it knows the JSON of a report and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MEASURES = (
    ("precision", "precision"),
    ("recall", "recall"),
    ("F1", "f1"),
    ("accuracy", "accuracy"),
    ("MCC", "mcc"),
    ("kappa", "kappa"),
    ("queries losing all", "losing_all"),
    ("false keeps", "false_keep"),
    ("average precision", "average_precision"),
    ("AUROC", "auroc"),
    ("nDCG@10", "ndcg_at_10"),
    ("Brier score", "brier"),
    ("calibration error", "calibration_error"),
)
TWINS = (("AUROC nothing relevant", "auroc"), ("false accepts at 90 %", "false_accepts"))
SLICES = (("precision", "precision"), ("recall", "recall"), ("losing all", "losing_all"), ("AP", "average_precision"))
WIDTH = 24


def report_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """The summary, the table of measures, slices and flips."""
    yield from report["summary"]
    yield from (f"! {note}" for note in report["notes"])
    contenders = report["contenders"]
    yield ""
    yield _row("", [each["name"] for each in contenders])
    for label, name in MEASURES:
        cells = [show(each["evaluation"][name]) for each in contenders]
        if any(cell != "-" for cell in cells):
            yield _row(label, cells)
    for label, name in TWINS:
        cells = ["-" if each["twins"] is None else show(each["twins"][name]) for each in contenders]
        if any(cell != "-" for cell in cells):
            yield _row(label, cells)
    for found in report["slices"]:
        yield ""
        yield _row(f"by {found['field']}", [label for label, _ in SLICES])
        for member in found["members"]:
            yield _row(str(member["value"]), [show(member[name]) for _, name in SLICES])
    if report["against"] is not None:
        yield ""
        yield from _against_lines(report["against"])
    method = report["method"]
    unit = "queries" if method["unit"] == "query" else f"blocks of {method['block_length']} rows"
    yield ""
    drawn = f"{method['n_draws']:,} bootstrap draws of {method['n_units']:,} {unit}"
    yield f"95 % intervals: {drawn}, seed {method['seed']}"


def show(estimate: Mapping[str, Any] | None, *, sign: str = "") -> str:
    """`0.739 [0.712, 0.765]`, or `-` for what has no value."""
    if estimate is None or estimate["value"] is None:
        return "-"
    text = f"{estimate['value']:{sign}.3f}"
    return text if estimate["low"] is None else f"{text} [{estimate['low']:{sign}.3f}, {estimate['high']:{sign}.3f}]"


def _against_lines(against: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"against {against['name']}: {against['n_flipped']:,} of {against['n_pairs']:,} verdicts differ, "
        f"{against['n_mended']:,} mended, {against['n_broken']:,} broken"
    )
    for name, difference in against["differences"].items():
        if difference["value"] is not None:
            yield _row(f"  {name}", [show(difference, sign="+")])


def _row(label: str, cells: Any) -> str:
    return f"{label[:24]:<25}" + "".join(f"{cell:<{WIDTH}}" for cell in cells).rstrip()
