"""Files of rows, as a table leaves them: read, checked and printed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from relgrade.errors import InvalidInput

COLUMNS = ("precision", "recall", "f1", "average_precision", "accuracy", "kappa", "brier", "ece")
_HEADS = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "average_precision": "AP",
    "accuracy": "accuracy",
    "kappa": "kappa",
    "brier": "Brier",
    "ece": "ECE",
}


def read_results(places: Sequence[Path]) -> list[dict[str, Any]]:
    """The rows of files, and of all files in folders, in the order of the places and of the files' names.

    A JSON file in a folder that has nothing of a row, such as the summary of something else, is passed over.

    Raises:
        InvalidInput: nothing there, or a file that is no row, or half of one; names the file.
    """
    rows = []
    for place in places:
        for path in sorted(place.glob("*.json")) if place.is_dir() else [place]:
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise InvalidInput(f"{path}: the JSON of a row was expected: {error}") from error
            is_another = not isinstance(content, dict) or not {"row", "readings", "cost"} & set(content)
            if is_another and place.is_dir():
                continue
            missing = _missing(content)
            if missing:
                raise InvalidInput(
                    f"{path}: the JSON of a row was expected, as `relgrade paper run` writes it; here is no {missing}: "
                    "name files of rows alone, or make the row again"
                )
            rows.append(content)
    if not rows:
        raise InvalidInput(f"no rows in {', '.join(map(str, places))}; make them with `relgrade paper run`")
    return rows


def render_table(rows: Sequence[Mapping[str, Any]], *, test: str, rule: str | None = None) -> str:
    """A Markdown table of every reading of one test set, with 95 % intervals from drawing queries.

    Args:
        rows: of `read_results`.
        test: name of the test set.
        rule: only this rule; None: all.

    Raises:
        InvalidInput: no row was tested on it.
    """
    lines = [_line(row, reading) for row in rows for reading in row["readings"] if _is_wanted(reading, test, rule)]
    if not lines:
        known = sorted({reading["test"] for row in rows for reading in row["readings"]})
        rules = sorted({reading["rule"] for row in rows for reading in row["readings"]})
        raise InvalidInput(f"no reading of {test!r} by {rule or 'any rule'}; tests: {known}; rules: {rules}")
    heads = ["table", "row", "rule", *(_HEADS[name] for name in COLUMNS), "trained", "s", "MB"]
    return "\n".join(["| " + " | ".join(cells) + " |" for cells in (heads, ["---"] * len(heads), *lines)])


def render_diagnoses(rows: Sequence[Mapping[str, Any]]) -> str:
    """What was recognised as failed, a line of Markdown each; empty where nothing was."""
    return "\n".join(
        f"- {row['table']} {row['row']['name']}: {sentence}" for row in rows for sentence in row.get("diagnoses", ())
    )


def _missing(content: Any) -> str:
    """What of a row's JSON a table would miss, the first of it; empty where nothing is missing."""
    needed = {
        "row": ("name",),
        "cost": ("seconds_training", "seconds_scoring", "n_parameters_trained", "peak_memory_mb"),
        "data": ("tests",),
    }
    if not isinstance(content, dict) or "table" not in content:
        return "table"
    for part, names in needed.items():
        for name in names:
            if not isinstance(content.get(part), dict) or name not in content[part]:
                return f"{part}.{name}"
    readings = content.get("readings")
    if not isinstance(readings, list):
        return "readings"
    for i, reading in enumerate(readings):
        if not isinstance(reading, dict) or not {"test", "rule"} <= set(reading):
            return f"test and rule in readings[{i}]"
        if reading["test"] not in content["data"]["tests"]:
            return f"data.tests.{reading['test']}"
        for name in COLUMNS:
            measure = reading.get(name)
            if measure is not None and (not isinstance(measure, dict) or not {"value", "low", "high"} <= set(measure)):
                return f"value and interval in readings[{i}].{name}"
    return ""


def _is_wanted(reading: Mapping[str, Any], test: str, rule: str | None) -> bool:
    return reading["test"] == test and rule in (None, reading["rule"])


def _line(row: Mapping[str, Any], reading: Mapping[str, Any]) -> list[str]:
    cost = row["cost"]
    rule = reading["rule"]
    if reading.get("n_unparsed"):
        rule += f" ({reading['n_unparsed']} of {row['data']['tests'][reading['test']]} do not parse)"
    seconds = cost["seconds_training"] + cost["seconds_scoring"]
    memory = "" if cost["peak_memory_mb"] is None else f"{cost['peak_memory_mb']:,.0f}"
    numbers = [_cell(reading.get(name)) for name in COLUMNS]
    return [
        row["table"],
        row["row"]["name"],
        rule,
        *numbers,
        f"{cost['n_parameters_trained']:,}",
        f"{seconds:,.0f}",
        memory,
    ]


def _cell(measure: Mapping[str, Any] | None) -> str:
    if measure is None or measure["value"] is None:
        return "-"
    if measure["low"] is None:
        return f"{measure['value']:.3f}"
    return f"{measure['value']:.3f} [{measure['low']:.3f}, {measure['high']:.3f}]"
