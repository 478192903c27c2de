"""Fills README.md: tables from benchmarks/results (quality, rag, speed), and the output below each code block.

    python docs/make_readme.py

It fills the cards of docs/rag.md too, and that of the generator from rag_generator.json.

In a Python block, lines that begin with `# ->` hold what the code above them printed; they are written anew by running
the block. tests/test_readme.py fails while the page is out of date.
"""

import contextlib
import io
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.markdown import table  # noqa: E402
from benchmarks.speed.tables import with_quartiles  # noqa: E402

README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results" / "quality.json"
RAG_PAGE = ROOT / "docs" / "rag.md"
RAG_RESULTS = ROOT / "benchmarks" / "results" / "rag.json"
GENERATOR_RESULTS = ROOT / "benchmarks" / "results" / "rag_generator.json"
START, END = "<!-- quality: start, by docs/make_readme.py -->", "<!-- quality: end -->"
CARD_START, CARD_END = "<!-- card: start, by docs/make_readme.py -->", "<!-- card: end -->"
SPEED_RESULTS = ROOT / "benchmarks" / "results" / "speed.json"
SPEED_START, SPEED_END = "<!-- speed: start, by docs/make_readme.py -->", "<!-- speed: end -->"
COMPRESSION_START, COMPRESSION_END = "<!-- compression: start, by docs/make_readme.py -->", "<!-- compression: end -->"
GENERATOR_START, GENERATOR_END = "<!-- generator: start, by docs/make_readme.py -->", "<!-- generator: end -->"
GENERATOR_HEADS = [
    "it reads",
    "year in the reply",
    "more than without a filter",
    "year in the context",
    "prompt tokens",
]
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
CARD_COLUMNS = (
    ("precision", "context precision"),
    ("recall", "context recall"),
    ("gold_survives", "gold survives"),
    ("answer_survives", "answer survives"),
    ("empty_unanswerable", "unanswerable: empty"),
    ("empty_answerable", "answerable: empty"),
)
SHORT_COLUMNS = ("precision", "gold_survives", "empty_unanswerable")  # of the card of README.md
LEFT_OUT = ("relgrade, tuned",)  # there
PYTHON_BLOCK = re.compile(r"(?<=^```python\n).*?(?=^```$)", re.DOTALL | re.MULTILINE)


