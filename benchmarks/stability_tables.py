"""Prints what the stability benchmark measured; knows results only."""

from collections.abc import Mapping
from typing import Any

from benchmarks.tables import interval
from relgrade.evaluate import Estimate

WIDTH = 26


def flip_table(report: Mapping[str, Any]) -> str:
    """A perturbation a row: share of verdicts that flip and mean |change| of the logit, 95 % intervals in brackets."""
    sample = report["sample"]
    lines = [
        f"\n{sample['n_pairs']:,} test pairs of {sample['n_queries']:,} queries, {sample['collections']} collections; "
        f"documents of at most {sample['max_characters']:,} characters, "
        f"rewritten in one of {sample['documents_rewritten_in_every']}",
        _row("perturbation", ["pairs", "flipped", "share", "mean |logit change|"]),
    ]
    for name, row in report["flips"].items():
        cells = [row["flips"]["n_pairs"], row["n_flipped"], _interval(row["flips"]), _interval(row["logit_change"])]
        lines.append(_row(name if row["is_held"] else f"({name})", cells))
    lines.append("in parentheses: not held to the limit of 1 %")
    return "\n".join(lines)


def attack_table(report: Mapping[str, Any]) -> str:
    """By operating point, an attack a row: irrelevant documents that become kept, of those that were not."""
    lines = []
    for point, at in report["attacks"].items():
        before = at["kept_before"]["grader"]
        lines += [
            f"\n{point}: threshold {at['threshold']:.3f}, cosine {at['cosine_threshold']:.3f}; both keep "
            f"{_interval(before)} of {before['n_pairs']:,} irrelevant documents before",
            _attack_row("becomes kept", ["grader", "cosine", "kept after, difference"]),
        ]
        for name, row in at["attacks"].items():
            difference = _interval(row["kept_after_difference"], sign=True)
            lines.append(_attack_row(name, [_interval(row["grader"]), _interval(row["cosine"]), difference]))
    return "\n".join(lines)


def _interval(value: Mapping[str, Any], *, sign: bool = False) -> str:
    return interval(Estimate(**value), sign=sign)


def _row(label: str, cells: list[Any]) -> str:
    first, second, *rest = cells
    return (f"{label:<34}{first:<7}{second:<9}" + "".join(f"{cell:<{WIDTH}}" for cell in rest)).rstrip()


def _attack_row(label: str, cells: list[str]) -> str:
    return (f"{label:<22}" + "".join(f"{cell:<{WIDTH}}" for cell in cells)).rstrip()
