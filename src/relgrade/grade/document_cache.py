"""Documents that were read before: in memory, and in a folder that outlives the process and is shared by others.

A key is a hash of the text and of all that decides its states, so a changed bundle or text is another document. The
cache is never needed: whatever goes wrong with the folder is told once, in the log, and the document is read again.
"""

import hashlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relgrade.errors import InvalidInput, OutputError
from relgrade.grade.document_states import DamagedRecord, DocumentStates
from relgrade.grade.document_store import FILE_NAME, DocumentStore, Row, StoreFailed
from relgrade.grade.store_file import remove_file

DEFAULT_MEMORY_BYTES = 256_000_000  # about 3,000 documents of 220 tokens
RETRY_S = 60.0  # until a folder that failed is tried again

_logger = logging.getLogger("relgrade.grade")


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What one process asked of a cache, in distinct documents of a call, and what its memory holds."""

    n_memory_hits: int
    n_disk_hits: int
    n_misses: int
    n_damaged: int  # records whose bytes had changed; counted as misses too
    n_documents: int  # in memory
    n_bytes: int  # in memory

    @property
    def hit_ratio(self) -> float | None:
        """Share of lookups that found their document, in [0, 1]; None before the first."""
        n_hits = self.n_memory_hits + self.n_disk_hits
        return n_hits / (n_hits + self.n_misses) if n_hits + self.n_misses else None

    @property
    def bytes_per_document(self) -> float:
        """Of those in memory; 0 where there is none."""
        return self.n_bytes / self.n_documents if self.n_documents else 0.0


class DocumentCache:
    """Document states by text. Safe to share between threads and between graders of different bundles.

    Args:
        folder: keeps documents beyond this process, see `DocumentStore`; None: memory alone.
        memory_bytes: of the records in memory; the least recently used make room. 0 keeps none there.
        disk_bytes: bound of the folder; None: the folder's own.

    Raises:
        InvalidInput: a bound is out of range, or neither memory nor a folder may hold anything.
        OutputError: the folder cannot be made, or is a file.
    """

    def __init__(
        self,
        folder: Path | str | None = None,
        *,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
        disk_bytes: int | None = None,
    ) -> None:
        if isinstance(memory_bytes, bool) or memory_bytes < 0:
            raise InvalidInput(f"memory_bytes must be >= 0, got {memory_bytes!r}")
        if folder is None and (memory_bytes == 0 or disk_bytes is not None):
            raise InvalidInput("a document cache without a folder lives in memory: leave disk_bytes out, give it bytes")
        self._memory_bytes = memory_bytes
        self._memory: OrderedDict[bytes, DocumentStates] = OrderedDict()
        self._held_bytes = 0
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(("memory", "disk", "miss", "damaged"), 0)
        self._folder = None if folder is None else Path(folder)
        self._disk_bytes = disk_bytes
        self._store: DocumentStore | None = None
        self._retry_at_s = 0.0
        self._told: set[str] = set()
        if self._folder is not None:
            self._store = self._open(self._folder)

    @property
    def folder(self) -> Path | None:
        """Where documents are kept beyond this process."""
        return self._folder

    @property
    def stats(self) -> CacheStats:
        """Counted since this cache was made."""
        with self._lock:
            n = self._counts
            return CacheStats(n["memory"], n["disk"], n["miss"], n["damaged"], len(self._memory), self._held_bytes)

    def get(self, space: str, texts: Iterable[str]) -> dict[str, DocumentStates]:
        """Those that are known.

        Args:
            space: names what decides the states of a text, see `space_of`.
            texts: rendered and clean; a repeated one is looked up once.
        """
        keys = {text: document_key(space, text) for text in texts}
        found: dict[str, DocumentStates] = {}
        with self._lock:
            for text, key in keys.items():
                if key in self._memory:
                    self._memory.move_to_end(key)
                    found[text] = self._memory[key]
            self._counts["memory"] += len(found)
        missing = {key: text for text, key in keys.items() if text not in found}
        read = self._from_disk(list(missing)) if missing else {}
        self._remember(read)
        with self._lock:
            self._counts["disk"] += len(read)
            self._counts["miss"] += len(missing) - len(read)
        found.update((missing[key], states) for key, states in read.items())
        return found

    def put(self, space: str, documents: Mapping[str, DocumentStates]) -> None:
        """Remember documents; those whose states are not finite are left out."""
        known = {document_key(space, text): states for text, states in documents.items() if states.is_finite}
        self._remember(known)
        store = self._usable_store()
        if store is None or not known:
            return
        try:
            store.put([Row(key, states.to_bytes(), len(states.ids)) for key, states in known.items()])
        except StoreFailed as error:
            self._fail(error)

    def close(self) -> None:
        """Let go of the folder. What is in memory stays, and the folder is opened again when it is needed."""
        store = self._store
        if store is not None:
            store.close()

    def _remember(self, documents: Mapping[bytes, DocumentStates]) -> None:
        with self._lock:
            for key, states in documents.items():
                if states.n_bytes > self._memory_bytes or key in self._memory:
                    continue
                self._memory[key] = states
                self._held_bytes += states.n_bytes
            while self._held_bytes > self._memory_bytes:
                self._held_bytes -= self._memory.popitem(last=False)[1].n_bytes

    def _from_disk(self, keys: Sequence[bytes]) -> dict[bytes, DocumentStates]:
        store = self._usable_store()
        if store is None:
            return {}
        read: dict[bytes, DocumentStates] = {}
        damaged = []
        try:
            for key, record in store.get(keys).items():
                try:
                    read[key] = DocumentStates.from_bytes(record)
                except DamagedRecord as error:
                    damaged.append(key)
                    self._tell("damaged", f"{store.path}: {error}; such documents are read again")
            if damaged:
                with self._lock:
                    self._counts["damaged"] += len(damaged)
                if store.is_writable:
                    store.drop(damaged)
        except StoreFailed as error:
            self._fail(error)
        return read

    def _usable_store(self) -> DocumentStore | None:
        """The folder's store; None where there is no folder, or while a failure is recent."""
        if self._folder is None or time.monotonic() < self._retry_at_s:
            return None
        with self._lock:
            store = self._store
        if store is None:
            try:
                store = self._open(self._folder)
            except OutputError as error:
                self._fail(StoreFailed(str(error)))
                return None
            with self._lock:
                self._store = store
        return store

    def _open(self, folder: Path) -> DocumentStore | None:
        try:
            return open_store(folder, limit_bytes=self._disk_bytes)
        except StoreFailed as error:
            self._fail(error)
            return None

    def _fail(self, error: StoreFailed) -> None:
        """Go on without the folder for a while, after which it is opened anew."""
        self._tell("failed", f"the document cache is left out: {error}; documents are read again instead")
        with self._lock:
            store, self._store = self._store, None
            self._retry_at_s = time.monotonic() + (0.0 if error.is_damaged else RETRY_S)
        if store is not None:
            store.close()

    def _tell(self, kind: str, message: str) -> None:
        if kind not in self._told:
            self._told.add(kind)
            _logger.warning(message)


