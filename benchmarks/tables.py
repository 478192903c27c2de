"""Prints what the quality benchmark measured; knows results only."""

from collections.abc import Mapping
from typing import Any

from relgrade.evaluate import Estimate, Evaluation

MEASURES = (
    ("AP", "average_precision"),
    ("AUROC", "auroc"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("best F1 (information)", "best_f1"),
    ("queries losing all", "losing_all"),
    ("false keep, unanswerable", "false_keep"),
    ("Brier", "brier"),
    ("ECE", "calibration_error"),
)
WIDTH = 26


def file_table(name: str, evaluations: Mapping[str, Evaluation], paired: Mapping[str, Any] | None = None) -> str:
    """One collection: a measure a row, a contender a column, 95 % intervals in brackets."""
    first = next(iter(evaluations.values()))
    lines = [
        f"\n{name}: {first.n_queries:,} queries ({first.n_unanswerable:,} unanswerable), {first.n_pairs:,} pairs, "
        f"{first.n_relevant:,} relevant",
        _row("", evaluations),
        _row("threshold", [f"{each.threshold:.3f}" for each in evaluations.values()]),
    ]
    for label, attribute in MEASURES:
        lines.append(_row(label, [interval(getattr(each, attribute)) for each in evaluations.values()]))
    if paired is not None:
        value = interval(Estimate(**{key: item for key, item in paired.items() if key != "baseline"}), sign=True)
        lines.append(f"AP, grader - {paired['baseline']}: {value}")
    return "\n".join(lines)


def summary_table(report: Mapping[str, Any]) -> str:
    """AP by collection, the macro average, and the two checks."""
    summary, names = report["summary"], list(report["summary"]["macro_ap"])
    lines = ["\naverage precision", _row("", names)]
    for collection, measured in report["collections"].items():
        lines.append(_row(collection, [_short(measured[name]["average_precision"]["value"]) for name in names]))
    lines.append(_row("macro", [interval(Estimate(**report["macro"][name])) for name in names]))
    lines.append(f"better baseline of each collection, macro: {summary['better_baseline_macro_ap']:.3f}")
    if "margin" in summary:
        lines.append(
            f"grader minus that: {interval(Estimate(**report['macro']['margin']), sign=True)} "
            f"(at least +0.020: {_verdict(summary['margin_ok'])})"
        )
        lines.append(
            f"worst collection: {summary['worst_collection']} {summary['worst_difference']:+.3f} "
            f"(at least -0.050: {_verdict(summary['worst_ok'])})"
        )
    return "\n".join(lines)


def interval(value: Estimate | None, *, sign: bool = False) -> str:
    """`0.739 [0.712, 0.765]`, or `-` for what has no value."""
    if value is None or value.value is None:
        return "-"
    form = "+.3f" if sign else ".3f"
    if value.low is None or value.high is None:
        return f"{value.value:{form}}"
    return f"{value.value:{form}} [{value.low:{form}}, {value.high:{form}}]"


def _row(label: str, cells: Any) -> str:
    return f"{label:<25}" + "".join(f"{cell:<{WIDTH}}" for cell in cells).rstrip()


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _verdict(is_ok: bool | None) -> str:
    return "not checked, part of the data or no cosine" if is_ok is None else "yes" if is_ok else "NO"
