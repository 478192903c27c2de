"""Queries from jsonl, csv, tsv, parquet, plain lines, or a BEIR folder."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade.candidates.tables import TABLE_SUFFIXES, read_table, table_suffix, take_id, take_text
from relgrade.encoding import clean_text
from relgrade.errors import InvalidData
from relgrade.formats.lines import Row, read_lines
from relgrade.formats.rows import query_id_of

LINE_SUFFIXES = (".txt",)
VECTOR_NAME = "vector"
_ID_NAMES = ("query_id", "qid", "_id", "id")
_TEXT_NAMES = ("query", "question", "text")

OnBad = Callable[[InvalidData], None]


@dataclass(frozen=True, slots=True)
class Query:
    """One question."""

    id: str
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)  # what else its row held
    vector: NDArray[np.float64] | None = None  # the caller's own, shape (dimension,)


def read_queries(path: Path | str, *, split: str | None = None, on_bad: OnBad | None = None) -> list[Query]:
    """Read queries, in the order of the file; one that was there before, id and text, is left out.

    Args:
        path: `.jsonl`, `.csv`, `.tsv` (perhaps `.gz`) or `.parquet` with `query` (or question, text), perhaps an id
            (`query_id`, `qid`, `_id`, `id`) and a `vector`; `.txt` with a query a line; or a BEIR folder.
        split: BEIR: only queries that `qrels/SPLIT.tsv` judges.
        on_bad: is told each line that is no query, and reading goes on; None raises.

    Raises:
        InvalidData: the file or a line cannot be read, an id stands for two texts, or there is no query at all.
        MissingExtra: a parquet file without pyarrow.
    """
    path = Path(path)
    wanted = None
    if path.is_dir():
        wanted = None if split is None else _judged(path, split)
        path = _beir_queries(path)
    elif split is not None:
        raise InvalidData("a split of queries is known in a BEIR folder alone", path=path)
    queries: dict[str, Query] = {}
    for item in _open(path):
        try:
            if isinstance(item, InvalidData):
                raise item
            query = _query_of(item)
            if wanted is not None and query.id not in wanted:
                continue
            if queries.setdefault(query.id, query).text != query.text:
                raise InvalidData(f"the id {query.id!r} stood for another query before", path=path, line=item.line)
        except InvalidData as error:
            if on_bad is None:
                raise
            on_bad(error)
    if not queries:
        raise InvalidData("no query in it", path=path)
    return list(queries.values())


def _open(path: Path) -> Iterator[Row | InvalidData]:
    suffix = table_suffix(path)
    if suffix in TABLE_SUFFIXES:
        return read_table(path, text_names=frozenset(_TEXT_NAMES))
    if suffix in LINE_SUFFIXES:
        return _plain_lines(path)
    raise InvalidData("queries are read from .jsonl, .csv, .tsv, .txt (perhaps .gz), .parquet, BEIR folders", path=path)


def _plain_lines(path: Path) -> Iterator[Row | InvalidData]:
    for line in read_lines(path):
        try:
            text = line.raw.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            yield InvalidData(f"not UTF-8 at byte {error.start + 1} of the line", path=path, line=line.number)
            continue
        if text:
            yield Row(path, line.number, {"query": text})


def _query_of(row: Row) -> Query:
    rest = dict(row.values)
    text = clean_text(take_text(rest, _TEXT_NAMES, row))
    if not text.strip():
        raise InvalidData("the query is blank", path=row.path, line=row.line)
    identity = take_id(rest, _ID_NAMES, row)
    vector = rest.pop(VECTOR_NAME, None)
    metadata = {str(name): value for name, value in rest.items() if value is not None}
    return Query(
        query_id_of(text) if identity is None else clean_text(identity),
        text,
        metadata,
        None if vector is None else _vector_of(vector, row),
    )


def _vector_of(value: Any, row: Row) -> NDArray[np.float64]:
    try:
        vector = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        vector = np.empty(0)
    if vector.ndim != 1 or not vector.size or not np.isfinite(vector).all():
        raise InvalidData(f"`{VECTOR_NAME}` must be a list of finite numbers", path=row.path, line=row.line)
    return vector


def _beir_queries(folder: Path) -> Path:
    for name in ("queries.jsonl", "queries.jsonl.gz"):
        if (folder / name).is_file():
            return folder / name
    raise InvalidData("a folder of queries holds queries.jsonl (BEIR)", path=folder)


def _judged(folder: Path, split: str) -> frozenset[str]:
    path = folder / "qrels" / f"{split}.tsv"
    return frozenset(line.raw.decode("utf-8", "replace").split("\t")[0] for line in read_lines(path))
