"""What people answered: an append-only file of actions, and the answers that stand after all of them.

A row is one action of one person: an answer, a skip, an undo of their last action, or a second look at what they
skipped. Nothing is ever rewritten, so a killed process loses no answer, and the file tells how each came about.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args

from relgrade.audit.cases import Case
from relgrade.errors import InvalidData, InvalidInput
from relgrade.formats.journal import JsonlJournal
from relgrade.formats.lines import parse_json, read_lines

Action = Literal["answer", "skip", "undo", "revisit"]
SKIPPED = None
MAX_ANSWER = 3
_CSV_ADVICE = (
    "; answers are JSON lines with `query_id`, `doc_id` and `label`: `relgrade pairs convert` makes them of a csv that "
    "has columns `query` and `document` too"
)
_ABOUT = ("sample", "queue", "query_id", "doc_id", "source")


@dataclass(frozen=True, slots=True)
class Annotation:
    """An answer that stands."""

    annotator: str
    answer: int  # 0 or 1, or a grade from 0 to 3
    scale: str  # "binary" or "graded"
    case: str | None = None  # opaque name; the key knows whose it is
    sample: str | None = None
    queue: str | None = None
    query_id: str | None = None
    doc_id: str | None = None
    source: str | None = None
    seconds: float | None = None  # the person took


@dataclass(slots=True)
class Desk:
    """What one person has done: `done` maps a case to the answer, or to `SKIPPED`."""

    done: dict[str, Annotation | None] = field(default_factory=dict)
    _past: list[dict[str, Annotation | Literal["open"] | None]] = field(default_factory=list)

    @property
    def answers(self) -> list[Annotation]:
        """Those that stand, in the order of their cases' first answer."""
        return [answer for answer in self.done.values() if answer is not None]

    @property
    def n_skipped(self) -> int:
        """Cases put aside."""
        return sum(answer is None for answer in self.done.values())

    @property
    def can_undo(self) -> bool:
        """True when there is an action to take back."""
        return bool(self._past)

    def put(self, case: str, answer: Annotation | None) -> None:
        """Answer a case, or skip it."""
        self._past.append({case: self.done.get(case, "open")})
        self.done[case] = answer

    def undo(self) -> None:
        """Take back the last action; without one nothing happens."""
        for case, before in self._past.pop().items() if self._past else ():
            if before == "open":
                del self.done[case]
            else:
                self.done[case] = before

    def revisit(self) -> None:
        """Take up again what was skipped."""
        skipped = [case for case, answer in self.done.items() if answer is None]
        self._past.append(dict.fromkeys(skipped, SKIPPED))
        for case in skipped:
            del self.done[case]


class AnnotationLog:
    """The file of actions, open for more. A context manager; not for several threads.

    Args:
        path: `.jsonl`, made when it is not there, taken up where it ends.

    Raises:
        InvalidData: a finished line is no action.
        InvalidInput: another process writes the file.
        OutputError: it cannot be opened for writing.
    """

    def __init__(self, path: Path | str) -> None:
        self._journal = JsonlJournal(path)
        try:
            self.desks = _replay(_rows(Path(path)), Path(path))
        except BaseException:
            self._journal.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._journal.close()

    def desk(self, annotator: str) -> Desk:
        """What a person has done so far."""
        return self.desks.setdefault(annotator, Desk())

    def append(
        self,
        annotator: str,
        action: Action,
        *,
        case: Case | None = None,
        answer: int | None = None,
        scale: str = "binary",
        seconds: float | None = None,
    ) -> None:
        """Write an action and do it; when this returns the disk has it.

        Args:
            annotator: who.
            action: what; `answer` and `skip` need a case, `answer` an answer.
            case: the pair in question.
            answer: 0 or 1, or a grade.
            scale: of the answer.
            seconds: the person took.

        Raises:
            OutputError: the disk is full or gone; the action is not counted until the file is opened again, if at all.
        """
        row: dict[str, Any] = {"id": self._journal.rows, "at": datetime.now(UTC).isoformat(timespec="seconds")}
        row |= {"annotator": annotator, "action": action}
        if case is not None:
            row["case"] = case.case
            row |= {name: getattr(case, name) for name in _ABOUT if getattr(case, name) is not None}
        if action == "answer":
            row |= {"answer": answer, "scale": scale}
        if seconds is not None:
            row["seconds"] = round(seconds, 2)
        _act({}, row)  # refuses what could not be read back
        self._journal.append([row])
        self._journal.sync()
        _act(self.desks, row)