def main() -> None:
    """Write the pages."""
    page = with_results(README.read_text(encoding="utf-8"), read_results())
    page = with_part(page, CARD_START, CARD_END, short_cards(_read(RAG_RESULTS)))
    page = with_part(page, SPEED_START, SPEED_END, speed(_read(SPEED_RESULTS)))
    namespace: dict[str, Any] = {}
    page = PYTHON_BLOCK.sub(lambda block: with_output(block.group(), namespace), page)
    README.write_text(page, encoding="utf-8")
    RAG_PAGE.write_text(with_cards(RAG_PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def with_cards(page: str) -> str:
    """The page of the RAG benchmark with its tables replaced."""
    page = with_part(page, CARD_START, CARD_END, cards(_read(RAG_RESULTS)))
    page = with_part(page, COMPRESSION_START, COMPRESSION_END, compression(_read(RAG_RESULTS)))
    return with_part(page, GENERATOR_START, GENERATOR_END, generator(_read(GENERATOR_RESULTS)))


def read_results() -> dict[str, Any] | None:
    """The report of the quality benchmark, None before there is one."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else None


# --- results


def with_results(page: str, report: Mapping[str, Any] | None) -> str:
    """The page with the part between the markers replaced.

    Raises:
        ValueError: the markers are not there, once each and in order.
    """
    return with_part(page, START, END, NOT_MEASURED if report is None else results(report))


def with_part(page: str, start: str, end: str, body: str) -> str:
    """The page with what stands between two markers replaced.

    Raises:
        ValueError: the markers are not there, once each and in order.
    """
    if page.count(start) != 1 or page.count(end) != 1 or page.index(start) > page.index(end):
        raise ValueError(f"expected one {start} and, after it, one {end}")
    head, tail = page.split(start)[0], page.split(end)[1]
    return f"{head}{start}\n{body}\n{end}{tail}"


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


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _bold(text: str, is_bold: bool) -> str:
    return f"**{text}**" if is_bold else text


def speed(report: Mapping[str, Any]) -> str:
    """Each contender on lists of mixed length, two threads."""
    raced = report["threads_2"]
    rows = [
        [
            name,
            f"{row['mixed']['pairs_a_second']:.0f}",
            f"{row['mixed']['p50_ms']:,.0f}",
            with_quartiles(row["mixed"]["cpu_ratio"], digits=1),
        ]
        for name, row in raced["contenders"].items()
        if not name.startswith("relgrade pairs")
    ]
    heads = ["two threads, 20 documents of mixed length", "documents a second", "ms a list", "times, by processor"]
    return table(heads, sorted(rows, key=lambda row: -float(row[1])))


# --- the cards of the RAG benchmark


def short_cards(report: Mapping[str, Any]) -> str:
    """What BM25 retrieved, a corpus a table, the columns that matter most."""
    made = []
    for of_corpus in report["corpora"].values():
        card = of_corpus["bm25"]
        columns = [(key, label) for key, label in CARD_COLUMNS if key in SHORT_COLUMNS]
        rows = [row for row in card["rows"] if row["filter"] not in LEFT_OUT]
        made.append(f"{card_title(card)}\n\n{card_table(rows, columns, is_short=True)}")
    return "\n\n".join(made)


def cards(report: Mapping[str, Any]) -> str:
    """Every card with its second table, of equally many tokens."""
    made = []
    for of_corpus in report["corpora"].values():
        for card in of_corpus.values():
            equal = card["equal_tokens"]
            made.append(f"### {card_title(card)}\n\n{card_table(card['rows'], CARD_COLUMNS)}")
            if equal is not None:
                lead = f"With {equal['tokens']:,.0f} tokens a question, as {equal['as']} sends:"
                made.append(f"{lead}\n\n{card_table(equal['rows'], CARD_COLUMNS, is_short=True)}")
    return "\n\n".join(made)


def card_title(card: Mapping[str, Any]) -> str:
    """Corpus, retriever and sample."""
    sample, about = card["sample"], card["about"]
    return (
        f"{about['corpus']}, {about['retriever']} top {sample['n_top']}: {sample['n_questions']} questions "
        f"({sample['n_unanswerable']} unanswerable), {about['n_documents']:,} documents"
    )


def card_table(
    rows: list[Mapping[str, Any]],
    columns: tuple[tuple[str, str], ...] | list[tuple[str, str]],
    *,
    is_short: bool = False,
) -> str:
    """A filter a row; columns without any value are left out, and where it is short the milliseconds too."""
    shown = [(key, label) for key, label in columns if any(row[key]["value"] is not None for row in rows)]
    times = [] if is_short else ["ms"]
    lines = []
    for row in rows:
        spent = row["milliseconds"]
        last = [] if is_short else ["-" if spent is None else f"{spent['p50']:,.0f}"]
        tokens = f"{row['tokens']['value']:,.0f}"
        lines.append([row["filter"], *(_share(row[key]) for key, _ in shown), tokens, *last])
    return table(["filter", *(label for _, label in shown), "tokens", *times], lines)


def compression(report: Mapping[str, Any]) -> str:
    """How often the sentence with the answer stays, and how many tokens do."""
    rows = [
        [name, _share(point["answer_kept"]), _share(point["tokens_left"])]
        for name, point in report["compression"]["points"].items()
    ]
    return table(["sentences above", "answer sentence kept", "tokens left"], rows)


def generator(report: Mapping[str, Any]) -> str:
    """What a model answers with each context."""
    rows = [
        [
            name,
            _share({"value": each["right"], "low": each["low"], "high": each["high"]}),
            _share(each["gain"]) if each["gain"]["value"] else "",
            f"{each['year_in_context']:.2f}",
            f"{each['prompt_tokens']:,.0f}",
        ]
        for name, each in report["contexts"].items()
    ]
    head = f"{report['n_questions']} questions, {report['model']}:"
    return f"{head}\n\n{table(GENERATOR_HEADS, rows)}"


def _share(found: Mapping[str, Any]) -> str:
    if found["value"] is None or found["low"] is None:
        return "-" if found["value"] is None else f"{found['value']:.2f}"
    return f"{found['value']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


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
