"""One door to every kind of corpus: tables, BEIR folders, folders of files, vector stores."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from tokenizers import Tokenizer

from relgrade.candidates.chunks import Chunker, page_of
from relgrade.candidates.file_text import FILE_SUFFIXES, MARKDOWN_SUFFIXES, read_file_text
from relgrade.candidates.passages import Entry
from relgrade.candidates.settings import FILE_CHUNK_TOKENS, CorpusSettings
from relgrade.candidates.stores import StoreLocation, read_store
from relgrade.candidates.tables import (
    ID_NAMES,
    TABLE_SUFFIXES,
    TEXT_NAMES,
    read_table,
    table_suffix,
    take_id,
    take_optional_text,
    take_text,
)
from relgrade.errors import InvalidData
from relgrade.formats.lines import Row
from relgrade.formats.read import JSON_SUFFIXES
from relgrade.formats.rows import document_id_of
from relgrade.records import Document

_SHARD_SUFFIXES = (*JSON_SUFFIXES, ".parquet")  # in a folder; a spreadsheet there is rarely a corpus

OnBad = Callable[[InvalidData], None]


@dataclass(slots=True)
class CorpusReport:
    """What reading came upon; filled while it runs."""

    n_files: int = 0
    bad: list[str] = field(default_factory=list)  # what was skipped, a line each
    unknown: Counter[str] = field(default_factory=Counter)  # suffix -> files of a folder that are no documents by name


def read_corpus(
    source: Path | str | StoreLocation,
    settings: CorpusSettings,
    *,
    report: CorpusReport,
    tokenizer: Tokenizer | None = None,
    on_bad: OnBad | None = None,
    has_vectors: bool = False,
) -> Iterator[Entry]:
    """Read a corpus in one order, always the same.

    Args:
        source: `.jsonl`, `.csv`, `.tsv` (perhaps `.gz`) or `.parquet` with a text, perhaps an id and a title; a BEIR
            folder; a folder of files of text, markdown, HTML, PDF, jsonl and parquet, or one of those; or where a
            vector store is.
        settings: names of fields, chunks, encoding.
        report: is filled on the way.
        tokenizer: measures chunks; needed where there are any.
        on_bad: is told each line or file that cannot be read, and reading goes on; None raises.
        has_vectors: take the store's vectors too.

    Yields:
        Documents with ids. Files come in chunks whose id is `path#start-end` and whose metadata are `path`, `start`,
        `end` in characters, `title`, and for PDF `page` and `last_page`.

    Raises:
        InvalidData: there is no such corpus, or a line or file of it is bad.
        MissingExtra: a reader is not installed.
    """
    problems = _Problems(report, on_bad)
    if isinstance(source, StoreLocation):
        found = problems.passed(read_store(source, settings, has_vectors=has_vectors))
        yield from _chunk_rows(found, settings, tokenizer)
        return
    path = Path(source)
    if not path.exists():
        raise InvalidData("no such file or folder", path=path)
    table = _beir_corpus(path) if path.is_dir() else path
    if table is not None and table_suffix(table) in TABLE_SUFFIXES:
        yield from _chunk_rows(_rows(table, settings, problems), settings, tokenizer)
    elif path.is_dir() or path.suffix.lower() in FILE_SUFFIXES:
        yield from _files(path, settings, tokenizer, problems)
    else:
        raise InvalidData(
            f"a corpus is a folder or a file of {', '.join((*TABLE_SUFFIXES, *FILE_SUFFIXES))}", path=path
        )


@dataclass(frozen=True, slots=True)
class _Problems:
    report: CorpusReport
    on_bad: OnBad | None

    def meet(self, error: InvalidData) -> None:
        """Raise the error, or tell it and let reading go on."""
        if self.on_bad is None:
            raise error
        self.report.bad.append(str(error))
        self.on_bad(error)

    def passed(self, items: Iterator[Entry | InvalidData]) -> Iterator[Entry]:
        """The entries among them."""
        for item in items:
            if isinstance(item, InvalidData):
                self.meet(item)
            else:
                yield item


def _rows(path: Path, settings: CorpusSettings, problems: _Problems) -> Iterator[Entry]:
    texts = TEXT_NAMES if settings.text_field is None else (settings.text_field,)
    ids = ID_NAMES if settings.id_field is None else (settings.id_field,)
    problems.report.n_files += 1
    for item in read_table(path, text_names=frozenset((*texts, *ids, settings.title_field or "title"))):
        try:
            if isinstance(item, InvalidData):
                raise item
            yield Entry(_document_of(item, texts, ids, settings.title_field or "title"))
        except InvalidData as error:
            problems.meet(error)


def _document_of(row: Row, texts: tuple[str, ...], ids: tuple[str, ...], title_name: str) -> Document:
    rest = dict(row.values)
    text = take_text(rest, texts, row)
    title = take_optional_text(rest, title_name, row)
    identity = take_id(rest, ids, row)
    metadata = {str(name): value for name, value in rest.items() if value is not None}
    # BEIR writes `"metadata": {}` on every line; one of their own is what a caller wants to see again, not its wrapper.
    inner = metadata.pop("metadata", {})
    metadata = {**inner, **metadata} if isinstance(inner, dict) else {**metadata, "metadata": inner}
    return Document(text, title=title, id=document_id_of(text) if identity is None else identity, metadata=metadata)


def _chunk_rows(entries: Iterator[Entry], settings: CorpusSettings, tokenizer: Tokenizer | None) -> Iterator[Entry]:
    if settings.chunk_tokens is None:
        yield from entries
        return
    chunker = _chunker(settings, tokenizer)
    for entry in entries:
        document = entry.document
        for chunk in chunker.cut(document.text):
            metadata = {**document.metadata, "document_id": document.id, "start": chunk.start, "end": chunk.end}
            identity = f"{document.id}#{chunk.start}-{chunk.end}"
            yield Entry(replace(document, text=chunk.text, id=identity, metadata=metadata))


def _files(root: Path, settings: CorpusSettings, tokenizer: Tokenizer | None, problems: _Problems) -> Iterator[Entry]:
    chunker: Chunker | None = None  # made for the first file: a folder of tables needs no splitter
    for path in _walk(root, problems):
        name = path.name if path == root else path.relative_to(root).as_posix()
        if table_suffix(path) in _SHARD_SUFFIXES:
            yield from _chunk_rows(_rows(path, settings, problems), settings, tokenizer)
            continue
        if path.suffix.lower() not in FILE_SUFFIXES:
            problems.report.unknown[path.suffix.lower() or "no suffix"] += 1
            continue
        problems.report.n_files += 1
        try:
            found = read_file_text(path, encoding=settings.encoding)
        except InvalidData as error:
            problems.meet(error)
            continue
        chunker = chunker or _chunker(settings, tokenizer)
        for chunk in chunker.cut(found.text, is_markdown=path.suffix.lower() in MARKDOWN_SUFFIXES):
            metadata = {"path": name, "start": chunk.start, "end": chunk.end}
            if found.title:
                metadata["title"] = found.title
            if found.page_starts:
                metadata["page"] = page_of(chunk.start, found.page_starts)
                metadata["last_page"] = page_of(chunk.end - 1, found.page_starts)
            yield Entry(Document(chunk.text, found.title, f"{name}#{chunk.start}-{chunk.end}", metadata))


def _walk(root: Path, problems: _Problems) -> Iterator[Path]:
    """Files under a folder in the order of their names; hidden ones left out, a linked folder seen once."""
    if not root.is_dir():
        yield root
        return
    stack, seen = [root], set()
    while stack:
        path = stack.pop()
        try:
            if not path.is_dir():
                if path.is_file():  # no sockets, pipes or links to nowhere
                    yield path
                continue
            status = path.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            stack += sorted((child for child in path.iterdir() if not child.name.startswith(".")), reverse=True)
        except OSError as error:
            problems.meet(InvalidData(f"cannot be read: {(error.strerror or str(error)).lower()}", path=path))


def _chunker(settings: CorpusSettings, tokenizer: Tokenizer | None) -> Chunker:
    if tokenizer is None:
        raise InvalidData("chunks are measured in tokens; an encoder with a tokenizer is needed")
    tokens = FILE_CHUNK_TOKENS if settings.chunk_tokens is None else settings.chunk_tokens
    return Chunker(tokenizer, max_tokens=tokens, overlap=settings.chunk_overlap)


def _beir_corpus(folder: Path) -> Path | None:
    for name in ("corpus.jsonl", "corpus.jsonl.gz"):
        if (folder / name).is_file():
            return folder / name
    return None
