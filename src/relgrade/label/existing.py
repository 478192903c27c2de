"""Labels that exist already, as labelled pairs: tables with words for labels, Label Studio exports, yes / no logs.

An answer that cannot be read leaves the pair without a label; it is reported, and never taken for "not relevant".
Several answers about one pair, as of several people, become their mean.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import fsum
from pathlib import Path
from typing import Any

from relgrade.errors import InvalidData, InvalidInput
from relgrade.formats.lines import Row, open_bytes, parse_json, read_json_rows
from relgrade.formats.read import DELIMITERS
from relgrade.formats.rows import pair_from_row
from relgrade.records import Pair

OnProblem = Callable[[InvalidData], None]

RELEVANT = frozenset({"1", "yes", "y", "true", "relevant", "pass", "positive", "keep", "correct"})
NOT_RELEVANT = frozenset(
    {"0", "no", "n", "false", "irrelevant", "not relevant", "non-relevant", "fail", "negative", "drop", "incorrect"}
)
_LABEL_NAMES = ("label", "relevance", "relevant", "binary_score", "score", "grade", "verdict", "judgment", "judgement")
_QUERY_NAMES = ("query", "question", "input", "user_query")
_DOCUMENT_NAMES = ("document", "text", "passage", "contents", "context", "page_content", "doc")
_NESTED = ("binary_score", "score", "grade", "answer", "relevant", "label")


@dataclass(slots=True)
class _Votes:
    """What was said of one pair."""

    pair: Pair
    values: list[float] = field(default_factory=list)


def parse_word(value: Any) -> float | None:
    """1 or 0 for the words that people and graders use, the number itself in [0, 1]; None where it is neither.

    A JSON object, or a text that is one, is searched for the usual names: `{"binary_score": "yes"}`.
    """
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, int | float):
        return float(value) if 0.0 <= value <= 1.0 else None
    if isinstance(value, Mapping):
        found = next((value[name] for name in _NESTED if name in value), None)
        return None if isinstance(found, Mapping) else parse_word(found)
    if not isinstance(value, str):
        return None
    text = " ".join(value.split()).strip("\"'`*. ").casefold()
    if text in RELEVANT or text in NOT_RELEVANT:
        return float(text in RELEVANT)
    try:
        inner = parse_json(value)
    except ValueError:
        return None
    return None if isinstance(inner, str) else parse_word(inner)


def read_worded(path: Path | str, *, label: str | None = None, on_problem: OnProblem) -> Iterator[Pair]:
    """Rows of csv, tsv or JSON lines whose labels are words, as logs of LangGraph-style graders are.

    Args:
        path: `.csv`, `.tsv`, `.jsonl`; perhaps `.gz`.
        label: column of the label; None: the first of the usual names.
        on_problem: is told each row that is no pair, and each label that is not understood.

    Yields:
        Each pair once, with the mean of its labels.

    Raises:
        InvalidData: the file cannot be read.
    """
    path = Path(path)
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if suffix in DELIMITERS:
        rows: Iterable[Row | InvalidData] = _table_rows(path, DELIMITERS[suffix])
    elif suffix in (".jsonl", ".ndjson"):
        rows = read_json_rows(path)
    else:
        raise InvalidData("labels are read from .csv, .tsv and .jsonl", path=path)
    yield from _gather(_worded(rows, label, on_problem), on_problem)


def read_label_studio(path: Path | str, *, choice: str | None = None, on_problem: OnProblem) -> Iterator[Pair]:
    """The annotations of a Label Studio export, JSON or JSON-MIN; cancelled ones do not count.

    Args:
        path: the export.
        choice: name of the field that holds the answer (`from_name`); None: the first of choices, else a rating.
        on_problem: is told each task that is no pair, and each answer that is not understood.

    Yields:
        Each pair once, with the mean of its annotations.

    Raises:
        InvalidData: not such an export.
    """
    path = Path(path)
    with open_bytes(path) as file:
        try:
            tasks = parse_json(file.read().decode("utf-8-sig"))
        except ValueError as error:
            raise InvalidData(f"not JSON: {error}", path=path) from error
    if not isinstance(tasks, list):
        raise InvalidData("a Label Studio export is a list of tasks", path=path)
    yield from _gather(_annotated(tasks, path, choice, on_problem), on_problem)


def _worded(
    rows: Iterable[Row | InvalidData], label: str | None, on_problem: OnProblem
) -> Iterator[tuple[Row, float | None]]:
    for row in rows:
        if isinstance(row, InvalidData):
            on_problem(row)
            continue
        values = dict(row.values)
        name = label or next((item for item in _LABEL_NAMES if values.get(item) is not None), None)
        value = values.pop(name, None) if name else None
        number = parse_word(value)
        if number is None:
            found = "no label" if value is None else f"the label {str(value)[:40]!r} is neither yes nor no"
            on_problem(InvalidData(found, path=row.path, line=row.line))
        yield Row(row.path, row.line, _named(values)), number


def _annotated(
    tasks: Iterable[Any], path: Path, choice: str | None, on_problem: OnProblem
) -> Iterator[tuple[Row, float | None]]:
    for number, task in enumerate(tasks, start=1):
        if not isinstance(task, Mapping):
            on_problem(InvalidData("a task is an object", path=path, line=number))
            continue
        data = task.get("data")
        if not isinstance(data, Mapping):  # JSON-MIN: one object, the answer beside the texts
            yield from _worded([Row(path, number, task)], choice, on_problem)
            continue
        row = Row(path, number, _named(data))
        annotations = task.get("annotations")
        counted = [item for item in annotations if not item.get("was_cancelled")] if annotations else []
        if not counted:
            on_problem(InvalidData("the task has no annotation", path=path, line=number))
        for annotation in counted:
            value = _answer_of(annotation.get("result"), choice)
            if value is None:
                on_problem(InvalidData("an annotation holds no answer", path=path, line=number))
            yield row, value


def _answer_of(result: Any, choice: str | None) -> float | None:
    for item in result if isinstance(result, list) else []:
        value = item.get("value") if isinstance(item, Mapping) else None
        if not isinstance(value, Mapping) or (choice is not None and item.get("from_name") != choice):
            continue
        if isinstance(value.get("choices"), list) and len(value["choices"]) == 1:
            return parse_word(value["choices"][0])
        if isinstance(value.get("rating"), int | float):
            return parse_word(value["rating"])
    return None


def _named(values: Mapping[str, Any]) -> dict[str, Any]:
    """The row under the names that pairs have."""
    row = dict(values)
    for wanted, names in (("query", _QUERY_NAMES), ("document", _DOCUMENT_NAMES)):
        found = next((name for name in names if row.get(name) is not None), None)
        if found is not None and found != wanted:
            row[wanted] = row.pop(found)
    document = row.get("document")
    if isinstance(document, Mapping) and "page_content" in document:  # a LangChain Document
        row["document"] = {"text": document["page_content"], **(document.get("metadata") or {})}
    row.pop("label", None)
    return row


def _gather(rows: Iterable[tuple[Row, float | None]], on_problem: OnProblem) -> Iterator[Pair]:
    found: dict[tuple[str | None, str, str], _Votes] = {}
    for row, value in rows:
        try:
            pair = pair_from_row(row.values)
        except InvalidInput as error:
            on_problem(InvalidData(str(error), path=row.path, line=row.line))
            continue
        votes = found.setdefault((pair.source, pair.query_id, pair.doc_id), _Votes(pair))
        if (votes.pair.query, votes.pair.document) != (pair.query, pair.document):
            on_problem(InvalidData("the ids stood for other texts before", path=row.path, line=row.line))
        elif value is not None:
            votes.values.append(value)
    for votes in found.values():
        if votes.values:
            yield _labelled(votes)


def _labelled(votes: _Votes) -> Pair:
    n_ones = sum(value >= 0.5 for value in votes.values)
    n = len(votes.values)
    extra = {"n_samples": n, "disagreement": 2.0 * min(n_ones, n - n_ones) / n} if n > 1 else {}
    return replace(votes.pair, label=fsum(votes.values) / n, fields={**votes.pair.fields, **extra})


def _table_rows(path: Path, delimiter: str) -> Iterator[Row | InvalidData]:
    from relgrade.formats.delimited import read_delimited_rows

    return read_delimited_rows(path, delimiter=delimiter)
