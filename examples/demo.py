"""The embedded grader on a small corpus: 12 questions, each held against every document, and an honest count.

    make demo          or          python examples/demo.py [--json] [--rows N] [--bundle FOLDER]

The corpus mixes three subjects, so most of a question's documents are far away, and a few are close and wrong. What
counts as relevant was decided by reading each document for each question; `note` in queries.jsonl says what is hard.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from relgrade import Grade, Grader, RelgradeError

HERE = Path(__file__).parent
DOCUMENTS = HERE / "corpus" / "documents.jsonl"
QUERIES = HERE / "queries.jsonl"
MAX_WIDTH = 100  # columns; wider tables only move the titles away from their numbers
BAR_WIDTH = 10
LEGEND = "gold: * answers the question   o near miss: close, and does not answer"


@dataclass(frozen=True, slots=True)
class Query:
    """A question and the ids of documents as people judged them."""

    id: str
    query: str
    relevant: frozenset[str]
    near_misses: frozenset[str]
    note: str

    @property
    def is_answerable(self) -> bool:
        """Whether any document of the corpus answers it."""
        return bool(self.relevant)


@dataclass(frozen=True, slots=True)
class Row:
    """One document with the grader's word and ours."""

    grade: Grade
    id: str
    title: str
    mark: str  # "*" relevant, "o" near miss, "" neither


@dataclass(slots=True)
class Tally:
    """Counts over all questions."""

    n_documents: int = 0  # graded, all questions together
    kept: int = 0
    gold: int = 0
    gold_kept: int = 0
    near_misses: int = 0
    near_misses_kept: int = 0
    answerable: int = 0
    lost: int = 0  # answerable questions that keep no relevant document
    unanswerable: int = 0
    false_keeps: int = 0  # unanswerable questions that keep anything
    load_s: float = 0.0
    grade_s: float = 0.0

    def add(self, query: Query, rows: Sequence[Row], seconds: float) -> None:
        """Count one question."""
        kept = [row for row in rows if row.grade.relevant]
        hits = sum(row.mark == "*" for row in kept)
        self.n_documents += len(rows)
        self.kept += len(kept)
        self.gold += len(query.relevant)
        self.gold_kept += hits
        self.near_misses += len(query.near_misses)
        self.near_misses_kept += sum(row.mark == "o" for row in kept)
        self.answerable += query.is_answerable
        self.lost += query.is_answerable and not hits
        self.unanswerable += not query.is_answerable
        self.false_keeps += not query.is_answerable and bool(kept)
        self.grade_s += seconds

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; a share without a denominator is null."""
        return {
            "queries": self.answerable + self.unanswerable,
            "pairs": self.n_documents,
            "kept": self.kept,
            "relevant": self.gold,
            "relevant_kept": self.gold_kept,
            "precision": self.gold_kept / self.kept if self.kept else None,
            "recall": self.gold_kept / self.gold if self.gold else None,
            "near_misses": self.near_misses,
            "near_misses_kept": self.near_misses_kept,
            "queries_losing_all": self.lost,
            "unanswerable": self.unanswerable,
            "unanswerable_with_a_keep": self.false_keeps,
            "load_seconds": round(self.load_s, 3),
            "milliseconds_per_document": round(1000 * self.grade_s / self.n_documents, 2) if self.n_documents else None,
        }


def main(arguments: Sequence[str] | None = None, *, grader: Any = None, file: IO[str] | None = None) -> int:
    """Run the demo; returns the exit code. `grader` stands in for the embedded one, `file` for stdout, in tests."""
    options = _options(arguments)
    documents = read_jsonl(DOCUMENTS)
    queries = [read_query(row) for row in read_jsonl(QUERIES)]
    tally = Tally()
    try:
        start = time.perf_counter()
        grader = grader or Grader.load(options.bundle)
        tally.load_s = time.perf_counter() - start
        console = Console(file=file, highlight=False, emoji=False)
        console = Console(file=file, highlight=False, emoji=False, width=min(console.width, MAX_WIDTH))
        results = []
        if not options.json:
            print_head(console, grader, len(documents), queries)
        for query in queries:
            start = time.perf_counter()
            graded = grader.grade(query.query, documents)
            seconds = time.perf_counter() - start
            rows = sort_rows(graded, query)
            tally.add(query, rows, seconds)
            if options.json:
                results.append(query_json(query, rows))
            else:
                print_query(console, query, rows, n_rows=options.rows)
    except RelgradeError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    if options.json:
        json.dump({"queries": results, "summary": tally.to_json()}, file or sys.stdout, ensure_ascii=False, indent=1)
        print(file=file)
    else:
        print_summary(console, tally)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="all grades and the summary as one JSON object")
    parser.add_argument("--rows", type=int, default=6, metavar="N", help="documents shown for each question")
    parser.add_argument("--bundle", metavar="FOLDER", help="grader to use instead of the embedded one")
    return parser.parse_args(arguments)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """One object per line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_query(row: Mapping[str, Any]) -> Query:
    """A line of queries.jsonl."""
    return Query(row["id"], row["query"], frozenset(row["relevant"]), frozenset(row["near_misses"]), row["note"])


