"""Labelling by batch files: requests out as JSON lines in the OpenAI Batch format, results back in any order.

vLLM's run-batch and other services take the same files. A request that is out is noted in the journal, so that neither
another export nor a run over HTTP pays for it again. Results may be partial, shuffled, repeated, torn, or lie in files
of errors; what has not come back stays out.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from relgrade.errors import InvalidData, InvalidSettings
from relgrade.formats.lines import parse_json, read_lines
from relgrade.formats.write import replaced_file
from relgrade.label.journal import Journal
from relgrade.label.journal_schema import Answer, Exported, Totals
from relgrade.label.plan import CHUNK, Job, Plan, ReadPairs, chunks, describe
from relgrade.label.replies import UnusableReply, read_text, read_usage
from relgrade.label.requests import PATHS, body_bytes, chat_body, read_reply
from relgrade.label.rubric import Method, Rubric
from relgrade.label.teacher import Price

MAX_REQUESTS = 50_000  # of a file, as the services limit it
MAX_BYTES = 190 * 2**20  # they take 200 MB
_TAKEN_TOGETHER = 500


@dataclass(frozen=True, slots=True)
class BatchExport:
    """What was written."""

    files: tuple[Path, ...]
    n_requests: int
    n_found: int  # answers that are there
    n_out: int  # requests that are out in an earlier batch
    n_elsewhere: int  # another process is asking


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchImport:
    """What came back."""

    n_answers: int = 0  # that stand now
    n_unusable: int = 0  # paid replies without an answer
    n_failed: int = 0  # requests that failed unpaid; they may be exported or asked again
    n_repeated: int = 0  # results for what was answered before
    n_unknown: int = 0  # results that no request of this journal asked for
    bad_lines: tuple[InvalidData, ...] = ()  # lines that are no result


def export_batch(
    read: ReadPairs,
    plan: Plan,
    *,
    journal: Path | str,
    output: Path | str,
    method: Method = "json_schema",
    max_requests: int = MAX_REQUESTS,
) -> BatchExport:
    """Write a request for each answer that is not there, in as many files as are needed.

    Args:
        read: opens the pairs.
        plan: rubric, teachers and samples; teachers are asked by chat, and all of them take the same file.
        journal: the file; made when it is not there.
        output: `batch.jsonl`; more files are called `batch-2.jsonl` and so on.
        method: how answers are asked for: nobody is there to try what the server can do.
        max_requests: of a file.

    Raises:
        InvalidSettings: the rubric or the teacher cannot be asked this way.
        OutputError: a file cannot be written; requests in it are not out.
    """
    for teacher in plan.teachers:
        if teacher.api != "chat":
            raise InvalidSettings("batch files hold chat completions; the decision APIs take none")
        if teacher.method not in (None, method) or method not in plan.rubric.methods:
            allowed = ", ".join(plan.rubric.methods) if teacher.method is None else teacher.method
            raise InvalidSettings(f"cannot be asked by {method} here, but by {allowed}; say so with --method")
    output, counts = Path(output), {"found": 0, "out": 0, "elsewhere": 0}
    files: list[Path] = []
    n_requests = 0
    with Journal(journal) as book:
        for i in range(len(plan.teachers)):
            book.describe(plan.about(i), describe(plan, i))
        jobs = _unanswered(read, plan, book, counts)
        pending = next(jobs, None)
        while pending is not None:
            number = len(files) + 1
            path = output if number == 1 else output.with_name(f"{output.stem}-{number}{output.suffix}")
            rows: list[Exported] = []
            n_bytes = 0
            with replaced_file(path) as file:
                while pending is not None and len(rows) < max_requests:
                    line = _request_line(plan, pending, method)
                    if rows and n_bytes + len(line) > MAX_BYTES:
                        break
                    file.write(line)
                    n_bytes += len(line)
                    rows.append(Exported(pending.key, plan.about(pending.teacher), method, path.name))
                    pending = next(jobs, None)
            book.export(rows)
            files.append(path)
            n_requests += len(rows)
    return BatchExport(tuple(files), n_requests, counts["found"], counts["out"], counts["elsewhere"])


def import_batch(results: Path | str, *, journal: Path | str) -> BatchImport:
    """Take the results of a batch; the file of errors that some services write beside them is taken the same way.

    Raises:
        InvalidData: the file cannot be read at all; single lines that are no result are in the report.
    """
    report = BatchImport()
    bad: list[InvalidData] = []
    with Journal(journal) as book:
        rows: list[Mapping[str, Any]] = []
        for row in _result_rows(Path(results), bad.append):
            rows.append(row)
            if len(rows) >= _TAKEN_TOGETHER:
                report = _take(book, rows, report)
                rows = []
        report = _take(book, rows, report)
    return replace(report, bad_lines=tuple(bad))


def _unanswered(read: ReadPairs, plan: Plan, book: Journal, counts: dict[str, int]) -> Iterator[Job]:
    seen: set[str] = set()
    for chunk in chunks(read(), CHUNK):
        jobs = {job.key: job for pair in chunk for job in plan.jobs(pair)}
        fresh = [key for key in jobs if key not in seen]
        claimed = book.claim(fresh)
        seen |= claimed.mine
        counts["found"] += len(claimed.done)
        counts["out"] += len(claimed.exported)
        counts["elsewhere"] += len(claimed.elsewhere)
        yield from (job for key, job in jobs.items() if key in claimed.mine)


def _request_line(plan: Plan, job: Job, method: Method) -> bytes:
    sampling = plan.sampling(job.teacher, sample=job.sample)
    model = plan.teachers[job.teacher].model
    body = chat_body(plan.rubric, job.query, job.document, method=method, model=model, sampling=sampling)
    row = {"custom_id": job.key, "method": "POST", "url": f"/v1{PATHS['chat']}", "body": body}
    return body_bytes(row) + b"\n"


def _result_rows(path: Path, on_bad_line: Callable[[InvalidData], None]) -> Iterator[Mapping[str, Any]]:
    for line in read_lines(path):
        if not line.raw.strip():
            continue
        try:
            row = parse_json(line.raw.decode("utf-8"))
            if not isinstance(row, dict) or not isinstance(row.get("custom_id"), str):
                raise ValueError("an object with `custom_id` was expected")
        except ValueError as error:  # a UnicodeDecodeError is one
            on_bad_line(InvalidData(f"not a result of a batch: {error}", path=path, line=line.number))
        else:
            yield row


def _take(book: Journal, rows: list[Mapping[str, Any]], report: BatchImport) -> BatchImport:
    keys = list(dict.fromkeys(row["custom_id"] for row in rows))
    out, known = book.exported(keys), book.answers(keys)
    answers: dict[str, Answer] = {}
    failed: dict[str, str] = {}
    spent = Totals()
    n_repeated = n_unknown = 0
    for row in rows:
        key = row["custom_id"]
        old = answers.get(key) or known.get(key)
        if key not in out and old is None:
            n_unknown += 1
        elif old is not None and old.error is None:
            n_repeated += 1
        else:
            found = _answer(book, row, out.get(key), old)
            if isinstance(found, str):
                failed[key] = found
                continue
            answers[key] = found
            failed.pop(key, None)
            tokens = {"input_tokens": found.input_tokens, "output_tokens": found.output_tokens}
            spent = spent.plus(Totals(requests=1, cost=found.cost or 0.0, **tokens))
    failed = {key: reason for key, reason in failed.items() if key not in answers and key not in known}
    n_new = book.take_batch(list(answers.values()), failed, spent=spent)
    n_unusable = sum(answer.error is not None for answer in answers.values())
    return replace(
        report,
        n_answers=report.n_answers + n_new - n_unusable,
        n_unusable=report.n_unusable + n_unusable,
        n_failed=report.n_failed + len(failed),
        n_repeated=report.n_repeated + n_repeated,
        n_unknown=report.n_unknown + n_unknown,
    )


def _answer(book: Journal, row: Mapping[str, Any], out: Exported | None, old: Answer | None) -> Answer | str:
    """The answer of a result, or why there is none."""
    response = row.get("response")
    body = response.get("body") if isinstance(response, Mapping) else None
    status = response.get("status_code") if isinstance(response, Mapping) else None
    if row.get("error") or status != 200 or not isinstance(body, Mapping):
        reason = row.get("error") or (body.get("error") if isinstance(body, Mapping) else None) or f"status {status}"
        return f"batch: {json.dumps(reason) if not isinstance(reason, str) else reason}"[:300]
    about = out.about if out is not None else old.about if old is not None else ""
    method = out.method if out is not None else old.method if old is not None else "text"
    description = book.description(about)
    if description is None:
        return "batch: the journal does not say under which rubric it was asked"
    rubric, price = Rubric.from_json(description["rubric"]), description.get("price")
    usage = read_usage(body)
    n_input, n_output = (0, 0) if usage is None else (usage.input_tokens, usage.output_tokens)
    served = body.get("model")
    answer = Answer(
        key=row["custom_id"],
        about=about,
        method=method,
        served_model=served if isinstance(served, str) else None,
        input_tokens=n_input,
        output_tokens=n_output,
        cost=None if price is None else Price(**price).of(n_input, n_output),
    )
    try:
        try:
            reading = read_reply(body, rubric, api="chat", method=method)  # type: ignore[arg-type]  # as it was exported
        except UnusableReply as error:
            if error.kind != "no-logprobs":
                raise
            reading = read_text(body, rubric)
    except UnusableReply as error:
        return replace(answer, error=str(error), kind=error.kind, reply=error.reply)
    return replace(
        answer,
        probability=reading.probability,
        grade=reading.grade,
        label_mass=reading.label_mass,
        reply=reading.reply,
    )
