"""The rows that `relgrade evaluate` judges: from a file of pairs, of scores, or of predictions.

It knows files and fields, and nothing of models or measures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relgrade.bundle import CALIBRATION_QUERIES_NAME, Bundle, prints_from_bytes, query_print
from relgrade.errors import InvalidData, SplitLeak

if TYPE_CHECKING:
    from relgrade.evaluate.judgements import Judgements
    from relgrade.records import Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledRow:
    """One pair with its label, and what the file says of it."""

    query_id: str
    doc_id: str
    source: str | None
    label: float | None
    query: str | None = None
    document: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)  # of a file of scores: logit, probability, relevant
    line: int | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What names the pair."""
        return self.query_id, self.doc_id


def read_labelled_pairs(path: Path, *, split: str | None, cut: float | None) -> list[Pair]:
    """The pairs of a file; at least one.

    Raises:
        InvalidData: what `read_pairs` raises; no row; or copies that balancing made.
    """
    from relgrade.formats import read_pairs

    pairs = list(read_pairs(path, split=split, cut=1.0 if cut is None else cut))
    if not pairs:
        raise InvalidData("no pairs to evaluate", path=path)
    if any("copy" in pair.fields for pair in pairs):
        raise InvalidData("rows repeat each other (field `copy`): only training rows are ever balanced", path=path)
    return pairs


def rows_of_pairs(pairs: Iterable[Pair]) -> list[LabelledRow]:
    """The same pairs as rows."""
    return [
        LabelledRow(
            query_id=pair.query_id,
            doc_id=pair.doc_id,
            source=pair.source,
            label=pair.label,
            query=pair.query,
            document=pair.document,
            fields={**pair.fields, "split": pair.split},
        )
        for pair in pairs
    ]


def read_score_rows(path: Path) -> list[LabelledRow]:
    """The rows of a file of scores, which `relgrade score` or `relgrade grade` wrote.

    Raises:
        InvalidData: a line without ids or with a number that is none, a pair that stands twice, or an empty file.
    """
    from relgrade.formats.lines import read_json_rows

    rows: list[LabelledRow] = []
    seen: dict[tuple[str | None, str, str], int] = {}
    for row in read_json_rows(path):
        if isinstance(row, InvalidData):
            raise row
        found = _score_row(row.values, path, row.line)
        first = seen.setdefault((found.source, *found.key), row.line)
        if first != row.line:
            raise InvalidData(
                f"query {found.query_id!r} with document {found.doc_id!r} repeats line {first}",
                path=path,
                line=row.line,
            )
        rows.append(found)
    if not rows:
        raise InvalidData("no scores to evaluate", path=path)
    return rows


def join_scores(rows: Sequence[LabelledRow], scores: Sequence[LabelledRow], *, path: Path) -> list[LabelledRow]:
    """The rows with the values of the scores of the same pair.

    Raises:
        InvalidData: a row has no score.
    """
    by_pair = {row.key: row.values for row in scores}
    missing = [row for row in rows if row.key not in by_pair]
    if missing:
        raise InvalidData(
            f"{len(missing):,} of {len(rows):,} pairs have no score, the first query {missing[0].query_id!r} with "
            f"document {missing[0].doc_id!r}; score the same file with `relgrade score`",
            path=path,
        )
    return [_with_values(row, by_pair[row.key]) for row in rows]


def judgements_of(rows: Sequence[LabelledRow], *, by: Sequence[str], cut: float | None, path: Path) -> Judgements:
    """The columns that the report is made of.

    Raises:
        InvalidData: a label is missing, or neither 0 nor 1 and there is no cut.
    """
    import numpy as np

    from relgrade.evaluate.judgements import Judgements

    grades = [row.fields.get("grade") for row in rows]
    is_graded = all(isinstance(grade, int | float) and not isinstance(grade, bool) for grade in grades)
    has_texts = all(row.query is not None and row.document is not None for row in rows)
    return Judgements(
        labels=np.asarray(_labels(rows, grades if is_graded else None, cut, path)),
        query_ids=query_keys(rows),
        doc_ids=[row.doc_id for row in rows],
        queries=[str(row.query) for row in rows] if has_texts else None,
        documents=[str(row.document) for row in rows] if has_texts else None,
        grades=np.maximum(np.asarray(grades, dtype=np.float64), 0.0) if is_graded else None,
        fields={name: [field_of(row, name) for row in rows] for name in by},
    )


def query_keys(rows: Sequence[LabelledRow]) -> list[str]:
    """One id a query: with several sources, the source stands before it."""
    if len({row.source for row in rows}) < 2:
        return [row.query_id for row in rows]
    return [f"{row.source}/{row.query_id}" for row in rows]


