"""`relgrade grade pairs.jsonl`: every row comes out again with its verdict, in order, in flat memory, resumable."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from relgrade.cli import outcome
from relgrade.cli.grading import EVIDENCE_FIELD, VERDICT_FIELDS, chunked, grade_each, graded_row
from relgrade.cli.lines import STDIN, Line, dump_object, open_bytes, read_lines
from relgrade.cli.pair_rows import PairRow, read_pair_rows
from relgrade.cli.progress import GradingProgress
from relgrade.cli.render import csv_value
from relgrade.cli.resume import InputPrefix, ResumableOutput, RunState
from relgrade.errors import InvalidData, InvalidInput

if TYPE_CHECKING:
    from relgrade.grade.grader import Grader

CSV_FIELDS = ("id", "query_id", "doc_id", "label", *VERDICT_FIELDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairsJob:
    """What the command line asked for."""

    source: str  # path of JSON lines, or "-"
    output: Path | None  # None: stdout
    format: str  # "jsonl" or "csv"
    overwrite: bool = False
    skip_bad: bool = False
    bad_path: Path | None = None  # bad lines are copied here
    has_evidence: bool = False  # rows tell the sentences that carry a verdict

    @property
    def csv_fields(self) -> tuple[str, ...]:
        """Columns of a csv file."""
        return (*CSV_FIELDS, EVIDENCE_FIELD) if self.has_evidence else CSV_FIELDS


class _Output(Protocol):
    """Where rows go."""

    n_rows: int  # rows that are there
    n_errors: int  # of them, those without a verdict

    def write(self, rows: Sequence[bytes], prefix: InputPrefix) -> None: ...
    def finish(self, prefix: InputPrefix) -> None: ...
    def roll_back(self) -> None: ...


@dataclass(slots=True)
class _Stream:
    """A pipe, a terminal, a device, or csv: rows that no later run continues."""

    file: IO[bytes]
    n_rows: int = 0
    n_errors: int = 0

    def write(self, rows: Sequence[bytes], prefix: InputPrefix) -> None:
        self.file.write(b"".join(rows))
        self.file.flush()
        self.n_rows += len(rows)

    def finish(self, prefix: InputPrefix) -> None:
        self.file.flush()

    def roll_back(self) -> None:
        """Never asked for: no earlier run stands behind a stream."""


@dataclass(slots=True)
class _BadLines:
    """Stops at the first bad line, or counts, reports and copies them."""

    is_skipping: bool
    copy: IO[bytes] | None
    n: int = 0

    def __call__(self, error: InvalidData, line: Line) -> None:
        if not self.is_skipping:
            raise error
        self.n += 1
        outcome.warn(f"skipped {error}")
        if self.copy is not None:
            self.copy.write(line.raw if line.raw.endswith(b"\n") else line.raw + b"\n")


def grade_pairs_file(grader: Grader, job: PairsJob) -> int:
    """Grade a file of pairs.

    Args:
        grader: judges.
        job: what and where to.

    Returns:
        The exit code: 1 when lines were skipped or rows have no verdict, else 0.

    Raises:
        InvalidData: a bad line without `skip_bad`; everything before it is written.
        InvalidInput: the output belongs to another run.
        Stop: no row at all; or interrupted, or the disk is full, and then it says what is written and how to go on.
    """
    _refuse_same_file(job)
    with ExitStack() as stack:
        file = stack.enter_context(open_bytes(job.source))
        output = stack.enter_context(_open_output(grader, job))
        copy = stack.enter_context(job.bad_path.open("wb")) if job.bad_path else None
        bad = _BadLines(job.skip_bad, copy)
        state = output.state if isinstance(output, ResumableOutput) else RunState(run={})
        if state.input_bytes and job.source != STDIN:
            _check_input(job.source, state)
        prefix = InputPrefix(state, name=job.source)
        rows = read_pair_rows(file, name=job.source, prefix=prefix, on_bad_line=bad)
        with _say_what_is_written(job, output), _progress(job) as progress:
            _grade_rows(
                grader,
                rows,
                output,
                prefix,
                job=job,
                progress=progress,
            )
            if not output.n_rows and not bad.n:
                raise outcome.Stop(f"{job.source}: no pairs in it: nothing was graded")
            output.finish(prefix)
    return _report(job, output, bad)


def _grade_rows(
    grader: Grader,
    rows: Iterator[PairRow],
    output: _Output,
    prefix: InputPrefix,
    *,
    job: PairsJob,
    progress: GradingProgress,
) -> None:
    for _ in range(output.n_rows):  # an earlier run wrote these
        if next(rows, None) is None:
            raise InvalidInput(
                f"the existing output has {output.n_rows} rows, more than the input; start again with --overwrite"
            )

    progress.begin(n_bytes=prefix.n_bytes)
    held: list[InvalidData] = []

    def until_bad() -> Iterator[tuple[PairRow, int]]:
        # A bad line ends the run, but not before the rows read ahead of it are graded and written.
        try:
            for row in rows:
                yield row, len(row.document.text) + len(row.query)
        except InvalidData as error:
            held.append(error)

    for chunk in chunked(until_bad()):
        results = grade_each(grader, [(row.query, row.document) for row in chunk], has_evidence=job.has_evidence)
        graded = [graded_row(row.row, row.id, result) for row, result in zip(chunk, results, strict=True)]
        lines = [_csv_row(row, job.csv_fields) if job.format == "csv" else dump_object(row) for row in graded]
        output.n_errors += sum(isinstance(result, Exception) for result in results)
        output.write(lines, prefix)
        progress.advance(len(chunk), n_bytes=prefix.n_bytes)
    if held:
        if prefix.is_other:
            output.roll_back()
        raise held[0]


@contextmanager
def _open_output(grader: Grader, job: PairsJob) -> Iterator[_Output]:
    if job.output is None:
        stream = _Stream(sys.stdout.buffer)
    elif job.format == "jsonl" and (job.output.is_file() or not job.output.exists()):
        run = {"bundle": grader.bundle.hash, "operating_point": grader.operating_point.name}
        if "base_rate" in grader.operating_point.evidence:
            run["base_rate"] = str(grader.operating_point.evidence["base_rate"])
        if job.has_evidence:
            run["evidence"] = "yes"
        with ResumableOutput(job.output, run=run, overwrite=job.overwrite) as output:
            yield output
        return
    elif job.output.is_file() and job.output.stat().st_size and not job.overwrite:
        raise InvalidInput(f"{job.output}: exists, and csv cannot be continued; choose another output, or --overwrite")
    else:
        with job.output.open("wb", buffering=0) as file:  # unbuffered: nothing left to fail at closing
            yield _begin(_Stream(file), job)
        return
    yield _begin(stream, job)


def _begin(stream: _Stream, job: PairsJob) -> _Stream:
    if job.format == "csv":
        stream.file.write(_csv_line(job.csv_fields))
    return stream


def _csv_row(row: dict[str, Any], names: Sequence[str]) -> bytes:
    return _csv_line([csv_value(row.get(name)) for name in names])


def _csv_line(values: Sequence[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode("utf-8", errors="replace")


def _check_input(source: str, state: RunState) -> None:
    """Read as far as the earlier run did, before anything is written."""
    prefix = InputPrefix(state, name=source)
    with open_bytes(source) as file:
        for line in read_lines(file, name=source):
            prefix.read(line.raw)
            if prefix.is_checked:
                return
    prefix.check()


def _refuse_same_file(job: PairsJob) -> None:
    for path in (job.output, job.bad_path):
        if path and job.source != STDIN and path.exists() and path.samefile(job.source):
            raise InvalidInput(f"{path} is the input; write to another file")
    if job.output and job.bad_path and job.output.resolve() == job.bad_path.resolve():
        raise InvalidInput(f"{job.output} cannot take both the graded and the bad lines")


def _progress(job: PairsJob) -> GradingProgress:
    is_size_known = job.source != STDIN and not job.source.endswith(".gz")
    total_bytes = (Path(job.source).stat().st_size or None) if is_size_known else None  # a pipe has size 0
    # Rows and a bar on one terminal would overwrite each other.
    return GradingProgress(
        job.source, total_bytes=total_bytes, has_bar=job.output is not None or not sys.stdout.isatty()
    )


@contextmanager
def _say_what_is_written(job: PairsJob, output: _Output) -> Iterator[None]:
    """Turn an interruption or a full disk into what stands where, and how to go on."""
    where = job.output or "stdout"
    if isinstance(output, ResumableOutput):
        go_on = "run the same command again to go on"
    else:
        go_on = "the run starts again from the first row; give -o FILE.jsonl for one that goes on"
    try:
        yield
    except KeyboardInterrupt:
        raise outcome.Interrupted(f"interrupted; {output.n_rows:,} whole rows are in {where}; {go_on}") from None
    except BrokenPipeError:
        raise
    except OSError as error:
        if not outcome.is_full_disk(error):
            raise
        if job.output is None:
            outcome.silence_stdout()
        raise outcome.Stop(
            f"no space left to write {where}; {output.n_rows:,} whole rows are there; free some space, then {go_on}"
        ) from error
    except InvalidData as error:
        advice = "correct the line, or pass over such lines with --skip-bad" if error.line else ""
        raise outcome.Stop(f"{error}; {output.n_rows:,} rows are in {where}; {advice}".rstrip("; ")) from error


def _report(job: PairsJob, output: _Output, bad: _BadLines) -> int:
    if bad.n:
        copied = f", copied to {job.bad_path}" if job.bad_path else ""
        outcome.warn(f"{bad.n:,} bad lines were skipped{copied}")
    if output.n_errors:
        outcome.warn(f"{output.n_errors:,} rows have no verdict; their field `error` says why")
    return outcome.NOT_FOUND if bad.n or output.n_errors else outcome.FOUND