def read_annotations(path: Path | str) -> list[Annotation]:
    """The answers that stand in a file, whether or not its last line was finished.

    Rows of pairs that people labelled elsewhere are taken too: `query_id`, `doc_id` and `label` (0 or 1) or `grade`
    (0 to 3), with `annotator` where several people did.

    Raises:
        InvalidData: a line that is neither.
    """
    path = Path(path)
    desks = _replay(_rows(path), path)
    return [answer for desk in desks.values() for answer in desk.answers]


def _rows(path: Path) -> Iterable[tuple[int, Any]]:
    for line in read_lines(path):
        if not line.raw.endswith(b"\n"):
            try:
                json.loads(line.raw)
            except ValueError:  # torn by a kill, or being written at this moment
                return
        if line.raw.strip():
            try:
                yield line.number, parse_json(line.raw.decode("utf-8"))
            except ValueError as error:
                advice = _CSV_ADVICE if {".csv", ".tsv"}.intersection(path.suffixes) else ""
                raise InvalidData(f"not JSON: {error}{advice}", path=path, line=line.number) from error


def _replay(rows: Iterable[tuple[int, Any]], path: Path) -> dict[str, Desk]:
    desks: dict[str, Desk] = {}
    for number, row in rows:
        try:
            if not isinstance(row, Mapping):
                raise InvalidInput(f"a JSON object was expected, got {type(row).__name__}")
            _act(desks, row if "action" in row else _judgement(row))
        except InvalidInput as error:
            raise InvalidData(str(error), path=path, line=number) from error
    return desks


def _act(desks: dict[str, Desk], row: Mapping[str, Any]) -> None:
    annotator, action = row.get("annotator"), row["action"]
    if not isinstance(annotator, str) or not annotator.strip():
        raise InvalidInput(f"`annotator` must name somebody, got {annotator!r:.60}")
    if action not in get_args(Action):
        raise InvalidInput(f"`action` must be one of {', '.join(get_args(Action))}, got {action!r:.60}")
    desk = desks.setdefault(annotator, Desk())
    if action == "undo":
        desk.undo()
    elif action == "revisit":
        desk.revisit()
    else:
        name = row.get("case") or json.dumps([row.get("source"), row.get("query_id"), row.get("doc_id")])
        desk.put(str(name), SKIPPED if action == "skip" else _annotation(annotator, row))


def _annotation(annotator: str, row: Mapping[str, Any]) -> Annotation:
    answer, scale = row.get("answer"), row.get("scale", "binary")
    highest = {"binary": 1, "graded": MAX_ANSWER}.get(str(scale))
    if highest is None or isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer <= highest:
        found = f"{answer!r:.40} on scale {scale!r:.40}"
        raise InvalidInput(f"an answer is 0 or 1 (binary), or 0 to {MAX_ANSWER} (graded), got {found}")
    names = {name: row.get(name) for name in ("case", *_ABOUT)}
    if any(value is not None and not isinstance(value, str) for value in names.values()):
        raise InvalidInput(f"the names of a case must be texts, got {names}"[:200])
    if names["case"] is None and (names["query_id"] is None or names["doc_id"] is None):
        raise InvalidInput("an answer names a `case`, or a `query_id` and a `doc_id`")
    seconds = row.get("seconds")
    return Annotation(
        annotator, answer, str(scale), seconds=float(seconds) if isinstance(seconds, int | float) else None, **names
    )


def _judgement(row: Mapping[str, Any]) -> dict[str, Any]:
    """The action that a labelled pair stands for."""
    graded = row.get("grade") is not None
    value = row.get("grade") if graded else row.get("label")
    if not isinstance(value, int | float) or value != int(value):
        raise InvalidInput(f"people's labels are 0 or 1, or grades from 0 to {MAX_ANSWER}, got {value!r:.40}")
    about = {name: row.get(name) for name in ("query_id", "doc_id", "source")}
    about = {name: value if value is None else str(value) for name, value in about.items()}
    answer = {"answer": int(value), "scale": "graded" if graded else "binary"}
    return {"action": "answer", "annotator": row.get("annotator", "people"), **answer, **about}
