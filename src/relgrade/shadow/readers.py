"""One door to logs of LLM graders: tables, traces of LangGraph, and chat logs. Lines that are none come as errors."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from relgrade.encoding import clean_text
from relgrade.errors import InvalidData, InvalidSettings
from relgrade.formats.delimited import read_delimited_rows
from relgrade.formats.lines import Row, read_json_rows
from relgrade.formats.rows import DOCUMENT_NAMES, document_id_of, query_id_of
from relgrade.shadow.chat_logs import read_chat
from relgrade.shadow.fields import duration_of, number_of
from relgrade.shadow.traces import grading_runs, is_run, read_run
from relgrade.shadow.verdicts import VERDICT_NAMES, LoggedVerdict, OwnVerdict, parse_verdict

LogKind = Literal["auto", "table", "langgraph", "openai"]
LOG_KINDS: tuple[str, ...] = get_args(LogKind)
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """How a log is to be read."""

    kind: LogKind = "auto"  # auto: by the file's name and by what its first row holds
    verdict_field: str | None = None  # of a table; None: the first of `VERDICT_NAMES` that is there
    pattern: str | None = None  # of a chat log: regular expression with the groups `query` and `document`
    requests: Path | str | None = None  # of a chat log: batch input, joined to the log by `custom_id`

    def __post_init__(self) -> None:
        if self.kind not in LOG_KINDS:
            raise InvalidSettings(f"kind is one of {', '.join(LOG_KINDS)}, got {self.kind!r}")
        if self.pattern is None:
            return
        try:
            groups = re.compile(self.pattern).groupindex
        except re.error as error:
            raise InvalidSettings(f"pattern: not a regular expression: {error}") from error
        if not {"query", "document"} <= set(groups):
            raise InvalidSettings(
                f"pattern: the groups (?P<query>...) and (?P<document>...) were expected: {self.pattern}"
            )


def read_log(path: Path | str, settings: LogSettings | None = None) -> Iterator[LoggedVerdict | InvalidData]:
    """The verdicts of a log, in its order; a line that holds none comes as the error that says why.

    A verdict that cannot be read as yes or no is no error but a `LoggedVerdict` without one: it was paid for.

    Args:
        path: `.csv` or `.tsv` tables, or JSON lines; each perhaps with `.gz`.
        settings: None: `LogSettings()`.

    Raises:
        InvalidData: the file as a whole cannot be read.
    """
    path, settings = Path(path), settings or LogSettings()
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if suffix in _DELIMITERS:
        texts = frozenset(
            {"model", "reply", *VERDICT_NAMES, *([settings.verdict_field] if settings.verdict_field else [])}
        )
        rows = read_delimited_rows(path, delimiter=_DELIMITERS[suffix], text_names=texts)
        return _verdicts(rows, lambda row: _read_table(row, settings.verdict_field))
    return _read_json(path, settings)


def _read_json(path: Path, settings: LogSettings) -> Iterator[LoggedVerdict | InvalidData]:
    rows = list(read_json_rows(path))  # a trace may name its parent later in the file
    first = next((row for row in rows if isinstance(row, Row)), None)
    kind = settings.kind if settings.kind != "auto" or first is None else _kind_of(first.values)
    if kind == "langgraph":
        return _read_traces(rows)
    if kind == "openai":
        requests = {} if settings.requests is None else _requests(Path(settings.requests))
        return _verdicts(rows, lambda row: read_chat(row, pattern=settings.pattern, requests=requests))
    return _verdicts(rows, lambda row: _read_table(row, settings.verdict_field))


def _kind_of(values: Mapping[str, Any]) -> str:
    if is_run(values):
        return "langgraph"
    return "openai" if {"response", "messages", "choices"} & set(values) and "verdict" not in values else "table"


def _verdicts(rows: Any, read: Any) -> Iterator[LoggedVerdict | InvalidData]:
    for row in rows:
        found = row if isinstance(row, InvalidData) else read(row)
        if found is not None:
            yield found


def _read_traces(rows: list[Row | InvalidData]) -> Iterator[LoggedVerdict | InvalidData]:
    yield from (row for row in rows if isinstance(row, InvalidData))
    for row, run in grading_runs([row for row in rows if isinstance(row, Row)]):
        yield read_run(row, run)


def _requests(path: Path) -> dict[str, Mapping[str, Any]]:
    """custom_id -> body of the requests of a batch."""
    rows = [row for row in read_json_rows(path) if isinstance(row, Row)]
    return {str(row.values.get("custom_id")): row.values.get("body") or {} for row in rows}


def _read_table(row: Row, verdict_field: str | None) -> LoggedVerdict | InvalidData | None:
    values = row.values
    if values.get("is_llm_asked") is False:  # of a live run that had switched this query: nothing to compare
        return None
    query = values.get("query") or values.get("question")
    name = next((name for name in DOCUMENT_NAMES if isinstance(values.get(name), str)), None)
    if not isinstance(query, str) or not query.strip() or name is None:
        return InvalidData("a `query` and a `document` were expected as texts", path=row.path, line=row.line)
    field = verdict_field or next((each for each in VERDICT_NAMES if each in values), None)
    if field is None or field not in values:
        known = ", ".join(VERDICT_NAMES)
        message = f"no verdict: {verdict_field or known} was expected, the row has {', '.join(list(values)[:12])}"
        return InvalidData(message, path=row.path, line=row.line)
    query, document = clean_text(query), clean_text(values[name])
    verdict = LoggedVerdict(
        query=query,
        document=document,
        query_id=str(values.get("query_id") or query_id_of(query)),
        doc_id=str(values.get("doc_id") or values.get("id") or document_id_of(document)),
        title=values["title"] if isinstance(values.get("title"), str) else None,
        is_relevant=parse_verdict(values[field]),
        latency_s=duration_of(values),
        input_tokens=number_of(values, "input_tokens", "prompt_tokens", is_count=True),
        output_tokens=number_of(values, "output_tokens", "completion_tokens", is_count=True),
        cost=number_of(values, "cost", "total_cost"),
        model=values["model"] if isinstance(values.get("model"), str) else None,
        own=_own(values),
        line=row.line,
    )
    return verdict if verdict.is_relevant is not None else replace(verdict, reply=str(values[field])[:400])


def _own(values: Mapping[str, Any]) -> OwnVerdict | None:
    """Our verdict, in rows that `ShadowGrader` wrote."""
    if "relgrade_relevant" not in values and "relgrade_error" not in values:
        return None
    latency_ms = number_of(values, "relgrade_latency_ms")
    return OwnVerdict(
        is_relevant=parse_verdict(values.get("relgrade_relevant")),
        probability=number_of(values, "relgrade_probability"),
        margin=number_of(values, "relgrade_margin", is_signed=True),
        latency_s=None if latency_ms is None else latency_ms / 1000.0,
        error=values.get("relgrade_error"),
    )
