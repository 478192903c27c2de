"""What the encoder made of a document, small enough to keep: token states in int8, one scale a token.

A record is what a cache holds: a header with a checksum over everything else, then the arrays as they are. Damaged
bytes are found when a record is opened, so they are read again from the text and never graded. Nothing here knows
where records are kept.
"""

import struct
import zlib
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

FORMAT = "states-int8-1"  # part of every cache key: records of another format are never looked at

_HEADER = struct.Struct("<4sIIIIB3x")  # magic, checksum, tokens, width, windows, truncated
_MAGIC = b"rgs1"
_LARGEST_CODE = 127


class DamagedRecord(ValueError):
    """The bytes are not those that were written."""


@dataclass(frozen=True, slots=True, eq=False)
class DocumentStates:
    """One document, read by the encoder. Ids and windows are exact; states are within half a code of what was read."""

    ids: NDArray[np.int32]  # (n_tokens,) windows laid end to end, without special tokens
    codes: NDArray[np.int8]  # (n_tokens, n_hidden) in [-127, 127]
    scales: NDArray[np.float32]  # (n_tokens,) state = code * scale
    vectors: NDArray[np.float32]  # (n_windows, n_hidden) mean state of each window
    truncated: bool  # something of the document was not read

    @classmethod
    def quantise(
        cls,
        ids: NDArray[np.integer],
        states: NDArray[np.float32],
        vectors: NDArray[np.float32],
        *,
        truncated: bool,
    ) -> Self:
        """Round states to int8: the largest number of each token becomes 127, with its sign.

        Args:
            ids: shape (n_tokens,).
            states: shape (n_tokens, n_hidden).
            vectors: shape (n_windows, n_hidden).
            truncated: something of the document was not read.

        Returns:
            The document, or one whose scales are NaN where states were not finite: such a document has no grade, cached
            or not.
        """
        largest = np.abs(states).max(axis=1)  # (n_tokens,)
        scales = (largest / _LARGEST_CODE).astype(np.float32)
        is_usable = np.isfinite(scales) & (scales > 0)
        with np.errstate(invalid="ignore"):
            codes = np.rint(states / np.where(is_usable, scales, 1.0)[:, None])
            codes = np.clip(np.nan_to_num(codes), -_LARGEST_CODE, _LARGEST_CODE).astype(np.int8)
        scales[~np.isfinite(largest)] = np.nan
        return cls(
            np.ascontiguousarray(ids, np.int32), codes, scales, np.ascontiguousarray(vectors, np.float32), truncated
        )

    @property
    def states(self) -> NDArray[np.float32]:
        """Token states, shape (n_tokens, n_hidden)."""
        return self.codes * self.scales[:, None]

    def put_states(self, target: NDArray[np.float32]) -> None:
        """Write `states` into an array of their shape."""
        np.multiply(self.codes, self.scales[:, None], out=target)

    @property
    def is_finite(self) -> bool:
        """Whether a grade can come of it."""
        return bool(np.isfinite(self.scales).all() and np.isfinite(self.vectors).all())

    @property
    def n_bytes(self) -> int:
        """Size of the record."""
        return _HEADER.size + sum(part.nbytes for part in (self.ids, self.codes, self.scales, self.vectors))

    def to_bytes(self) -> bytes:
        """The record."""
        body = b"".join(part.tobytes() for part in (self.ids, self.scales, self.vectors, self.codes))
        sizes = (*self.codes.shape, len(self.vectors), self.truncated)
        return _HEADER.pack(_MAGIC, _checksum(sizes, body), *sizes) + body

    @classmethod
    def from_bytes(cls, record: bytes) -> Self:
        """Inverse of `to_bytes`; the arrays lie in the record and cannot be written to.

        Raises:
            DamagedRecord: cut off, changed, or no record.
        """
        if len(record) < _HEADER.size:
            raise DamagedRecord(f"a record of {len(record)} bytes is shorter than its header")
        magic, checksum, n_tokens, n_hidden, n_windows, truncated = _HEADER.unpack_from(record)
        body = memoryview(record)[_HEADER.size :]
        n_floats = n_tokens + n_windows * n_hidden
        expected = 4 * n_tokens + 4 * n_floats + n_tokens * n_hidden
        if magic != _MAGIC or len(body) != expected:
            raise DamagedRecord(f"a record of {len(record)} bytes does not say what it holds")
        if _checksum((n_tokens, n_hidden, n_windows, truncated), body) != checksum:
            raise DamagedRecord("the checksum of a record is not that of its bytes")
        ids = np.frombuffer(body, "<i4", count=n_tokens)
        floats = np.frombuffer(body, "<f4", count=n_floats, offset=4 * n_tokens)
        codes = np.frombuffer(body, np.int8, offset=4 * (n_tokens + n_floats))
        return cls(
            ids,
            codes.reshape(n_tokens, n_hidden),
            floats[:n_tokens],
            floats[n_tokens:].reshape(n_windows, n_hidden),
            bool(truncated),
        )


def _checksum(sizes: tuple[int, ...], body: bytes | memoryview) -> int:
    return zlib.crc32(body, zlib.crc32(struct.pack("<IIIB", *sizes)))