def refuse_shared_queries(test: Iterable[LabelledRow], calibration: Iterable[LabelledRow]) -> None:
    """Raise SplitLeak when a query stands in both."""
    from relgrade.data.queries import query_key

    known = {query_key(row.query) for row in calibration if row.query is not None}
    shared = sorted({row.query for row in test if row.query is not None and query_key(row.query) in known})
    if shared:
        raise SplitLeak(
            f"{len(shared):,} queries stand in the test and in the calibration pairs, the first {shared[0][:80]!r}; "
            "a threshold is chosen on other queries than it is reported on: divide them with `relgrade pairs split`"
        )


def refuse_calibration_queries(test: Iterable[LabelledRow], bundle: Bundle) -> None:
    """Raise SplitLeak when a query is one of those that the bundle says it was calibrated on."""
    if CALIBRATION_QUERIES_NAME not in bundle.manifest.files:
        return
    known = prints_from_bytes(bundle.read_bytes(CALIBRATION_QUERIES_NAME))
    shared = sorted({row.query for row in test if row.query is not None and query_print(row.query) in known})
    if shared:
        raise SplitLeak(
            f"{len(shared):,} of the test queries calibrated the grader {bundle.manifest.name!r}, the first "
            f"{shared[0][:80]!r}; its thresholds were chosen on them: report on other queries"
        )


def _labels(
    rows: Sequence[LabelledRow], grades: Sequence[Any] | None, cut: float | None, path: Path
) -> Iterator[float] | list[float]:
    unlabelled = [row for row in rows if row.label is None]
    if unlabelled and (cut is None or grades is None):
        raise InvalidData(
            f"{len(unlabelled):,} of {len(rows):,} rows have no label, the first query {unlabelled[0].query_id!r} with "
            f"document {unlabelled[0].doc_id!r}; label them, or leave them out and say so",
            path=path,
        )
    if cut is not None:
        values = [row.label for row in rows] if grades is None else grades
        return [float(float(value or 0.0) >= cut) for value in values]
    graded = [row for row in rows if row.label not in (0.0, 1.0)]
    if graded:
        raise InvalidData(
            f"{len(graded):,} labels are neither 0 nor 1, the first {graded[0].label} for query "
            f"{graded[0].query_id!r}; say from where on a document is relevant: --cut 0.5",
            path=path,
        )
    return [float(row.label or 0.0) for row in rows]


def field_of(row: LabelledRow, name: str) -> Any:
    """What the row holds under a name, None where it holds nothing."""
    return row.source if name == "source" else row.fields.get(name)


def _with_values(row: LabelledRow, values: Mapping[str, Any]) -> LabelledRow:
    from dataclasses import replace

    return replace(row, values=values)


def _score_row(row: Mapping[str, Any], path: Path, line: int) -> LabelledRow:
    from relgrade.errors import InvalidInput
    from relgrade.formats.rows import DOC_ID_NAMES, QUERY_ID_NAMES, check_label, first_name

    names = (first_name(row, QUERY_ID_NAMES), first_name(row, (*DOC_ID_NAMES, "id")))
    if None in names:
        raise InvalidData(
            f"a score needs `query_id` and `doc_id`; the row has {', '.join(row)[:60]}", path=path, line=line
        )
    values = {name: row[name] for name in ("logit", "probability", "relevant") if row.get(name) is not None}
    for name in ("logit", "probability"):
        if name in values and (isinstance(values[name], bool) or not _is_number(values[name])):
            raise InvalidData(f"`{name}` must be a finite number, got {values[name]!r:.60}", path=path, line=line)
    if not 0.0 <= values.get("probability", 0.0) <= 1.0:
        raise InvalidData(
            f"`probability` must lie in [0, 1], got {values['probability']}; a logit goes under `logit`",
            path=path,
            line=line,
        )
    if not isinstance(values.get("relevant", False), bool):
        raise InvalidData(f"`relevant` must be true or false, got {values['relevant']!r:.60}", path=path, line=line)
    try:
        label = check_label(row.get("label"))
    except InvalidInput as error:
        raise InvalidData(str(error), path=path, line=line) from error
    texts = {name: row[name] if isinstance(row.get(name), str) else None for name in ("query", "document", "source")}
    known = {"logit", "probability", "relevant", "label", *texts, *map(str, names)}
    return LabelledRow(
        query_id=str(row[str(names[0])]),
        doc_id=str(row[str(names[1])]),
        label=label,
        fields={name: value for name, value in row.items() if name not in known},
        values=values,
        line=line,
        **texts,
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
