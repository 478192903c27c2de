"""Vectors of texts on disk, by the hash of the text: a run that is killed encodes nothing twice.

A folder with `vectors.json` (encoder, dimension), `keys.bin` (16 bytes a row) and `vectors.f32`. Rows are only added,
vectors before their keys, so that whatever follows the last whole key is cut when the folder is opened again.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from relgrade.candidates.encoder import Encoder, TextKind
from relgrade.errors import InvalidData, InvalidInput, OutputError

_KEY_BYTES = 16
_FLOAT_BYTES = 4
_BATCH = 256  # texts encoded between two writes: some seconds of work


class VectorCache:
    """Vectors of one encoder. A context manager; one process at a time.

    Args:
        folder: made when it is not there.
        encoder: makes the vectors that are missing.

    Raises:
        InvalidData: the folder holds vectors of another encoder, or is damaged.
        InvalidInput: another process uses the folder.
        OutputError: the folder cannot be written.
    """

    def __init__(self, folder: Path, encoder: Encoder) -> None:
        self._folder, self._encoder = folder, encoder
        self._row_bytes = _FLOAT_BYTES * encoder.dimension
        with ExitStack() as stack:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._check_note()
                # Unbuffered: what was written survives the death of the process.
                self._keys: IO[bytes] = stack.enter_context((folder / "keys.bin").open("ab", buffering=0))
                self._vectors: IO[bytes] = stack.enter_context((folder / "vectors.f32").open("ab", buffering=0))
                self._lock()
                self._row_of = self._open_rows()
            except OSError as error:
                raise OutputError.from_os_error(error, path=folder) from error
            self._files = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

    def __len__(self) -> int:
        return len(self._row_of)

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._encoder.dimension

    def rows_of(
        self, texts: Iterable[str], *, kind: TextKind, advance: Callable[[int], None] = lambda _: None
    ) -> NDArray[np.int64]:
        """Where the vector of each text stands, after encoding those that are new.

        Args:
            texts: read once, a batch at a time.
            kind: queries and documents are read differently.
            advance: is told how many more texts have their vector.

        Returns:
            Shape (n_texts,), for `read`.

        Raises:
            OutputError: the disk is full; what was encoded before is kept.
        """
        rest, rows = iter(texts), []
        while batch := list(islice(rest, _BATCH)):
            keys = [_key(text, kind) for text in batch]
            new = {key: text for key, text in zip(keys, batch, strict=True) if key not in self._row_of}
            if new:
                self._append(list(new), self._encoder.encode(list(new.values()), kind=kind))
            rows += [self._row_of[key] for key in keys]
            advance(len(batch))
        return np.asarray(rows, np.int64)

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors of rows, shape (n_rows, dimension); the rest stays on disk."""
        if not len(self._row_of):
            return np.empty((0, self._encoder.dimension), np.float32)
        shape = (len(self._row_of), self._encoder.dimension)
        return np.asarray(np.memmap(self._folder / "vectors.f32", np.dtype("<f4"), "r", shape=shape)[rows], np.float32)

    def _append(self, keys: Sequence[bytes], vectors: NDArray[np.float32]) -> None:
        shape = (len(keys), self._encoder.dimension)
        if vectors.shape != shape or not np.isfinite(vectors).all():
            raise InvalidInput(f"the encoder gave an array of shape {vectors.shape}; finite numbers of {shape} needed")
        try:
            _write_all(self._vectors, vectors.astype("<f4").tobytes())
            _write_all(self._keys, b"".join(keys))
        except BaseException as error:
            self._cut(len(self._row_of))
            if not isinstance(error, OSError):
                raise
            state = f"the {len(self._row_of):,} vectors in it are whole, and the same command goes on after them"
            raise OutputError.from_os_error(error, path=self._folder, state=state) from error
        for key in keys:
            self._row_of[key] = len(self._row_of)

    def _open_rows(self) -> dict[bytes, int]:
        keys = (self._folder / "keys.bin").read_bytes()
        n_vectors = (self._folder / "vectors.f32").stat().st_size // self._row_bytes
        n_rows = min(len(keys) // _KEY_BYTES, n_vectors)
        self._cut(n_rows)
        return {keys[i * _KEY_BYTES : (i + 1) * _KEY_BYTES]: i for i in range(n_rows)}

    def _cut(self, n_rows: int) -> None:
        self._keys.truncate(n_rows * _KEY_BYTES)
        self._vectors.truncate(n_rows * self._row_bytes)

    def _check_note(self) -> None:
        path = self._folder / "vectors.json"
        wanted = {"encoder": self._encoder.name, "dimension": self._encoder.dimension}
        if not path.exists():
            scratch = path.with_suffix(".new")
            scratch.write_text(json.dumps(wanted) + "\n", encoding="utf-8")
            scratch.replace(path)
            return
        try:
            found: Any = json.loads(path.read_bytes())
        except ValueError as error:
            raise InvalidData(f"not the note of a folder of vectors ({error}); remove the folder", path=path) from error
        if found != wanted:
            raise InvalidData(f"holds vectors of another encoder; {found} found, {wanted} expected", path=path)

    def _lock(self) -> None:
        if sys.platform == "win32":
            return
        import fcntl

        try:
            fcntl.flock(self._keys, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InvalidInput(f"{self._folder}: another process uses these vectors; wait for it to end") from error


def _key(text: str, kind: TextKind) -> bytes:
    return hashlib.blake2b(text.encode("utf-8"), digest_size=_KEY_BYTES, person=kind.encode("ascii")).digest()


def _write_all(file: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file.fileno(), view) :]
