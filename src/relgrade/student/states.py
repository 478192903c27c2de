"""Texts read in windows, as padded tensors, and the states of their tokens joined again without padding between.

A batch and a single pair must give the same numbers: tokens of one text always stand side by side, whatever the other
texts of the batch needed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from relgrade.encoding import EncodedText, TextTemplate


@dataclass(frozen=True, slots=True)
class TextStates:
    """What the encoder says of a batch of texts."""

    states: Tensor  # (n_texts, n_text, n_hidden) of the texts' own tokens
    window_vectors: Tensor  # (n_texts, n_windows, n_hidden) mean of each window
    window_mask: Tensor  # (n_texts, n_windows) float, 1 for a window that is there


def text_places(windows: Sequence[Sequence[int]], template: TextTemplate, *, width: int) -> list[int]:
    """Positions of a text's own tokens when windows of `width` tokens are laid end to end.

    A text that has no tokens is read as its last special token, so that every text has one.
    """
    head, tail = len(template.prefix), len(template.suffix)
    places = [number * width + i for number, window in enumerate(windows) for i in range(head, len(window) - tail)]
    return places or [len(windows[0]) - 1]


def pad_texts(texts: Sequence[EncodedText], template: TextTemplate, *, kind: str) -> dict[str, Tensor]:
    """Tensors of a batch of texts, their names beginning with `kind`.

    Returns:
        `{kind}_windows`, `{kind}_window_mask`: ids and 0 / 1 of shape (n_texts, n_windows, n_tokens);
        `{kind}_ids`, `{kind}_mask`: tokens without prefix and suffix, shape (n_texts, n_text);
        `{kind}_places`: where each of these stands in the flattened windows, shape (n_texts, n_text).
    """
    n_windows = max(len(text.windows) for text in texts)
    width = max(len(window) for text in texts for window in text.windows)
    windows = np.zeros((len(texts), n_windows, width), np.int64)
    window_mask = np.zeros_like(windows)
    places = [text_places(text.windows, template, width=width) for text in texts]
    index = np.zeros((len(texts), max(map(len, places))), np.int64)
    mask = np.zeros(index.shape, np.float32)
    for row, text in enumerate(texts):
        for number, window in enumerate(text.windows):
            windows[row, number, : len(window)] = window
            window_mask[row, number, : len(window)] = 1
        index[row, : len(places[row])] = places[row]
        mask[row, : len(places[row])] = 1.0
    ids = np.take_along_axis(windows.reshape(len(texts), -1), index, axis=1)
    arrays = {"windows": windows, "window_mask": window_mask, "ids": ids, "mask": mask, "places": index}
    return {f"{kind}_{name}": torch.from_numpy(values) for name, values in arrays.items()}


def read_windows(
    encode: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], inputs: Mapping[str, Tensor], *, kind: str
) -> TextStates:
    """Run the encoder over the windows that are there.

    Args:
        encode: (ids, mask) of shape (n, n_tokens) -> states (n, n_tokens, n_hidden) and means (n, n_hidden).
        inputs: of `pad_texts`.
        kind: "query" or "document".
    """
    windows, window_mask = inputs[f"{kind}_windows"], inputs[f"{kind}_window_mask"]
    n_texts, n_windows, width = windows.shape
    is_there = window_mask[:, :, 0].reshape(-1) == 1  # a window begins with its prefix, so its first token is real
    states, means = encode(windows.reshape(-1, width)[is_there], window_mask.reshape(-1, width)[is_there])
    all_states = states.new_zeros((n_texts * n_windows, width, states.shape[-1]))
    all_means = means.new_zeros((n_texts * n_windows, means.shape[-1]))
    all_states[is_there] = states
    all_means[is_there] = means
    flat = all_states.reshape(n_texts, n_windows * width, -1)
    places = inputs[f"{kind}_places"].unsqueeze(-1).expand(-1, -1, flat.shape[-1])
    mask = window_mask[:, :, 0].to(states.dtype)
    return TextStates(flat.gather(1, places), all_means.reshape(n_texts, n_windows, -1), mask)
