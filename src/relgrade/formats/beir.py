"""A BEIR folder as rows: `corpus.jsonl`, `queries.jsonl` (or `.gz`) and `qrels/SPLIT.tsv`.

Layout: BEIR, Thakur et al. 2021, arXiv:2104.08663. Only judged documents are kept in memory, so that a corpus of
millions can be read for the few thousand that have a judgement.
"""

from collections.abc import Iterator
from pathlib import Path

from relgrade.errors import InvalidData, InvalidInput
from relgrade.formats.lines import Row, read_lines
from relgrade.formats.rows import grade_label, parse_score
from relgrade.formats.texts import read_texts

_HEADER = ["query-id", "corpus-id", "score"]


def is_beir_folder(path: Path) -> bool:
    """True for a folder that holds `qrels`."""
    return path.is_dir() and (path / "qrels").is_dir()


def read_beir_rows(path: Path, *, split: str | None, cut: float) -> Iterator[Row | InvalidData]:
    """One row per judgement; its line is that of the qrels file.

    Args:
        path: the folder.
        split: name of the one qrels file to read; None reads all in alphabetical order.
        cut: relevant when score >= cut; the score is kept as field `grade`.

    Raises:
        InvalidData: a file is missing or cannot be read; a line of corpus or queries is not a text with an id.
    """
    judgements = [item for file in _qrels_files(path, split) for item in _read_qrels(file, cut)]
    rows = [item for item in judgements if isinstance(item, Row)]
    queries = read_texts(_find(path, "queries"), wanted={row.values["query_id"] for row in rows})
    corpus = read_texts(_find(path, "corpus"), wanted={row.values["doc_id"] for row in rows})
    for item in judgements:
        if isinstance(item, InvalidData):
            yield item
            continue
        query, document = queries.get(item.values["query_id"]), corpus.get(item.values["doc_id"])
        if query is None or document is None:
            kind, name = ("query", "query_id") if query is None else ("document", "doc_id")
            yield InvalidData(f"no {kind} has the id {item.values[name]!r}", path=item.path, line=item.line)
            continue
        texts = {"query": query.text, "document": document.text, "title": document.title}
        yield Row(item.path, item.line, {**item.values, **texts})


def _qrels_files(path: Path, split: str | None) -> list[Path]:
    files = sorted((path / "qrels").glob("*.tsv"))
    chosen = [file for file in files if split is None or file.stem == split]
    if not chosen:
        found = ", ".join(file.stem for file in files) or "none"
        raise InvalidData(f"no qrels of split {split or 'any'}; found: {found}", path=path / "qrels")
    return chosen


def _read_qrels(path: Path, cut: float) -> Iterator[Row | InvalidData]:
    for line in read_lines(path):
        if not line.raw.strip():
            continue
        try:
            cells = line.raw.decode("utf-8").rstrip("\r\n").split("\t")
            if line.number == 1 and cells == _HEADER:
                continue
            if line.number == 1 or len(cells) != len(_HEADER):
                expected = "the header query-id, corpus-id, score" if line.number == 1 else "three cells"
                raise InvalidInput(f"{expected} was expected, got {cells[:4]!r}")
            values = {"query_id": cells[0], "doc_id": cells[1], "split": path.stem}
            yield Row(path, line.number, {**values, **grade_label(parse_score(cells[2]), cut=cut)})
        except UnicodeDecodeError as error:
            yield InvalidData(f"not UTF-8 at byte {error.start + 1} of the line", path=path, line=line.number)
        except InvalidInput as error:
            yield InvalidData(str(error), path=path, line=line.number)


def _find(folder: Path, name: str) -> Path:
    for suffix in (".jsonl", ".jsonl.gz"):
        if (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    raise InvalidData(f"a BEIR folder holds {name}.jsonl or {name}.jsonl.gz; neither is there", path=folder)
