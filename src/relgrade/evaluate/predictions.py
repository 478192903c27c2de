"""Verdicts from a table of `true` and `pred`: what another tool, or a paper, has already decided.

true,pred[,query_id][,probability]
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relgrade.errors import InvalidData
from relgrade.evaluate.judgements import Contender, Judgements
from relgrade.formats.lines import read_lines
from relgrade.formats.rows import QUERY_ID_NAMES

_WORDS = {"0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0, "0.0": 0.0, "1.0": 1.0}


@dataclass(frozen=True, slots=True)
class Predictions:
    """A table of predictions."""

    judgements: Judgements  # the labels, with query ids where the table has them
    contender: Contender  # the verdicts, with probabilities where the table has them


def read_predictions(path: Path | str, *, name: str | None = None, block_length: int | None = None) -> Predictions:
    """Read a csv file (perhaps .gz) with a header.

    Args:
        path: columns `true` and `pred`, each 0, 1, true or false; perhaps `query_id` (or `qid`) and `probability`.
            Other columns are passed over.
        name: of whoever predicted; None takes the file's.
        block_length: rows that stand in for a query where there are no ids; None takes `default_block_length`.

    Raises:
        InvalidData: a column is missing, a cell holds something else, or there is no row; names the line.
    """
    path = Path(path)
    rows = list(_rows(path))
    if not rows:
        raise InvalidData("a header and no predictions below it", path=path)
    has_ids, has_probabilities = "query_id" in rows[0], "probability" in rows[0]
    judgements = Judgements(
        labels=np.asarray([row["true"] for row in rows]),
        query_ids=[row["query_id"] for row in rows] if has_ids else None,
        block_length=block_length,
    )
    contender = Contender(
        name=name or path.name,
        kind="predictions",
        is_kept=np.asarray([row["pred"] for row in rows]),
        probabilities=np.asarray([row["probability"] for row in rows]) if has_probabilities else None,
    )
    return Predictions(judgements, contender)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    lines = (line.raw.decode("utf-8", "replace") for line in read_lines(path))
    reader = csv.DictReader(lines, strict=True)
    header = [str(each).strip() for each in reader.fieldnames or []]
    reader.fieldnames = header
    for needed in ("true", "pred"):
        if needed not in header:
            found = ", ".join(header)[:60] or "nothing"
            raise InvalidData(
                f"predictions need the columns `true` and `pred`; the header has {found}", path=path, line=1
            )
    id_name = next((name for name in QUERY_ID_NAMES if name in header), None)
    try:
        for cells in reader:
            yield _row(cells, id_name, path, reader.line_num)
    except csv.Error as error:
        raise InvalidData(f"not a row: {error}", path=path, line=reader.line_num) from error


def _row(cells: Mapping[str | None, Any], id_name: str | None, path: Path, line: int) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name in ("true", "pred"):
        value = _WORDS.get(str(cells[name]).strip().lower())
        if value is None:
            raise InvalidData(f"`{name}` must be 0 or 1, got {cells[name]!r:.60}", path=path, line=line)
        row[name] = value
    if id_name is not None:
        row["query_id"] = str(cells[id_name] or "").strip()
        if not row["query_id"]:
            raise InvalidData(
                f"`{id_name}` is empty; give every row one, or leave the column out", path=path, line=line
            )
    if "probability" in cells:
        row["probability"] = _probability(cells["probability"], path, line)
    return row


def _probability(cell: Any, path: Path, line: int) -> float:
    try:
        value = float(cell)
    except (TypeError, ValueError):
        value = float("nan")
    if not 0.0 <= value <= 1.0:  # NaN fails
        raise InvalidData(f"`probability` must lie in [0, 1], got {cell!r:.60}", path=path, line=line)
    return value
