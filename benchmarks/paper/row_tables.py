"""Tables of the rows that `relgrade paper run` wrote: what each is worth, what resampling does, heads, and cost."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.markdown import table

ARGMAX, PRIOR, BEST = "argmax", "argmax, prior corrected", "best F1 on calibration"
BASE_RATE = "calibrated to the base rate"
TOP20 = "multihop_rag_top20"
TESTS = ("multihop_rag", TOP20)
METHODS = ("stock", "judge", "B", "lora", "A", "C")
BALANCED = ("1to1", "1to2", "1to4", "weighted", "focal")
HEADS = ("b", "b-mean", "b-recipe", "b-all", "c", "c-all")

Row = Mapping[str, Any]


def load_rows(folder: Path) -> list[Row]:
    """Every row in the folder, by table, method and name: what is trained of the model grows down the page."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    rows = [row for row in found if "readings" in row]
    return sorted(rows, key=lambda row: (row["table"], METHODS.index(row["row"]["method"]), row["row"]["name"]))


def reading_of(row: Row, test: str, rule: str) -> Mapping[str, Any] | None:
    """One reading of a row; None where it has no such."""
    found = (each for each in row["readings"] if each["test"] == test and each["rule"] == rule)
    return next(found, None)


def name_of(row: Row) -> str:
    """Table and row."""
    return f"{row['table']} {row['row']['name']}"


def worth(rows: Sequence[Row], test: str) -> str:
    """Each row by argmax and by the threshold of the calibration pairs, on one test set."""
    lines = []
    for row in rows:
        plain, best = reading_of(row, test, ARGMAX), reading_of(row, test, BEST)
        plain = plain or reading_of(row, test, "unparsed as FAIL")
        if plain is None:
            continue
        pairs = [f"{row['data']['n_train']:,}", f"{plain['n_pairs']:,} ({plain['n_relevant'] / plain['n_pairs']:.3f})"]
        own = [value(plain, name) for name in ("precision", "recall", "f1")]
        chosen = ["-"] * 3 if best is None else [value(best, name) for name in ("precision", "recall", "f1")]
        lines.append([name_of(row), *pairs, *own, *chosen, interval(plain, "average_precision")])
    chosen_heads = ["argmax: precision", "recall", "F1", "best F1: precision", "recall", "F1"]
    return table(["row", "pairs", f"of {test} (relevant)", *chosen_heads, "AP"], lines)


def balance(rows: Sequence[Row], test: str = TOP20) -> str:
    """What resampling and weights do to probabilities, and what taking their known shift off repairs."""
    lines = []
    for row in rows:
        name = row["row"]["name"]
        if not (name in ("b", "c") or name.endswith(BALANCED)):
            continue
        for rule in (ARGMAX, PRIOR, BASE_RATE):
            found = reading_of(row, test, rule)
            if found is not None:
                cells = [value(found, each) for each in ("precision", "recall", "brier", "ece")]
                lines.append([name_of(row), f"{row['prior_shift']:+.2f}", rule, *cells])
    return table(["row", "log-odds put on", "probability", "precision", "recall", "Brier", "ECE"], lines)


def heads(rows: Sequence[Row]) -> str:
    """Average precision of the head alone, by what it reads and how it is fitted, beside all parameters."""
    lines = []
    for row in rows:
        if row["row"]["name"] in HEADS:
            readings = [reading_of(row, test, ARGMAX) for test in TESTS]
            cells = ["-" if each is None else interval(each, "average_precision") for each in readings]
            lines.append(
                [name_of(row), f"{row['data']['n_train']:,}", f"{row['cost']['n_parameters_trained']:,}", *cells]
            )
    return table(["row", "pairs", "parameters trained", *(f"AP {test}" for test in TESTS)], lines)


def cost(rows: Sequence[Row], test: str = TOP20) -> str:
    """Quality beside what it took; seconds are those of one core."""
    lines = []
    for row in rows:
        found = reading_of(row, test, ARGMAX)
        if found is None:
            continue
        spent, n_judged = row["cost"], row["data"].get("n_judged")
        scoring = spent.get("cpu_seconds_scoring")
        is_own = row["row"]["method"] != "B" and n_judged and scoring and spent.get("starts", 1) == 1
        lines.append(
            [
                name_of(row),
                interval(found, "average_precision"),
                f"{spent['n_parameters_trained']:,}",
                _number(spent.get("cpu_seconds_training")),
                _number(1000 * scoring / n_judged) if is_own else "-",
                f"{4 * spent['n_parameters'] / 1e6:,.0f}",
                _number(spent["peak_memory_mb"]),
            ]
        )
    names = ["row", "AP", "parameters trained", "s to train", "ms a pair", "MB of weights", "MB at the peak"]
    return table(names, lines)


def reports(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """Every table with its name."""
    for test in TESTS:
        yield f"rows on {test}", worth(rows, test)
    yield "balance", balance(rows)
    yield "head and pooling", heads(rows)
    yield "cost", cost(rows)


def value(reading: Mapping[str, Any], name: str) -> str:
    """A measure without its interval."""
    measure = reading.get(name)
    return "-" if measure is None or measure["value"] is None else f"{measure['value']:.3f}"


def interval(reading: Mapping[str, Any], name: str) -> str:
    """A measure with its interval."""
    measure = reading.get(name)
    if measure is None or measure["value"] is None:
        return "-"
    if measure["low"] is None:
        return f"{measure['value']:.3f}"
    return f"{measure['value']:.3f} [{measure['low']:.3f}, {measure['high']:.3f}]"


def _number(number: float | None) -> str:
    return "-" if number is None else f"{number:,.0f}"
