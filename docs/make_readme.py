"""Fills README.md: the table of results from benchmarks/results/quality.json, and the output below each code block.

    python docs/make_readme.py

In a Python block, lines that begin with `# ->` hold what the code above them printed; they are written anew by running
the block. tests/test_readme.py fails while the page is out of date.
"""

import contextlib
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results" / "quality.json"
START, END = "<!-- quality: start, by docs/make_readme.py -->", "<!-- quality: end -->"
NOT_MEASURED = "Not measured yet: `make quality` writes `benchmarks/results/quality.json`, this table follows from it."
OUTPUT = "# ->"
NAMES = {"grader": "relgrade", "bm25": "BM25", "cosine": "MiniLM cosine"}
VERDICTS = (
    ("precision", "precision"),
    ("recall", "recall"),
    ("losing_all", "queries that lose every relevant document"),
    ("false_keep", "unanswerable queries that keep something"),
    ("brier", "Brier score"),
    ("calibration_error", "calibration error (ECE)"),
)
PYTHON_BLOCK = re.compile(r"(?<=^```python\n).*?(?=^```$)", re.DOTALL | re.MULTILINE)


def main() -> None:
    """Write the page."""
    page = with_results(README.read_text(encoding="utf-8"), read_results())
    namespace: dict[str, Any] = {}
    page = PYTHON_BLOCK.sub(lambda block: with_output(block.group(), namespace), page)
    README.write_text(page, encoding="utf-8")


def read_results() -> dict[str, Any] | None:
    """The report of the quality benchmark, None before there is one."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else None


# --- results


def with_results(page: str, report: Mapping[str, Any] | None) -> str:
    """The page with the part between the markers replaced.

    Raises:
        ValueError: the markers are not there, once each and in order.
    """
    if page.count(START) != 1 or page.count(END) != 1 or page.index(START) > page.index(END):
        raise ValueError(f"expected one {START} and, after it, one {END}")
    head, tail = page.split(START)[0], page.split(END)[1]
    body = NOT_MEASURED if report is None else results(report)
    return f"{head}{START}\n{body}\n{END}{tail}"


def results(report: Mapping[str, Any]) -> str:
    """Two tables and a line on how they were measured."""
    return "\n\n".join([ranking_table(report), verdict_table(report), method(report)])


def ranking_table(report: Mapping[str, Any]) -> str:
    """Average precision: a collection a row, a contender a column, the best of a row in bold."""
    names = list(report["summary"]["macro_ap"])
    rows = []
    for collection, measured in sorted(report["collections"].items()):
        values = {name: measured[name]["average_precision"]["value"] for name in names}
        best = max((value for value in values.values() if value is not None), default=None)
        cells = [_bold(_number(value), value is not None and value == best) for value in values.values()]
        rows.append([collection, f"{measured[names[0]]['n_queries']:,}", *cells])
    rows.append(["**macro average**", "", *(interval(report["macro"][name]) for name in names)])
    return table(["average precision", "queries", *(NAMES.get(name, name) for name in names)], rows)


def verdict_table(report: Mapping[str, Any]) -> str:
    """Verdicts and probabilities, macro-averaged over the collections that have a value."""
    names = list(report["summary"]["macro_ap"])
    rows = []
    for key, label in VERDICTS:
        cells = []
        for name in names:
            estimates = [measured[name][key] for measured in report["collections"].values()]
            values = [each["value"] for each in estimates if each is not None and each["value"] is not None]
            cells.append(_number(sum(values) / len(values)) if values else "-")
        rows.append([label, *cells])
    return table(["at the threshold of each, macro average", *(NAMES.get(name, name) for name in names)], rows)


def method(report: Mapping[str, Any]) -> str:
    """Who was measured, on what, and how."""
    queries = sum(next(iter(each.values()))["n_queries"] for each in report["collections"].values())
    pairs = sum(next(iter(each.values()))["n_pairs"] for each in report["collections"].values())
    bundle = report["summary"].get("bundle_hash")
    text = (
        f"Test splits of {len(report['collections'])} collections, {queries:,} queries, {pairs:,} pairs. In brackets: "
        f"95 % interval from {report['n_draws']:,} draws of whole queries. Thresholds and probabilities of all were "
        "fitted on other queries, of the training splits."
    )
    return f"{text} Bundle `{bundle[:12]}`, {report['environment']['cpu']}." if bundle else text


def interval(estimate: Mapping[str, Any]) -> str:
    """`0.612 [0.598, 0.627]`, or `-`."""
    if estimate["value"] is None or estimate["low"] is None or estimate["high"] is None:
        return _number(estimate["value"])
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"


def table(columns: list[str], rows: list[list[str]]) -> str:
    """Markdown; the first column to the left, the others to the right."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _bold(text: str, is_bold: bool) -> str:
    return f"**{text}**" if is_bold else text


# --- code


def with_output(block: str, namespace: dict[str, Any]) -> str:
    """Run a block in `namespace` and write what it printed where `# ->` lines stood.

    Raises:
        ValueError: code prints and no `# ->` line follows to hold it.
    """
    lines: list[str] = []
    code: list[str] = []
    for line in [*block.splitlines(), None]:
        is_output = line is not None and line.startswith(OUTPUT)
        if code and (is_output or line is None):
            printed = run("\n".join(code), namespace)
            code = []
            if is_output:
                lines += [f"{OUTPUT} {each}".rstrip() for each in printed.splitlines()]
            elif printed:
                raise ValueError(f"this was printed and has no {OUTPUT} line: {printed!r}")
        if line is not None and not is_output:
            code.append(line)
            lines.append(line)
    return "\n".join(lines) + "\n"


def run(code: str, namespace: dict[str, Any]) -> str:
    """What a piece of code prints."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(code, str(README), "exec"), namespace)
    return output.getvalue()


if __name__ == "__main__":
    main()
