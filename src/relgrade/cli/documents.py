"""Documents for `relgrade grade --query`: text files, folders of them, JSON lines, or lines of stdin.

It reads and reports; it never guesses past what it read. What is skipped is counted and said.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import chain
from pathlib import Path
from typing import Any

from relgrade.cli.lines import STDIN, Line, open_bytes, parse_object, read_lines
from relgrade.errors import InvalidData
from relgrade.records import Document

TEXT_SUFFIXES = (".txt", ".md", ".markdown", ".rst")
HTML_SUFFIXES = (".html", ".htm")
JSONL_SUFFIXES = (".jsonl", ".ndjson")
KNOWN_SUFFIXES = TEXT_SUFFIXES + HTML_SUFFIXES + JSONL_SUFFIXES

MAX_FILE_BYTES = 64 * 2**20  # no model reads further into one document; a mistaken disk image must not fill the memory
MAX_REPLACED = 0.1  # share of characters that are not UTF-8 from which a file counts as binary

_TEXT_KEYS = ("text", "document", "passage", "contents")
_ID_KEYS = ("id", "_id", "doc_id", "docid")


@dataclass(slots=True)
class ReadReport:
    """What reading came upon: filled while `read_documents` runs."""

    skipped: Counter[str] = field(default_factory=Counter)  # reason -> files
    replaced: Counter[str] = field(default_factory=Counter)  # file -> characters that were not UTF-8
    bad_lines: int = 0
    notes: list[str] = field(default_factory=list)  # one line each, for stderr


BadLine = Callable[[InvalidData, Line], None]


def read_documents(sources: Sequence[str], report: ReadReport, *, on_bad_line: BadLine) -> Iterator[Document]:
    """Documents of all sources, in the order given; folders in the order of their paths.

    Args:
        sources: paths of files and folders, or `-` for stdin.
        report: is filled on the way.
        on_bad_line: called for each JSON line that is no document; it raises to stop there.

    Raises:
        InvalidData: a source is not there or cannot be read, or what `on_bad_line` raises.
    """
    for source in sources:
        if source == STDIN:
            yield from _read_stdin(report, on_bad_line)
        elif Path(source).is_dir():
            for path in walk(Path(source), report):
                if path.suffix.lower() not in KNOWN_SUFFIXES:
                    report.skipped["no text file by its name"] += 1
                    continue
                try:
                    yield from _read_file(path, report, on_bad_line)
                except PermissionError:
                    report.skipped["may not be read"] += 1
        else:
            try:
                yield from _read_file(Path(source), report, on_bad_line)
            except OSError as error:
                message = f"cannot be read: {(error.strerror or str(error)).lower()}"
                raise InvalidData(message, path=source) from error


def walk(folder: Path, report: ReadReport) -> Iterator[Path]:
    """Files under a folder in the order of their paths; hidden ones left out, a link to a folder already seen too."""
    seen = {_identity(folder)}
    stack = [folder]
    while stack:
        path = stack.pop()
        if not path.is_dir():
            if path.is_file():  # no sockets, pipes or links to nowhere
                yield path
            else:
                report.skipped["no regular file"] += 1
            continue
        try:
            children = sorted(child for child in path.iterdir() if not child.name.startswith("."))
        except OSError:
            report.skipped["folder may not be read"] += 1
            continue
        for child in reversed(children):
            if child.is_dir():
                identity = _identity(child)
                if identity in seen:
                    continue
                seen.add(identity)
            stack.append(child)


def _identity(folder: Path) -> tuple[int, int]:
    stat = folder.stat()
    return stat.st_dev, stat.st_ino


def _read_file(path: Path, report: ReadReport, on_bad_line: BadLine) -> Iterator[Document]:
    suffix = path.suffix.lower()
    if suffix in JSONL_SUFFIXES:
        with open_bytes(str(path)) as file:
            yield from _read_jsonl(read_lines(file, name=str(path)), str(path), report, on_bad_line)
        return
    with path.open("rb") as file:
        raw = file.read(MAX_FILE_BYTES + 1)
    if len(raw) > MAX_FILE_BYTES:
        raw = raw[:MAX_FILE_BYTES]
        report.notes.append(f"{path}: only the first {MAX_FILE_BYTES // 2**20} MB were read")
    text = decode(raw, str(path), report)
    if text is None:
        return
    if suffix in HTML_SUFFIXES:
        page = _Page()
        page.feed(text)
        page.close()
        yield Document(page.text, title=page.title, id=str(path))
    else:
        yield Document(text, id=str(path))


def decode(raw: bytes, name: str, report: ReadReport) -> str | None:
    """UTF-8 with U+FFFD for what is not, or None when the bytes are no text."""
    if b"\0" in raw:
        report.skipped["binary"] += 1
        return None
    text = raw.decode("utf-8-sig", errors="replace")
    n_replaced = text.count("\ufffd") - raw.count(b"\xef\xbf\xbd")
    if n_replaced > MAX_REPLACED * len(text):
        report.skipped["binary"] += 1
        return None
    if n_replaced:
        report.replaced[name] += n_replaced
    return text


def _read_stdin(report: ReadReport, on_bad_line: BadLine) -> Iterator[Document]:
    """One document a line: JSON objects when the first line is one, else plain text. Blank lines are no documents."""
    with open_bytes(STDIN) as file:
        rest = (line for line in read_lines(file, name=STDIN) if not line.is_blank)
        first = next(rest, None)
        if first is None:
            return
        lines = chain([first], rest)
        if first.raw.lstrip().startswith(b"{"):
            yield from _read_jsonl(lines, STDIN, report, on_bad_line)
            return
        for line in lines:
            text = decode(line.raw.rstrip(b"\r\n"), STDIN, report)
            if text is not None:
                yield Document(text, id=f"{STDIN}:{line.number}", metadata={"text": text})


def _read_jsonl(lines: Iterable[Line], name: str, report: ReadReport, on_bad_line: BadLine) -> Iterator[Document]:
    for line in lines:
        if line.is_blank:
            continue
        try:
            document = _document_of(parse_object(line, name=name), name, line.number)
        except InvalidData as error:
            report.bad_lines += 1
            on_bad_line(error, line)
            continue
        yield document


def _document_of(row: dict[str, Any], name: str, number: int) -> Document:
    text = next((row[key] for key in _TEXT_KEYS if key in row), None)
    if not isinstance(text, str):
        raise InvalidData(f"a field `text` with a string was expected, got {sorted(row)[:8]}", path=name, line=number)
    title = row.get("title")
    if title is not None and not isinstance(title, str):
        raise InvalidData(f"`title` must be a string, got {type(title).__name__}", path=name, line=number)
    identity = next((row[key] for key in _ID_KEYS if row.get(key) is not None), f"{name}:{number}")
    return Document(text, title=title, id=str(identity), metadata=row)


class _Page(HTMLParser):
    """The words of a page: no tags, scripts or styles."""

    _SILENT = frozenset({"script", "style", "template", "noscript"})
    _BLOCKS = frozenset(
        {"address", "article", "aside", "blockquote", "br", "dd", "div", "dt", "figcaption", "footer", "h1", "h2", "h3"}
        | {
            "h4",
            "h5",
            "h6",
            "header",
            "hr",
            "li",
            "main",
            "nav",
            "ol",
            "p",
            "pre",
            "section",
            "table",
            "td",
            "th",
            "tr",
        }
        | {"ul"}
    )

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._parts: list[str] = []
        self._title: list[str] = []
        self._inside: list[str] = []  # open silent elements, and the title

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self._SILENT or tag == "title":
            self._inside.append(tag)
        elif tag in self._BLOCKS:
            self._parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._inside:
            del self._inside[self._inside.index(tag) :]
        elif tag in self._BLOCKS:
            self._parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self._parts.append(data)
        elif self._inside[-1] == "title":
            self._title.append(data)

    @property
    def text(self) -> str:
        """Lines with words, one under the other."""
        lines = (" ".join(line.split()) for line in "".join(self._parts).splitlines())
        return "\n".join(line for line in lines if line)

    @property
    def title(self) -> str | None:
        """The page's title, None when it has none."""
        return " ".join("".join(self._title).split()) or None


def warnings_of(report: ReadReport) -> list[str]:
    """One line for each kind of thing that was skipped or repaired."""
    lines = list(report.notes)
    if report.skipped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(report.skipped.items()))
        lines.append(f"skipped {sum(report.skipped.values())} inputs: {reasons}")
    for name, count in sorted(report.replaced.items()):
        lines.append(f"{name}: {count} characters that are not UTF-8 were replaced")
    if report.bad_lines:
        lines.append(f"skipped {report.bad_lines} bad lines")
    return lines
