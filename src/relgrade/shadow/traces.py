"""Traces of LangChain and LangGraph as their tracing exports them: runs with inputs, outputs, times and parents.

The grading run of a document is the outermost one that got a question and a document and gave a verdict.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from relgrade.encoding import clean_text
from relgrade.errors import InvalidData
from relgrade.formats.lines import Row
from relgrade.formats.rows import document_id_of, query_id_of
from relgrade.shadow.fields import duration_of, number_of
from relgrade.shadow.verdicts import LoggedVerdict, parse_verdict

QUERY_NAMES = ("question", "query")
DOCUMENT_NAMES = ("document", "context", "doc", "passage")
_MAX_DEPTH = 50


def is_run(values: Mapping[str, Any]) -> bool:
    """Whether a row looks like an exported run."""
    return "inputs" in values and ("run_type" in values or "outputs" in values or "child_runs" in values)


def grading_runs(rows: Sequence[Row]) -> Iterator[tuple[Row, Mapping[str, Any]]]:
    """The outermost runs that grade a document, from rows that hold a run each, with its children inside or beside."""
    found = [(row, run) for row in rows for run in _walk(row.values, depth=0)]
    parents = {run.get("id"): run.get("parent_run_id") for row in rows for run in _all(row.values, depth=0)}
    grading = {run["id"] for _, run in found if run.get("id") is not None}
    for row, run in found:
        if not _has_ancestor_in(run.get("parent_run_id"), parents, grading):
            yield row, run


def read_run(row: Row, run: Mapping[str, Any]) -> LoggedVerdict | InvalidData:
    """The verdict of a grading run; a failed one, or one whose answer cannot be read, has none."""
    query, document = _pair(run)
    assert query is not None
    assert document is not None
    query, text = clean_text(query), clean_text(document[0])
    outputs = run.get("outputs")
    verdict = None if run.get("error") else parse_verdict(outputs)
    return LoggedVerdict(
        query=query,
        document=text,
        query_id=query_id_of(query),
        doc_id=document[1] or document_id_of(text),
        is_relevant=verdict,
        reply=None if verdict is not None else str(run.get("error") or outputs)[:400],
        latency_s=duration_of(run),
        input_tokens=number_of(run, "prompt_tokens", "input_tokens", is_count=True),
        output_tokens=number_of(run, "completion_tokens", "output_tokens", is_count=True),
        cost=number_of(run, "total_cost", "cost"),
        model=_model(run),
        line=row.line,
    )


def _all(run: Mapping[str, Any], *, depth: int) -> Iterator[Mapping[str, Any]]:
    yield run
    for child in _children(run, depth):
        yield from _all(child, depth=depth + 1)


def _walk(run: Mapping[str, Any], *, depth: int) -> Iterator[Mapping[str, Any]]:
    """Grading runs of a tree; what is below one belongs to it."""
    if is_run(run) and run.get("run_type", "chain") == "chain" and None not in _pair(run):
        yield run
        return
    for child in _children(run, depth):
        yield from _walk(child, depth=depth + 1)


def _children(run: Mapping[str, Any], depth: int) -> list[Mapping[str, Any]]:
    children = run.get("child_runs")
    if depth > _MAX_DEPTH or not isinstance(children, list):
        return []
    return [child for child in children if isinstance(child, Mapping)]


def _has_ancestor_in(parent: Any, parents: Mapping[Any, Any], grading: set[Any]) -> bool:
    seen = set()
    while parent is not None and parent not in seen:
        if parent in grading:
            return True
        seen.add(parent)
        parent = parents.get(parent)
    return False


def _pair(run: Mapping[str, Any]) -> tuple[str | None, tuple[str, str | None] | None]:
    """The question and (text, id) of the document that a run got."""
    inputs = run.get("inputs")
    if isinstance(inputs, Mapping) and isinstance(inputs.get("input"), Mapping):
        inputs = inputs["input"]
    if not isinstance(inputs, Mapping):
        return None, None
    query = next((inputs[name] for name in QUERY_NAMES if isinstance(inputs.get(name), str)), None)
    document = next((text for name in DOCUMENT_NAMES if (text := _document(inputs.get(name))) is not None), None)
    return query if query and query.strip() else None, document


def _document(value: Any) -> tuple[str, str | None] | None:
    """Text and id of a document: a text, or one that was serialised."""
    if isinstance(value, str):
        return value, None
    if not isinstance(value, Mapping):
        return None
    inner = value.get("kwargs", value)
    text = inner.get("page_content") if isinstance(inner, Mapping) else None
    if not isinstance(text, str):
        return None
    identity = inner.get("id")
    return text, identity if isinstance(identity, str) else None


def _model(run: Mapping[str, Any]) -> str | None:
    extra = run.get("extra")
    metadata = extra.get("metadata") if isinstance(extra, Mapping) else None
    name = metadata.get("ls_model_name") if isinstance(metadata, Mapping) else None
    return name if isinstance(name, str) else None
