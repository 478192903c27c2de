"""The documents of a corpus on disk, one JSON line each, for reading by row number; memory holds two numbers a row.

A corpus comes from archives, pages and servers that cannot be read from the middle; written down once, it can.
"""

import hashlib
import json
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from relgrade.encoding import clean_text
from relgrade.errors import InvalidData, InvalidInput, OutputError
from relgrade.formats.lines import dump_json
from relgrade.formats.rows import with_title
from relgrade.records import Document


@dataclass(frozen=True, slots=True)
class Entry:
    """One document as its source gives it."""

    document: Document  # with an id
    vector: NDArray[np.float32] | None = None  # the source's own, shape (dimension,)


@dataclass(frozen=True, slots=True)
class Passage:
    """One document of the corpus."""

    doc_id: str
    text: str  # what a model reads, a known title in its first line
    metadata: Mapping[str, Any]


class PassageStore:
    """Documents by row. A context manager; the file is removed at the end.

    Args:
        path: the file to write; one that is there is replaced.

    Attributes:
        n_blank: documents without text that were left out: nothing in them can answer.
        n_repeated: documents whose id and text came before.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.n_blank = self.n_repeated = 0
        self._starts = array("q", [0])
        self._keys = array("q")
        self._row_of: dict[str, int] = {}
        self._hash = hashlib.sha256()
        try:
            self._file: IO[bytes] = path.open("w+b")
        except OSError as error:
            raise OutputError.from_os_error(error, path=path) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, entry: Entry) -> int | None:
        """Write a document down; its row, or None when it is blank or a repetition.

        Raises:
            InvalidInput: no id, or metadata that JSON cannot hold.
            InvalidData: the id stood for another text before.
            OutputError: the disk is full.
        """
        document = entry.document
        if not document.id:
            raise InvalidInput("a document of a corpus needs an id")
        text = with_title(clean_text(document.text), document.title) if document.text.strip() else ""
        if not text:
            self.n_blank += 1
            return None
        doc_id, key = clean_text(document.id), _text_key(text)
        first = self._row_of.setdefault(doc_id, len(self))
        if first < len(self):
            if self._keys[first] != key:
                raise InvalidData(f"the id {doc_id!r} stands for two different texts")
            self.n_repeated += 1
            return None
        self._write(doc_id, text, document.metadata)
        self._keys.append(key)
        return first

    def _write(self, doc_id: str, text: str, metadata: Mapping[str, Any]) -> None:
        try:
            line = dump_json([doc_id, text, dict(metadata)]).encode("utf-8") + b"\n"
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"metadata of document {doc_id!r} holds what JSON cannot: {error}") from error
        try:
            self._file.write(line)
        except OSError as error:
            raise OutputError.from_os_error(error, path=self.path) from error
        self._hash.update(line)
        self._starts.append(self._starts[-1] + len(line))

    def close_writing(self) -> None:
        """Hand what is written to the system; reading may begin.

        Raises:
            OutputError: the disk is full.
        """
        self._row_of.clear()
        try:
            self._file.flush()
        except OSError as error:
            raise OutputError.from_os_error(error, path=self.path) from error

    def read(self, row: int) -> Passage:
        """The document of a row."""
        self._file.seek(self._starts[row])
        return Passage(*json.loads(self._file.read(self._starts[row + 1] - self._starts[row])))

    def texts(self) -> Iterator[str]:
        """All texts in order; nothing else may be read meanwhile."""
        self._file.seek(0)
        for line in self._file:
            yield json.loads(line)[1]

    @property
    def text_keys(self) -> NDArray[np.int64]:
        """A number per row, equal for texts that differ in spaces and case alone, shape (n_rows,)."""
        return np.frombuffer(self._keys, np.int64) if self._keys else np.empty(0, np.int64)

    @property
    def sha256(self) -> str:
        """Of ids, texts and metadata in order: the same corpus has the same."""
        return self._hash.hexdigest()


def _text_key(text: str) -> int:
    folded = " ".join(text.split()).casefold()
    return int.from_bytes(hashlib.blake2b(folded.encode("utf-8"), digest_size=8).digest(), "little", signed=True)
