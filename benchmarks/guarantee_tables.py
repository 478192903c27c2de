"""Prints what the guarantee benchmark measured; knows results only."""

from collections.abc import Sequence
from typing import Any

Rows = Sequence[dict[str, Any]]


def broken_table(rows: Rows) -> str:
    """Share of draws that returned a threshold that breaks the promise."""
    lines = [
        "\nbroken promises, share of all draws (+- one Monte Carlo standard error)",
        f"{'cell':<22}{'queries':>8} {'promise':<20}{'delta':>6} {'method':<28}{'draws':>6}{'returned':>10}"
        f"{'broken':>16}",
    ]
    for row in rows:
        excess = " !" if row["broken"] > row["delta"] else ""
        lines.append(
            f"{row['cell']:<22}{row['n_queries']:>8,} {_promise(row):<20}{row['delta']:>6g} {_method(row):<28}"
            f"{row['n_draws']:>6,}{row['returned']:>10.3f}{row['broken']:>9.4f} +-{row['mc_error']:.4f}{excess}"
        )
    return "\n".join(lines)


def power_table(rows: Rows) -> str:
    """How often `certify` returns a point at delta 0.1, and what the point is worth beside the best there is."""
    lines = [
        "\npower at delta 0.1: share of draws with a point; its true recall and precision, beside the best threshold's",
        f"{'cell':<22}{'queries':>8} {'promise':<20}{'counts at most':>15}{'returned':>10}{'recall':>8}{'best':>7}"
        f"{'precision':>11}{'best':>7}",
    ]
    for row in rows:
        if row["method"] == "certify" and row["delta"] == 0.1:
            limit = row["max_per_query"]
            lines.append(
                f"{row['cell']:<22}{row['n_queries']:>8,} {_promise(row):<20}{'all' if limit is None else limit:>15}"
                f"{row['returned']:>10.2f}{_short(row['recall']):>8}{_short(row['best_recall']):>7}"
                f"{_short(row['precision']):>11}{_short(row['best_precision']):>7}"
            )
    return "\n".join(lines)


def real_table(rows: Rows) -> str:
    """Promises against the half of the queries that did not choose the threshold."""
    lines = [
        "\nreal collections, halved again and again: share of splits in which the other half falls short of the target",
        "(a half is a sample too: at a threshold that is exact, half of the splits fall short)",
        f"{'collection':<24}{'queries':>8} {'promise':<20}{'method':<28}{'returned':>10}{'other half':>12}"
        f"{'falls short':>13}",
    ]
    for row in rows:
        lines.append(
            f"{row['source']:<24}{row['n_queries']:>8,} {_promise(row):<20}{_method(row):<28}{row['returned']:>10.2f}"
            f"{_short(row['other_half']):>12}{row['falls_short']:>13.3f}"
        )
    return "\n".join(lines)


def _promise(row: dict[str, Any]) -> str:
    return f"{row['kind']} {'>=' if row['kind'] in ('precision', 'recall') else '<='} {row['target']:.2g}"


def _method(row: dict[str, Any]) -> str:
    limit = row["max_per_query"]
    return row["method"] + ("" if limit is None else f", {limit} a query at most")


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
