"""`relgrade grade --query`: documents from files, folders or stdin against one query, kept ones first."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from relgrade.cli import outcome
from relgrade.cli.documents import ReadReport, read_documents, warnings_of
from relgrade.cli.grading import chunked, grade_each
from relgrade.cli.lines import Line
from relgrade.cli.render import Verdict, as_csv, as_jsonl, as_table
from relgrade.errors import InvalidData, InvalidInput
from relgrade.records import Document, Grade, KeepPolicy

if TYPE_CHECKING:
    from relgrade.grade.grader import Grader


PIECE_BYTES = 2**16


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryJob:
    """What the command line asked for."""

    query: str
    sources: tuple[str, ...]
    format: str  # "table", "jsonl" or "csv"
    output: Path | None = None  # None: stdout
    overwrite: bool = False
    skip_bad: bool = False
    bad_path: Path | None = None  # bad lines are copied here
    top_k: int | None = None  # show at most this many
    policy: KeepPolicy | None = None  # None shows the rejected ones too
    has_evidence: bool = False  # show the sentences that carry a verdict


def grade_query(grader: Grader, job: QueryJob) -> int:
    """Grade documents against one query and write the result.

    Args:
        grader: judges.
        job: what and where to.

    Returns:
        The exit code: 0 when something relevant was found, 1 when nothing was.

    Raises:
        InvalidData: a source cannot be read, a bad line without `skip_bad`, or no document at all.
        InvalidInput: the query is empty, or the output exists.
    """
    if not job.query.strip():
        raise InvalidInput("the query is empty; ask something")
    if job.output and job.output.is_file() and job.output.stat().st_size and not job.overwrite:
        raise InvalidInput(f"{job.output}: exists; choose another output, or --overwrite")
    documents = _read(job)
    verdicts = _judge(grader, job, documents)
    shown = _select(grader, job, verdicts)
    n_relevant = sum(verdict.is_relevant for verdict in verdicts)
    summary = f"{n_relevant} of {len(verdicts)} relevant at {_describe_point(grader)}, {len(shown)} shown"
    grades = [verdict.result for verdict in verdicts if isinstance(verdict.result, Grade)]
    if (any_relevant := grader.any_relevant_probability(grades)) is not None:
        summary += f"; anything relevant at all: p = {any_relevant:.3f}"
    _write(job, shown, summary)
    n_failed = sum(not isinstance(verdict.result, Grade) for verdict in verdicts)
    if n_failed:
        outcome.warn(f"{n_failed} of {len(verdicts)} documents have no verdict: the model gave no number for them")
    return outcome.FOUND if n_relevant else outcome.NOT_FOUND


def _read(job: QueryJob) -> list[Document]:
    report = ReadReport()
    bad_lines: list[bytes] = []

    def on_bad_line(error: InvalidData, line: Line) -> None:
        if not job.skip_bad:
            raise InvalidData(f"{error}; correct the line, or pass over such lines with --skip-bad")
        outcome.warn(f"skipped {error}")
        bad_lines.append(line.raw if line.raw.endswith(b"\n") else line.raw + b"\n")

    documents = list(read_documents(job.sources, report, on_bad_line=on_bad_line))
    for line in warnings_of(report):
        outcome.warn(line)
    if job.bad_path:
        job.bad_path.write_bytes(b"".join(bad_lines))
    if not documents:
        raise InvalidData(f"no documents in {', '.join(job.sources)}: nothing was graded")
    return documents


def _judge(grader: Grader, job: QueryJob, documents: Sequence[Document]) -> list[Verdict]:
    verdicts: list[Verdict] = []
    for chunk in chunked((document, len(document.text)) for document in documents):
        results = grade_each(grader, [(job.query, document) for document in chunk], has_evidence=job.has_evidence)
        verdicts.extend(Verdict(document, result) for document, result in zip(chunk, results, strict=True))
    return verdicts


def _select(grader: Grader, job: QueryJob, verdicts: Sequence[Verdict]) -> list[Verdict]:
    """What is shown, in the order it is shown in."""
    ranked = sorted(verdicts, key=lambda verdict: verdict.rank)
    if job.policy is None:
        return ranked[: job.top_k]
    # Kept ones come first, so these are all that a policy can keep; documents without a verdict are none of them.
    n_relevant = sum(verdict.is_relevant for verdict in ranked)
    graded = [verdict for verdict in ranked if isinstance(verdict.result, Grade)]
    candidates = graded[: max(n_relevant, job.policy.min_keep)]
    if job.policy.max_tokens is None or not candidates:
        return candidates[: job.policy.max_keep]
    # Only the grader counts tokens. It reads the candidates again: few, and with the same result.
    kept = grader.filter(job.query, [verdict.document for verdict in candidates], policy=job.policy)
    is_kept = {id(grade.document) for grade in kept}
    return [verdict for verdict in candidates if id(verdict.document) in is_kept]


def _describe_point(grader: Grader) -> str:
    point = grader.operating_point
    return f"{point.name} (p >= {point.threshold:.3f})"


def _write(job: QueryJob, verdicts: Sequence[Verdict], summary: str) -> None:
    if job.format == "table":
        if job.output is None:
            as_table(verdicts, query=job.query, summary=summary, file=sys.stdout)
            return
        page = io.StringIO()
        as_table(verdicts, query=job.query, summary=summary, file=page)
        content = page.getvalue().encode("utf-8")
    else:
        content = as_jsonl(verdicts) if job.format == "jsonl" else as_csv(verdicts, has_evidence=job.has_evidence)
    if job.output is not None:
        with job.output.open("wb", buffering=0) as file:  # unbuffered: nothing left to fail at closing
            _write_all(file, content)
    else:
        _write_all(sys.stdout.buffer, content)
        sys.stdout.buffer.flush()


def _write_all(file: IO[bytes], content: bytes) -> None:
    """Write piece by piece: a raw file may take less than it is given, and a reader that left shows between pieces."""
    view = memoryview(content)
    while view:
        view = view[file.write(view[:PIECE_BYTES]) or 0 :]
