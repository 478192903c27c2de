"""Which weights a table starts from, where they lie in a folder: a name does not say what is in it."""

import hashlib
from pathlib import Path

from relgrade.pipeline.ledger import file_sha256


def base_fingerprint(base: Path | str) -> str | None:
    """sha256 over names and bytes of the safetensors of a folder; None for a Hub id.

    Not of the configuration and the tokenizer, which tools write anew for the same weights.
    """
    folder = Path(base)
    if not folder.is_dir():
        return None
    content = "".join(f"{path.name} {file_sha256(path)}\n" for path in sorted(folder.glob("*.safetensors")))
    return hashlib.sha256(content.encode("utf-8")).hexdigest()
