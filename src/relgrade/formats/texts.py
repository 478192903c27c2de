"""Collections of queries or documents: an id and a text a line, as JSON lines or as tab separated values."""

from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any

from relgrade.errors import InvalidData
from relgrade.formats.lines import Row, read_json_rows, read_lines
from relgrade.records import Document

_ID_NAMES = ("_id", "id", "query_id", "doc_id", "qid", "docid")
_TEXT_NAMES = ("text", "contents", "document", "passage", "query")


def read_texts(path: Path, *, wanted: Set[str]) -> dict[str, Document]:
    """The wanted texts by id; others are read over and not kept.

    Args:
        path: `.jsonl` with an id (`_id`, `id`, `query_id`, `doc_id`, `qid`, `docid`), a text (`text`, `contents`,
            `document`, `passage`, `query`) and perhaps a `title`; or `.tsv` with id, tab, text and no quoting.
            Either may end in `.gz`.
        wanted: ids to keep.

    Raises:
        InvalidData: the file or a line of it cannot be read, or a wanted id has two different texts.
    """
    kind = Path(path.name.removesuffix(".gz")).suffix
    if kind not in (".jsonl", ".ndjson", ".tsv"):
        raise InvalidData("texts are read from .jsonl and .tsv, perhaps .gz", path=path)
    texts: dict[str, Document] = {}
    for row in _read_tsv(path) if kind == ".tsv" else _read_jsonl(path):
        identity = row.values["id"]
        if identity not in wanted:
            continue
        document = Document(row.values["text"], title=row.values["title"], id=identity)
        if texts.setdefault(identity, document) != document:
            raise InvalidData(f"the id {identity!r} stands for two different texts", path=path, line=row.line)
    return texts


def _read_jsonl(path: Path) -> Iterator[Row]:
    for item in read_json_rows(path):
        if isinstance(item, InvalidData):
            raise item
        identity, text = _first(item.values, _ID_NAMES), _first(item.values, _TEXT_NAMES)
        title = item.values.get("title")
        if isinstance(identity, bool) or not isinstance(identity, str | int):
            raise InvalidData(f"an id was expected under one of {', '.join(_ID_NAMES)}", path=path, line=item.line)
        if not isinstance(text, str) or not isinstance(title, str | None):
            raise InvalidData("`text`, and `title` where there is one, must be texts", path=path, line=item.line)
        yield Row(path, item.line, {"id": str(identity), "text": text, "title": title})


def _read_tsv(path: Path) -> Iterator[Row]:
    for line in read_lines(path):
        if not line.raw.strip():
            continue
        try:
            identity, tab, text = line.raw.decode("utf-8").rstrip("\r\n").partition("\t")
        except UnicodeDecodeError as error:
            message = f"not UTF-8 at byte {error.start + 1} of the line"
            raise InvalidData(message, path=path, line=line.number) from error
        if not tab or not identity.strip():
            raise InvalidData("an id, a tab and a text were expected", path=path, line=line.number)
        yield Row(path, line.number, {"id": identity.strip(), "text": text, "title": None})


def _first(values: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((values[name] for name in names if values.get(name) is not None), None)
