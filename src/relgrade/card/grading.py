"""What the grader says of every list, and how long some lists took. A journal keeps it: killed, nothing is read twice.

Pairs are read in the order of their documents, so that a runtime that reads a text once for a call reads each document
once for many queries. Grades do not change by that, times would: they are measured list by list, on some questions.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade.card.cases import Case
from relgrade.errors import InvalidData
from relgrade.formats.journal import JsonlJournal
from relgrade.formats.lines import read_json_rows

Advance = Callable[[str, int, int | None], None]  # (stage, how many more, how many in all)
CHUNK_PAIRS = 512  # graded between two writes of the journal


@dataclass(frozen=True, slots=True)
class Compressed:
    """What compression leaves of a document."""

    text: str
    n_tokens: int  # with the title


@dataclass(frozen=True, slots=True)
class Reading:
    """What the grader says of the list of one question."""

    logits: NDArray[np.float64]  # (n_documents,)
    compressed: Mapping[int, Compressed]  # position in the list -> what is left, of those that the point keeps
    grade_ms: float | None  # to grade the list; None: not measured
    compress_ms: float | None  # to grade and compress it


def read_lists(
    cases: Sequence[Case],
    grader: Any,
    *,
    has_compression: bool = True,
    n_timed: int = 20,
    journal: Path | None = None,
    advance: Advance = lambda _stage, _n, _total: None,
) -> list[Reading]:
    """Grade the list of each case, and compress what the grader's point keeps.

    Args:
        cases: with their documents.
        grader: a `Grader`.
        has_compression: False: grade only.
        n_timed: cases whose list is read by itself with a clock, spread evenly.
        journal: `.jsonl` that whatever is finished is written to and read from, times too; it holds compressed texts.
            Rows of another bundle, point or text are passed over.
        advance: is told of progress in the stages time, grade (pairs) and compress.

    Raises:
        GradingError: no finite logit for a document.
        InvalidData: a line of the journal is no row of one.
        InvalidInput: another process writes the journal.
        OutputError: the journal cannot be written.
    """
    with ExitStack() as stack:
        opened = None if journal is None else stack.enter_context(JsonlJournal(journal, key="key"))
        known = _Known(opened)
        if journal is not None:
            known.read(journal)
        reader = _Reader(grader, known, has_compression)
        picked = [cases[i] for i in np.unique(np.linspace(0, len(cases) - 1, min(n_timed, len(cases))).astype(int))]
        for case in picked:
            reader.time(case)
            advance("time", 1, len(picked))
        reader.grade(cases, advance)
        if has_compression:
            for case in cases:
                reader.compress(case)
                advance("compress", 1, len(cases))
        return [reader.reading(case) for case in cases]


@dataclass(frozen=True, slots=True)
class _Known:
    """Rows by key, written down as they come."""

    journal: JsonlJournal | None
    rows: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def read(self, path: Path) -> None:
        for row in read_json_rows(path):
            if isinstance(row, InvalidData):
                raise row
            if not {"logit", "text", "grade_ms"} & row.values.keys():
                raise InvalidData("no row of a card's journal; name another folder", path=path, line=row.line)
            self.rows[str(row.values["key"])] = row.values

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        new = [row for row in rows if row["key"] not in self.rows]
        self.rows.update({row["key"]: row for row in new})
        if self.journal is not None and new:
            self.journal.append(new)


@dataclass(frozen=True, slots=True)
class _Reader:
    grader: Any
    known: _Known
    has_compression: bool

    def time(self, case: Case) -> None:
        """Read a list by itself, and keep what it says as well as how long it took."""
        texts = [document.text for document in case.documents]
        key = self._key("time", str(self.has_compression), case.query, *texts)
        if key in self.known.rows or not texts:
            return
        start = time.perf_counter()
        grades = list(self.grader.grade(case.query, texts))
        grade_ms = (time.perf_counter() - start) * 1000.0
        compress_ms, items = None, []
        if self.has_compression:
            start = time.perf_counter()
            items = list(self.grader.compress(case.query, texts))
            compress_ms = round((time.perf_counter() - start) * 1000.0, 3)
        self.known.add([self._graded(case, grade.index, grade) for grade in grades])
        self.known.add([self._compressed(case, item) for item in items])
        self.known.add([{"key": key, "grade_ms": round(grade_ms, 3), "compress_ms": compress_ms}])

    def grade(self, cases: Sequence[Case], advance: Advance) -> None:
        """Grade the pairs of all lists that are not known."""
        pairs = {(document.text, case.query): (case, i) for case in cases for i, document in enumerate(case.documents)}
        missing = sorted(
            pair for pair, (case, i) in pairs.items() if self._pair_key("logit", case, i) not in self.known.rows
        )
        n_all, n_missing = len(pairs), len(missing)
        advance("grade", n_all - n_missing, n_all)
        for start in range(0, n_missing, CHUNK_PAIRS):
            chunk = missing[start : start + CHUNK_PAIRS]
            grades = self.grader.grade_pairs([(query, text) for text, query in chunk], chunk_size=CHUNK_PAIRS)
            rows = [self._graded(*pairs[pair], grade) for pair, grade in zip(chunk, grades, strict=True)]
            self.known.add(rows)
            advance("grade", len(chunk), n_all)

    def compress(self, case: Case) -> None:
        """Compress what the point keeps of a list and is not known."""
        missing = [i for i in self._kept(case) if self._pair_key("text", case, i) not in self.known.rows]
        if missing:
            # What was kept is kept again: a grade depends on its own pair alone.
            items = self.grader.compress(case.query, [case.documents[i].text for i in missing])
            self.known.add([self._compressed(case, item) for item in items])

    def reading(self, case: Case) -> Reading:
        """What is known of a list."""
        rows = [self.known.rows[self._pair_key("logit", case, i)] for i in range(len(case.documents))]
        compressed = {}
        for i in self._kept(case) if self.has_compression else ():
            row = self.known.rows[self._pair_key("text", case, i)]
            compressed[i] = Compressed(row["text"], row["n_tokens"])
        texts = [document.text for document in case.documents]
        spent = self.known.rows.get(self._key("time", str(self.has_compression), case.query, *texts), {})
        logits = np.asarray([row["logit"] for row in rows], dtype=np.float64)
        return Reading(logits, compressed, spent.get("grade_ms"), spent.get("compress_ms"))

    def _kept(self, case: Case) -> Iterator[int]:
        for i in range(len(case.documents)):
            if self.known.rows[self._pair_key("logit", case, i)]["is_kept"]:
                yield i

    def _graded(self, case: Case, i: int, grade: Any) -> dict[str, Any]:
        return {"key": self._pair_key("logit", case, i), "logit": grade.logit, "is_kept": grade.relevant}

    def _compressed(self, case: Case, item: Any) -> dict[str, Any]:
        key = self._key("text", case.query, item.document)
        return {"key": key, "text": item.text, "n_tokens": item.tokens_after}

    def _pair_key(self, kind: str, case: Case, i: int) -> str:
        return self._key(kind, case.query, case.documents[i].text)

    def _key(self, kind: str, *texts: str) -> str:
        parts = [self.grader.bundle.hash, self.grader.operating_point.name, kind, *texts]
        return hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()[:32]
