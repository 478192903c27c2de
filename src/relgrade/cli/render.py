"""Query results as a table for people, JSON lines or csv for programs. It knows rows and nothing of where they go."""

from __future__ import annotations

import csv
import errno
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from relgrade.cli.grading import EVIDENCE_FIELD, VERDICT_FIELDS, graded_row
from relgrade.cli.lines import dump_object
from relgrade.cli.outcome import one_line
from relgrade.encoding import clean_text
from relgrade.errors import GradingError, InvalidInput
from relgrade.records import Document, Grade

if TYPE_CHECKING:
    from rich.console import Console

BAR_WIDTH = 10  # characters for a probability of 1
SNIPPET_CHARACTERS = 200  # the table cuts it to the width of the terminal
CSV_FIELDS = ("id", "title", *VERDICT_FIELDS)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One document with what was said of it."""

    document: Document
    result: Grade | GradingError | InvalidInput

    @property
    def is_relevant(self) -> bool:
        """False for a document without a verdict too; `result` tells the two apart."""
        return isinstance(self.result, Grade) and self.result.relevant

    @property
    def rank(self) -> tuple[int, float]:
        """Sorts kept documents first, then rejected ones, each by falling logit, then those without a verdict."""
        if not isinstance(self.result, Grade):
            return 2, 0.0
        return int(not self.result.relevant), -self.result.logit


def as_jsonl(verdicts: Sequence[Verdict]) -> bytes:
    """One JSON object per document: the fields of its row, or its id and title, with the verdict."""
    lines = []
    for verdict in verdicts:
        document = verdict.document
        row: dict[str, Any] = dict(document.metadata)
        if not row:
            row = {"id": document.id} | ({"title": document.title} if document.title else {})
        lines.append(dump_object(graded_row(row, document.id, verdict.result)))
    return b"".join(lines)


def as_csv(verdicts: Sequence[Verdict], *, has_evidence: bool = False) -> bytes:
    """A header and one row per document. Values stand as they are: a leading `=` is data. Evidence is JSON."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = (*CSV_FIELDS, EVIDENCE_FIELD) if has_evidence else CSV_FIELDS
    writer.writerow(names)
    for verdict in verdicts:
        row = graded_row({"title": verdict.document.title}, verdict.document.id, verdict.result)
        writer.writerow(csv_value(row.get(name)) for name in names)
    return clean_text(text.getvalue()).encode("utf-8")


def csv_value(value: Any) -> Any:
    """What stands in a cell: nothing for None, JSON for a list."""
    return "" if value is None else json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value


def as_table(verdicts: Sequence[Verdict], *, query: str, summary: str, file: IO[str]) -> None:
    """Write a table of probability, verdict, bar and document, and one line below it.

    Args:
        verdicts: in the order of the rows.
        query: the title.
        summary: the last line.
        file: a text stream; colours only when it is a terminal.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    class PlainConsole(Console):
        def on_broken_pipe(self) -> None:
            # rich would exit with code 1, which says "nothing relevant" here.
            raise BrokenPipeError(errno.EPIPE, "broken pipe")

    console = PlainConsole(file=file, highlight=False, markup=False, emoji=False)
    # Everything of a document goes in as `Text`, which is never read as markup.
    title = Text(_plain(one_line(query), console))
    # Only in an expanded table does a ratio count: else rich takes from each column alike, and verdicts vanish.
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1), expand=True)
    table.add_column("p", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("", width=BAR_WIDTH, no_wrap=True)
    table.add_column("document", ratio=1, no_wrap=True, overflow="ellipsis" if _is_unicode(console) else "crop")
    for verdict in verdicts:
        document = Text(_plain(_describe(verdict.document), console))
        result = verdict.result
        if not isinstance(result, Grade):
            table.add_row("-", Text("no verdict", style="red"), "", Text(_plain(one_line(str(result)), console)))
            continue
        style = "yellow" if result.verdict == "unsure" else "green" if result.relevant else "dim"
        table.add_row(
            f"{result.probability:.3f}",
            Text("not" if result.verdict == "not relevant" else result.verdict, style=style),
            Text(_bar(result.probability, console), style=style),
            document,
        )
        if result.evidence:
            best = _plain(one_line(result.evidence[0].text), console)
            mark = "└ " if _is_unicode(console) else "> "
            table.add_row("", "", "", Text(mark + best, style="italic", no_wrap=False, overflow="fold"))
    console.print(table)
    console.print(Text(_plain(one_line(summary), console)))


def _describe(document: Document) -> str:
    parts = [document.id or "", document.title or "", document.text[:SNIPPET_CHARACTERS]]
    return "  ".join(one_line(part) for part in parts if part.strip())


def _is_unicode(console: Console) -> bool:
    return console.encoding.lower().startswith("utf")


def _plain(text: str, console: Console) -> str:
    """The text in the characters that the terminal can show."""
    return text if _is_unicode(console) else text.encode(console.encoding, "backslashreplace").decode(console.encoding)


def _bar(probability: float, console: Console) -> str:
    if not _is_unicode(console):
        return "#" * round(probability * BAR_WIDTH)
    n_eighths = round(probability * BAR_WIDTH * 8)
    return "█" * (n_eighths // 8) + " ▏▎▍▌▋▊▉"[n_eighths % 8].strip()
