"""The words of a file: plain text, markdown, HTML and PDF. Files are untrusted; nothing in them is run or fetched.

HTML needs beautifulsoup4 and PDF needs pypdf, the extra `corpus`; each is asked for when such a file is met.
"""

import codecs
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relgrade.errors import InvalidData, MissingExtra

MARKDOWN_SUFFIXES = (".md", ".markdown")
TEXT_SUFFIXES = (".txt", ".rst", ".text", *MARKDOWN_SUFFIXES)
HTML_SUFFIXES = (".html", ".htm", ".xhtml")
PDF_SUFFIXES = (".pdf",)
FILE_SUFFIXES = (*TEXT_SUFFIXES, *HTML_SUFFIXES, *PDF_SUFFIXES)

MAX_TEXT_BYTES = 64 * 2**20  # a mistaken log or dump must not fill the memory
MAX_PDF_BYTES = 512 * 2**20  # mostly pictures

_SILENT = ("script", "style", "template", "noscript", "head", "nav", "svg")
_BLOCKS = re.compile(r"^(address|article|aside|blockquote|br|d[dlt]|div|fig.*|h[1-6r]|header|footer|li|main|ol|p|pre)$")
_CELLS = re.compile(r"^(section|table|t[dhr]|ul)$")
_HEADING = re.compile(r"^#[ \t]+(.+?)[ \t#]*$", re.MULTILINE)
# Longest first: the mark of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True, slots=True)
class FileText:
    """What a file says."""

    text: str
    title: str | None = None
    page_starts: tuple[int, ...] = ()  # PDF: position in the text where each page begins, the first at 0


def read_file_text(path: Path, *, encoding: str | None = None) -> FileText:
    """Read a file by its suffix.

    Args:
        path: with one of `FILE_SUFFIXES`.
        encoding: of text that is not Unicode; None refuses it.

    Raises:
        InvalidData: it cannot be read, is too large, binary, of another encoding, damaged, encrypted, or a PDF of
            pictures.
        MissingExtra: what reads it is not installed.
    """
    suffix = path.suffix.lower()
    limit = MAX_PDF_BYTES if suffix in PDF_SUFFIXES else MAX_TEXT_BYTES
    try:
        size = path.stat().st_size
        if size > limit:
            raise InvalidData(f"{size / 2**20:.0f} MB, at most {limit // 2**20} are read; divide it", path=path)
        if suffix in PDF_SUFFIXES:
            return _read_pdf(path)
        raw = path.read_bytes()
    except OSError as error:
        raise InvalidData(f"cannot be read: {(error.strerror or str(error)).lower()}", path=path) from error
    if suffix in HTML_SUFFIXES:
        return _read_html(raw, path, encoding)
    text = _decode(raw, path, encoding)
    heading = _HEADING.search(text) if suffix in MARKDOWN_SUFFIXES else None
    return FileText(text, title=heading.group(1) if heading else None)


def _decode(raw: bytes, path: Path, encoding: str | None) -> str:
    name = next((name for mark, name in _MARKS if raw.startswith(mark)), "utf-8")
    if name == "utf-8" and b"\0" in raw:
        raise InvalidData("is binary, a text was expected", path=path)
    try:
        text = raw.decode(name)
    except UnicodeDecodeError as error:
        if encoding is None:
            message = f"not {name} at byte {error.start + 1}; save it as UTF-8, or name its encoding (encoding=)"
            raise InvalidData(message, path=path) from error
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError as second:
            message = f"neither UTF-8 nor {encoding} at byte {second.start + 1}"
            raise InvalidData(message, path=path) from second
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _read_html(raw: bytes, path: Path, encoding: str | None) -> FileText:
    try:
        from bs4 import BeautifulSoup
        from bs4.dammit import EncodingDetector
    except ImportError as error:
        raise MissingExtra("beautifulsoup4", extra="corpus", purpose=f"read {path.name}") from error
    # What a page says of itself goes before what the caller says of files that say nothing.
    declared = EncodingDetector.find_declared_encoding(raw, is_html=True)
    try:
        markup = _decode(raw, path, declared if _is_known(declared) else encoding)
        soup = BeautifulSoup(markup, "html.parser")
        title = soup.title.get_text() if soup.title else None
        for element in soup.find_all(_SILENT):
            element.decompose()
        for pattern in (_BLOCKS, _CELLS):
            for element in soup.find_all(pattern):
                element.insert_before("\n")
                element.append("\n")
        words = soup.get_text()
    except RecursionError as error:
        raise InvalidData("nested too deep to be a page", path=path) from error
    lines = (" ".join(line.split()) for line in words.splitlines())
    return FileText("\n".join(line for line in lines if line), title=" ".join((title or "").split()) or None)


def _is_known(encoding: str | None) -> bool:
    try:
        return encoding is not None and "".encode(encoding) == b""
    except LookupError:  # none of text, such as base64, too
        return False


def _read_pdf(path: Path) -> FileText:
    try:
        import pypdf
    except ImportError as error:
        raise MissingExtra("pypdf", extra="corpus", purpose=f"read {path.name}") from error
    logger = logging.getLogger("pypdf")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # it reports each oddity of a file to stderr, in the middle of a progress bar
    try:
        with path.open("rb") as file:
            reader = pypdf.PdfReader(file)
            if reader.is_encrypted and not reader.decrypt(""):
                raise InvalidData("is encrypted; save it without a password", path=path)
            pages = [page.extract_text() for page in reader.pages]
            title: Any = reader.metadata.get("/Title") if reader.metadata else None
    except InvalidData:
        raise
    except (Exception, RecursionError) as error:  # a damaged file may raise anything here
        raise InvalidData(f"cannot be read as PDF: {type(error).__name__}: {error}"[:300], path=path) from error
    finally:
        logger.setLevel(level)
    if not any(page.strip() for page in pages):
        raise InvalidData(f"no text on its {len(pages)} pages; pictures of text need OCR first", path=path)
    starts, position = [], 0
    for page in pages:
        starts.append(position)
        position += len(page) + 1
    return FileText("\n".join(pages), " ".join(title.split()) if isinstance(title, str) else None, tuple(starts))
