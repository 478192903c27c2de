"""A sample as tasks of Label Studio, and its JSON export as answers. It knows the formats and talks to no server."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from relgrade.audit.cases import Case
from relgrade.audit.guideline import Guideline
from relgrade.errors import InvalidData
from relgrade.formats.lines import parse_json

NAME = "relevance"  # of the control in the labelling interface


@dataclass(frozen=True, slots=True)
class ImportedAnswer:
    """One answer, or a skip, of an export."""

    annotator: str
    case: Case
    answer: int | None  # None: skipped
    seconds: float | None


def tasks(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """The tasks to import into a project: query and document under opaque names."""
    return [{"data": {"case": case.case, "query": case.query, "document": case.document}} for case in cases]


def labelling_interface(guideline: Guideline) -> str:
    """The XML that goes into the project's settings under "Labeling Interface"."""
    choices = "\n".join(
        f"    <Choice value={quoteattr(choice.name)} hotkey={quoteattr(str(choice.value))}/>"
        for choice in reversed(guideline.choices)
    )
    rules = "\n".join(f"  <Text name='rule{i}' value={quoteattr(part)}/>" for i, part in enumerate(_parts(guideline)))
    return (
        "<View>\n"
        f"{rules}\n"
        "  <Header value='Query'/>\n  <Text name='query' value='$query'/>\n"
        "  <Header value='Document'/>\n  <Text name='document' value='$document'/>\n"
        f"  <Choices name='{NAME}' toName='document' choice='single' showInline='true'>\n{choices}\n  </Choices>\n"
        "</View>\n"
    )


def read_export(path: Path, cases: Sequence[Case], guideline: Guideline) -> list[ImportedAnswer]:
    """Read the JSON export of a project, in full or as "JSON-MIN".

    Args:
        path: the file.
        cases: of the sample that was exported.
        guideline: names of the answers.

    Raises:
        InvalidData: not such an export, a task of another sample, or an answer of another interface.
    """
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidData(f"cannot be read: {(error.strerror or str(error)).lower()}", path=path) from error
    except ValueError as error:
        raise InvalidData(f"not a JSON export: {error}", path=path) from error
    if not isinstance(content, list) or not all(isinstance(task, dict) for task in content):
        raise InvalidData("a Label Studio export is a list of tasks", path=path)
    known, found = {case.case: case for case in cases}, []
    for number, task in enumerate(content, start=1):
        data = task.get("data") if isinstance(task.get("data"), dict) else task
        case = known.get(str(data.get("case")))
        if case is None:
            raise InvalidData(f"task {number} is about no case of this sample: {data.get('case')!r:.60}", path=path)
        for raw in _answers(task):
            found.append(_answer(raw, case, guideline, path=path, number=number))
    return found


def _answers(task: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if isinstance(task.get("annotations"), list):
        yield from (each for each in task["annotations"] if isinstance(each, dict))
    elif NAME in task:  # JSON-MIN: one row an annotation, the answer under the name of the control
        yield {
            "completed_by": task.get("annotator"),
            "lead_time": task.get("lead_time"),
            "result": [{"from_name": NAME, "value": {"choices": [task[NAME]]}}],
        }


def _answer(raw: Mapping[str, Any], case: Case, guideline: Guideline, *, path: Path, number: int) -> ImportedAnswer:
    names = {choice.name: choice.value for choice in guideline.choices}
    names |= {str(choice.value): choice.value for choice in guideline.choices}
    results = raw.get("result")
    chosen = [
        str(choice)
        for result in (results if isinstance(results, list) else [])
        if isinstance(result, dict) and result.get("from_name") == NAME
        for choice in result.get("value", {}).get("choices", [])
    ]
    seconds = raw.get("lead_time")
    seconds = float(seconds) if isinstance(seconds, int | float) and not isinstance(seconds, bool) else None
    if raw.get("was_cancelled") or not chosen:
        return ImportedAnswer(_person(raw.get("completed_by")), case, None, seconds)
    if len(chosen) > 1 or chosen[0] not in names:
        expected = ", ".join(choice.name for choice in guideline.choices)
        raise InvalidData(f"task {number}: one of {expected} was expected, got {chosen!r:.80}", path=path)
    return ImportedAnswer(_person(raw.get("completed_by")), case, names[chosen[0]], seconds)


def _person(value: Any) -> str:
    if isinstance(value, Mapping):
        value = value.get("email") or value.get("username") or value.get("id")
    return str(value).strip() if value not in (None, "") else "label-studio"


def _parts(guideline: Guideline) -> list[str]:
    return [" ".join(part.split()) for part in guideline.text.split("\n\n") if part.strip()]
