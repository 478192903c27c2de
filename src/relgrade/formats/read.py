"""One door to every format of pairs, and the checks that need more than one row."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from relgrade.errors import InvalidData, InvalidInput
from relgrade.formats.beir import is_beir_folder, read_beir_rows
from relgrade.formats.delimited import read_delimited_rows
from relgrade.formats.lines import Row, read_json_rows
from relgrade.formats.rows import pair_from_row
from relgrade.records import Pair

BadLine = Callable[[InvalidData], None]
DELIMITERS = {".csv": ",", ".tsv": "\t"}
JSON_SUFFIXES = (".jsonl", ".ndjson")


def read_pairs(
    path: Path | str,
    *,
    source: str | None = None,
    split: str | None = None,
    cut: float = 1,
    on_bad_line: BadLine | None = None,
) -> Iterator[Pair]:
    """Read pairs from a file or folder, chosen by its name; the names of the fields are those of `formats.rows`.

    Args:
        path: `.jsonl`, `.ndjson`, `.csv` or `.tsv`, each perhaps with `.gz`; `.parquet`; or a BEIR folder.
        source: name of the collection, in place of what rows say themselves.
        split: only rows of this split; None takes all.
        cut: BEIR only: relevant when score >= cut; the score is kept as field `grade`.
        on_bad_line: is told each line that is no pair, and reading goes on after it; None raises.

    Yields:
        Pairs in the order of the file.

    Raises:
        InvalidData: the file cannot be read, a line is no pair, repeats an earlier pair, or gives a known query id to
            another query; or the file has no row of `split`. A row may repeat a pair on purpose by a field `copy`
            that tells the copies apart, as oversampling does.
        MissingExtra: a parquet file without pyarrow.
    """
    path = Path(path)
    return checked_pairs(_open_rows(path, split, cut), source=source, split=split, on_bad_line=on_bad_line)


def checked_pairs(
    rows: Iterable[Row | InvalidData],
    *,
    source: str | None = None,
    split: str | None = None,
    on_bad_line: BadLine | None = None,
) -> Iterator[Pair]:
    """The pairs of rows, checked one by one and against each other; arguments as in `read_pairs`."""
    seen, splits = _Seen(), set()
    n_taken, last = 0, None
    for row in rows:
        try:
            if isinstance(row, InvalidData):
                raise row
            last = row
            pair = _pair(row, source)
            splits.add(pair.split)
            if split is not None and pair.split != split:
                continue
            seen.check(pair, row)
        except InvalidData as error:
            if on_bad_line is None:
                raise
            on_bad_line(error)
            continue
        n_taken += 1
        yield pair
    if last is not None and splits and not n_taken and split not in splits:
        found = ", ".join(sorted(name or "none" for name in splits))
        raise InvalidData(f"no row of split {split!r}; found: {found}", path=last.path)


def _open_rows(path: Path, split: str | None, cut: float) -> Iterator[Row | InvalidData]:
    if is_beir_folder(path):
        return read_beir_rows(path, split=split, cut=cut)
    if path.is_dir():
        raise InvalidData("a folder of pairs holds corpus.jsonl, queries.jsonl and qrels/ (BEIR)", path=path)
    if not path.exists():
        raise InvalidData("no such file", path=path)
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if suffix in JSON_SUFFIXES:
        return read_json_rows(path)
    if suffix in DELIMITERS:
        return read_delimited_rows(path, delimiter=DELIMITERS[suffix])
    if path.suffix.lower() == ".parquet":
        from relgrade.formats.parquet import read_parquet_rows  # asks for pyarrow

        return read_parquet_rows(path)
    raise InvalidData("pairs are read from .jsonl, .csv, .tsv (perhaps .gz), .parquet and BEIR folders", path=path)


def _pair(row: Row, source: str | None) -> Pair:
    try:
        return pair_from_row(row.values, source=source)
    except InvalidInput as error:
        raise InvalidData(str(error), path=row.path, line=row.line) from error


@dataclass(frozen=True, slots=True)
class _First:
    line: int
    label: float | None
    text_hash: int


@dataclass(frozen=True, slots=True)
class _Seen:
    """What earlier rows said of each query and each pair."""

    pairs: dict[tuple[object, ...], _First] = field(default_factory=dict)
    queries: dict[tuple[object, ...], _First] = field(default_factory=dict)

    def check(self, pair: Pair, row: Row) -> None:
        now = _First(row.line, pair.label, hash(" ".join(pair.query.split()).casefold()))
        first = self.queries.setdefault((pair.source, pair.query_id), now)
        if first.text_hash != now.text_hash:
            raise InvalidData(
                f"the query id {pair.query_id!r} stood for another query on line {first.line}",
                path=row.path,
                line=row.line,
            )
        # The same pair in two splits is a leak, which the leak check reports with the others.
        key = (pair.source, pair.split, pair.query_id, pair.doc_id, str(pair.fields.get("copy")))
        now = _First(row.line, pair.label, hash(pair.document))
        first = self.pairs.setdefault(key, now)
        if first is not now:
            raise InvalidData(_repeat_message(pair, first, now), path=row.path, line=row.line)


def _repeat_message(pair: Pair, first: _First, now: _First) -> str:
    what = f"query {pair.query_id!r} with document {pair.doc_id!r}"
    if first.text_hash != now.text_hash:
        return f"{what} has another text on line {first.line}; each passage needs a doc_id of its own"
    if first.label != now.label:
        return f"{what} has label {now.label} here and {first.label} on line {first.line}"
    return f"{what} repeats line {first.line}"