def sort_rows(graded: Sequence[Grade], query: Query) -> list[Row]:
    """Kept documents first, then rejected ones, each by falling logit."""
    rows = []
    for grade in graded:
        document = grade.document
        mark = "*" if document["id"] in query.relevant else "o" if document["id"] in query.near_misses else ""
        rows.append(Row(grade, document["id"], document["title"], mark))
    return sorted(rows, key=lambda row: (not row.grade.relevant, -row.grade.logit))


def query_json(query: Query, rows: Sequence[Row]) -> dict[str, Any]:
    """One question with all its documents, in the order of the table."""
    documents = [
        {
            "id": row.id,
            "probability": row.grade.probability,
            "logit": row.grade.logit,
            "kept": row.grade.relevant,
            "relevant": row.mark == "*",
            "near_miss": row.mark == "o",
        }
        for row in rows
    ]
    return {"id": query.id, "query": query.query, "answerable": query.is_answerable, "documents": documents}


def print_head(console: Console, grader: Any, n_documents: int, queries: Sequence[Query]) -> None:
    """What is about to be shown."""
    point = grader.operating_point
    console.print(
        f"{len(queries)} questions, each against all {n_documents} documents. Kept from P(relevant) >= "
        f"{point.threshold:.3f}, operating point {point.name!r}.",
        markup=False,
    )
    console.print(LEGEND, markup=False)


def print_query(console: Console, query: Query, rows: Sequence[Row], *, n_rows: int) -> None:
    """One table: the first rows and, below them, relevant documents that would otherwise go unseen."""
    shown = [row for place, row in enumerate(rows) if place < n_rows or row.mark == "*"]
    table = Table(box=None, padding=(0, 1), expand=True, header_style="bold")
    table.add_column("P", justify="right", width=5, no_wrap=True)
    table.add_column("verdict", width=7, no_wrap=True)
    table.add_column("", width=BAR_WIDTH, no_wrap=True)
    table.add_column("gold", width=4, justify="center", no_wrap=True)
    table.add_column("document", ratio=1, no_wrap=True, overflow="ellipsis" if _is_unicode(console) else "crop")
    for row in shown:
        kept = row.grade.relevant
        style = "green" if kept and row.mark == "*" else "yellow" if kept != (row.mark == "*") else "dim"
        table.add_row(
            f"{row.grade.probability:.3f}",
            Text("kept" if kept else "dropped", style=style),
            Text(bar(row.grade.probability, is_unicode=_is_unicode(console)), style=style),
            row.mark,
            Text(row.title),  # never read as markup
        )
    console.print()
    console.print(Text(f"{query.id}  {query.query}", style="bold"))
    if not query.is_answerable:
        console.print("unanswerable: no document holds the answer")
    console.print(table)
    hidden = [row for row in rows if row not in shown]
    if hidden:
        n_kept = sum(row.grade.relevant for row in hidden)
        console.print(f"  and {len(hidden)} more: {n_kept} kept, {len(hidden) - n_kept} dropped", style="dim")


def bar(probability: float, *, is_unicode: bool = True) -> str:
    """A bar of `BAR_WIDTH` characters for 1, in eighths where the terminal can show them."""
    if not is_unicode:
        return "#" * round(probability * BAR_WIDTH)
    n_eighths = round(probability * BAR_WIDTH * 8)
    return "█" * (n_eighths // 8) + " ▏▎▍▌▋▊▉"[n_eighths % 8].strip()


def print_summary(console: Console, tally: Tally) -> None:
    """The counts with their denominators, small as they are, and the clock."""
    found = tally.to_json()
    lines = [
        f"kept {tally.kept} of {tally.n_documents} documents, relevant are {tally.gold}: "
        f"precision {_share(tally.gold_kept, tally.kept)}, recall {_share(tally.gold_kept, tally.gold)}",
        f"near misses kept: {tally.near_misses_kept} of {tally.near_misses}; "
        f"questions that lost every answer: {tally.lost} of {tally.answerable}; "
        f"unanswerable questions that kept something: {tally.false_keeps} of {tally.unanswerable}",
        f"{found['queries']} questions are an illustration and no measurement; README.md has one with intervals.",
        f"loaded in {tally.load_s:.2f} s; {found['milliseconds_per_document']:.1f} ms a document "
        f"({tally.n_documents} in {tally.grade_s:.1f} s)",
    ]
    console.print()
    for line in lines:
        console.print(line, markup=False)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.2f} ({part} of {whole})" if whole else "- (0 of 0)"


def _is_unicode(console: Console) -> bool:
    return console.encoding.lower().startswith("utf")


if __name__ == "__main__":
    sys.exit(main())
