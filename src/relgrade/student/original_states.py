"""Token states of the encoder that is imitated, computed once and kept on disk in parts.

A crash costs one part. A part is one batch of the training that follows: windows of like length, so that little is
padded.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from relgrade.errors import OutputError
from relgrade.formats.write import replaced_file

Window = tuple[int, ...]  # token ids of one sequence, special tokens included


def batches_of(windows: Sequence[Window], *, batch_tokens: int) -> list[tuple[Window, ...]]:
    """Distinct windows in order of length, cut into batches of at most `batch_tokens` tokens with their padding.

    Windows of one length stand in the order they came in. A window longer than that is a batch by itself.
    """
    batches: list[tuple[Window, ...]] = []
    batch: list[Window] = []
    for window in sorted(dict.fromkeys(windows), key=len):
        if batch and (len(batch) + 1) * len(window) > batch_tokens:
            batches.append(tuple(batch))
            batch = []
        batch.append(window)
    return [*batches, tuple(batch)] if batch else batches


def pad_windows(windows: Sequence[Window]) -> tuple[Tensor, Tensor]:
    """Ids and mask (1 for a token that is there) of windows, each of shape (n_windows, n_tokens); padding is id 0."""
    width = max(map(len, windows))
    ids, mask = np.zeros((len(windows), width), np.int64), np.zeros((len(windows), width), np.int64)
    for row, window in enumerate(windows):
        ids[row, : len(window)] = window
        mask[row, : len(window)] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)


class OriginalStates:
    """States of the windows of a batch.

    Args:
        folder: where parts lie; made.
        encode: (ids, mask) of shape (n_windows, n_tokens) -> states (n_windows, n_tokens, n_hidden).
        fingerprint: names the encoder; parts of another one are not used.
    """

    def __init__(self, folder: Path, encode: Callable[[Tensor, Tensor], Tensor], *, fingerprint: str) -> None:
        self._folder = folder
        self._encode = encode
        self._fingerprint = fingerprint
        make_folder(folder)

    def of(self, batch: Sequence[Window]) -> Tensor:
        """States of the tokens that are there, window after window, shape (n_tokens_of_all, n_hidden), float16.

        Half precision moves a cosine by less than 0.001, and a model that imitates is 50 times as far off. A file that
        is damaged is computed again.

        Raises:
            OutputError: the states cannot be written.
        """
        digest = hashlib.sha256(repr((self._fingerprint, tuple(batch))).encode()).hexdigest()
        path = self._folder / f"states-{digest[:24]}.npy"
        found = _read(path, n_tokens=sum(map(len, batch)))
        if found is not None:
            return torch.from_numpy(found)
        ids, mask = pad_windows(batch)
        with torch.no_grad():
            states = self._encode(ids, mask)[mask == 1].to(torch.float16)
        with replaced_file(path) as file:  # another run may be computing the same
            np.save(file, states.numpy(), allow_pickle=False)
        return states


def make_folder(folder: Path) -> None:
    """Make it and those above it; raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError.from_os_error(error, path=folder) from error


def _read(path: Path, *, n_tokens: int) -> NDArray[np.float16] | None:
    """States of a file; None where there are none, or not those of so many tokens."""
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, EOFError, ValueError):
        return None
    is_whole = isinstance(found, np.ndarray) and found.dtype == np.float16 and found.ndim == 2
    return found if is_whole and len(found) == n_tokens else None
