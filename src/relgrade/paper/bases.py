"""Which weights a table starts from, where they lie in a folder: a name does not say what is in it."""

import hashlib
from pathlib import Path

from relgrade.pipeline.ledger import file_sha256

_NAMES = ("config.json", "tokenizer.json", "*.safetensors")  # what decides the numbers of a model


def base_fingerprint(base: Path | str) -> str | None:
    """sha256 over names and bytes of configuration, tokenizer and weights of a folder; None for a Hub id."""
    folder = Path(base)
    if not folder.is_dir():
        return None
    paths = sorted({path for name in _NAMES for path in folder.glob(name) if path.is_file()})
    content = "".join(f"{path.name} {file_sha256(path)}\n" for path in paths)
    return hashlib.sha256(content.encode("utf-8")).hexdigest()