def open_store(folder: Path | str, *, limit_bytes: int | None = None) -> DocumentStore:
    """The store of a folder; a damaged file is taken away, which the log tells, and an empty one is made.

    Raises:
        InvalidInput, OutputError: as `DocumentStore`.
        StoreFailed: it cannot be opened all the same.
    """
    try:
        return DocumentStore(folder, limit_bytes=limit_bytes)
    except StoreFailed as error:
        if not error.is_damaged:
            raise
        _logger.warning(f"{error}; the cache begins again, empty")
        remove_file(Path(folder) / FILE_NAME)
        return DocumentStore(folder, limit_bytes=limit_bytes)


def space_of(*, encoder_sha256: str, tokenizer_sha256: str, template: str, states_format: str) -> str:
    """Names all that decides the states of a text: bundles that share them share documents."""
    parts = (states_format, encoder_sha256, tokenizer_sha256, template)
    return hashlib.sha256("\n".join(parts).encode("utf-8")).hexdigest()


def document_key(space: str, text: str) -> bytes:
    """Names a text within a space; 20 bytes."""
    return hashlib.blake2b(text.encode("utf-8"), digest_size=20, key=bytes.fromhex(space)).digest()


def open_cache(source: DocumentCache | Path | str | None) -> DocumentCache | None:
    """A cache of a folder, or the one that is given.

    Raises:
        InvalidInput: something else.
        OutputError: the folder cannot be made, or is a file.
    """
    if source is None or isinstance(source, DocumentCache):
        return source
    if not isinstance(source, str | Path) or not str(source):
        raise InvalidInput(f"document_cache: a folder or a DocumentCache was expected, got {source!r}")
    return DocumentCache(source)


def cache_of(runtime: Any) -> DocumentCache | None:
    """The cache that a runtime, or the reader in it, was loaded with."""
    full = getattr(runtime, "full", runtime)
    cache: DocumentCache | None = getattr(getattr(full, "reader", full), "document_cache", None)
    return cache
