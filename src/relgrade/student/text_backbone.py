"""Load the encoder that reads query and document apart, with its tokenizer, from a folder or the Hub."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from transformers import AutoModel, AutoTokenizer

from relgrade.errors import TrainingError
from relgrade.settings import StudentSettings
from relgrade.student.backbone import cannot_load, quiet_loading


@dataclass(frozen=True, slots=True)
class TextBackbone:
    """An encoder and what surrounds a text in its input."""

    encoder: Any  # transformers' model, float32, on the CPU
    tokenizer: Tokenizer
    prefix: tuple[int, ...]  # special tokens before a text
    suffix: tuple[int, ...]  # special tokens after it


def load_encoder(settings: StudentSettings, *, source: str) -> Any:
    """The encoder at `source`, a folder or Hub id, without a pooling layer.

    Raises:
        TrainingError: no such folder or model, no access, no safetensors, or an encoder that cannot read sequences of
            `settings.max_tokens`.
    """
    place = _place(settings, source)
    load = partial(AutoModel.from_pretrained, source, dtype=torch.float32, use_safetensors=True, **place)
    try:
        with quiet_loading():
            try:
                encoder = load(add_pooling_layer=False)
            except TypeError:  # an encoder that has no pooler to leave out
                encoder = load()
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        raise cannot_load(settings, error, is_folder=Path(source).is_dir()) from error
    longest = getattr(encoder.config, "max_position_embeddings", None)
    if longest is not None and settings.max_tokens > longest:
        raise TrainingError(
            f"student.max_tokens is {settings.max_tokens}, {source!r} reads {longest} at most; lower it"
        )
    return encoder


def load_text_backbone(settings: StudentSettings) -> TextBackbone:
    """Load `settings.base` at `settings.revision`.

    Raises:
        TrainingError: as `load_encoder`, or no fast tokenizer.
    """
    encoder = load_encoder(settings, source=settings.base)
    try:
        tokenizer = AutoTokenizer.from_pretrained(settings.base, **_place(settings, settings.base))
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise cannot_load(settings, error, is_folder=Path(settings.base).is_dir()) from error
    if not getattr(tokenizer, "is_fast", False):
        raise TrainingError(f"base model {settings.base!r} has no fast tokenizer (tokenizer.json); choose another base")
    fast: Tokenizer = tokenizer.backend_tokenizer
    fast.no_padding()
    fast.no_truncation()
    marked = fast.encode("a", add_special_tokens=True).ids
    plain = fast.encode("a", add_special_tokens=False).ids
    start = marked.index(plain[0])
    return TextBackbone(encoder, fast, tuple(marked[:start]), tuple(marked[start + len(plain) :]))


def _place(settings: StudentSettings, source: str) -> dict[str, Any]:
    if Path(source).is_dir():
        return {"local_files_only": True, "trust_remote_code": False}
    return {"revision": settings.revision, "trust_remote_code": False}
