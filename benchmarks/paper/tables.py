"""Prints the tables of docs/paper.md from the results that are committed; `benchmarks.paper.figures` draws them.

    python -m benchmarks.paper.tables [FOLDER]

No model is loaded and no data read.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.markdown import table
from benchmarks.paper.row_tables import load_rows, reports

FOLDER = Path(__file__).parent / "results"


def main() -> None:
    """Print every table that has results."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    for name, text in all_tables(folder).items():
        print(f"\n## {name}\n\n{text}")


def all_tables(folder: Path = FOLDER) -> dict[str, str]:
    """Markdown of every table that has results, by name."""
    rows = load_rows(folder)
    found = dict(reports(rows)) if rows else {}
    questions = {
        "transfer": transfer,
        "trained transfer": trained_transfer,
        "noise": noise,
        "size": size,
        "more queries": more_queries,
    }
    for name, render in questions.items():
        path = folder / f"questions.{name.replace(' ', '_')}.json"
        if path.is_file():
            found[name] = render(json.loads(path.read_text(encoding="utf-8")))
    return found


def trained_transfer(answer: Mapping[str, Any]) -> str:
    """Average precision of models that were trained whole on news, beside BM25, on each test set."""
    lines = []
    for model in answer["models"]:
        for row in model["rows"]:
            cells = [_interval(row[scorer]["average_precision"]) for scorer in ("model", "BM25")]
            verdicts = [f"{row['model'][name]['value'] or 0:.2f}" for name in ("precision", "recall")]
            name = f"{model['table']} {model['row']}"
            lines.append([name, row["test"], f"{row['n_test']:,}", f"{row['base_rate']:.2f}", *cells, *verdicts])
    heads = ["trained on news", "tested on", "pairs", "relevant", "AP", "AP of BM25", "argmax: precision", "recall"]
    return table(heads, lines)


def more_queries(answer: Mapping[str, Any]) -> str:
    """Rows on more test queries than their table has, by where the threshold comes from."""
    names = ("precision", "recall", "f1")
    lines = []
    for model in answer["models"]:
        start = [f"{model['table']} {model['row']}", f"{model['readings'][0]['n_pairs']:,}"]
        for reading in model["readings"]:
            cells = [_interval(reading[measure], digits=3) for measure in (*names, "average_precision")]
            lines.append([*start, reading["rule"], *cells])
        for rule, chosen in model["chosen_on_sample"].items():
            lines.append([*start, rule, *(_interval(chosen[measure], digits=3) for measure in names), ""])
        bm25 = _interval(model["BM25"]["average_precision"], digits=3)
        lines.append(["BM25", start[1], "", *[""] * 3, bm25])
    return table(["row", "pairs", "kept by", "precision", "recall", "F1", "AP"], lines)


def transfer(answer: Mapping[str, Any]) -> str:
    """Average precision of each training set, down, on each test set, across; the last line is chance."""
    rows = answer["rows"]
    tests = list(dict.fromkeys(row["test"] for row in rows))
    found = {(row["trained"], row["test"]): _interval(row["average_precision"]) for row in rows}
    lines = [
        [trained, *(found.get((trained, test), "") for test in tests)]
        for trained in dict.fromkeys(row["trained"] for row in rows)
    ]
    chance = {row["test"]: f"{row['base_rate']:.2f}" for row in rows}
    return table(["AP", *tests], [*lines, ["share relevant", *(chance[test] for test in tests)]])


def noise(answer: Mapping[str, Any]) -> str:
    """What flipped labels cost, and how many of them the audit would have shown."""
    names = ("average_precision", "precision", "recall", "f1", "found_by_audit")
    lines = [
        [row["kind"], f"{row['share']:.0%}", *(_spread(row[name]) if name in row else "-" for name in names)]
        for row in answer["rows"]
    ]
    return table(["flips", "share", "AP", "precision", "recall", "F1", "found by audit"], lines)


def size(answer: Mapping[str, Any]) -> str:
    """The learning curve."""
    names = ("average_precision", "precision", "recall", "f1")
    lines = [[str(row["n_train"]), *(_spread(row[name]) for name in names)] for row in answer["rows"]]
    return table(["pairs", "AP", "precision", "recall", "F1"], lines)


def _interval(measure: Mapping[str, float | None], *, digits: int = 2) -> str:
    if measure["low"] is None:
        return f"{measure['value']:.{digits}f}"
    return f"{measure['value']:.{digits}f} [{measure['low']:.{digits}f}, {measure['high']:.{digits}f}]"


def _spread(measure: Mapping[str, float]) -> str:
    return f"{measure['mean']:.3f} ({measure['low']:.3f} to {measure['high']:.3f})"


if __name__ == "__main__":
    main()
