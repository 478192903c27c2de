"""Golden pairs: what a bundle said about a few pairs when it was made, so that any machine can check it still does."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from relgrade.bundle import strict_json
from relgrade.errors import BundleCorrupt

GOLDENS_NAME = "goldens.jsonl"


@dataclass(frozen=True, slots=True)
class GoldenPair:
    """A pair and the logit that the bundle gave it when it was made."""

    query: str
    document: str  # rendered: the text the model reads
    logit: float


def goldens_to_bytes(goldens: Sequence[GoldenPair]) -> bytes:
    """`goldens.jsonl`: one object a line."""
    lines = [{"query": golden.query, "document": golden.document, "logit": golden.logit} for golden in goldens]
    return b"".join(json.dumps(line, allow_nan=False).encode("ascii") + b"\n" for line in lines)


def goldens_from_bytes(content: bytes) -> tuple[GoldenPair, ...]:
    """Inverse of `goldens_to_bytes`.

    Raises:
        BundleCorrupt: a line is not an object of exactly query, document and a finite logit, or there is no line.
    """
    goldens = []
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            row = strict_json.parse(line)
        except ValueError as error:
            raise BundleCorrupt(f"{GOLDENS_NAME}:{number}: not JSON: {error}") from error
        if not isinstance(row, dict) or set(row) != {"query", "document", "logit"}:
            raise BundleCorrupt(f"{GOLDENS_NAME}:{number}: exactly the fields query, document and logit were expected")
        query, document, logit = row["query"], row["document"], row["logit"]
        if not isinstance(query, str) or not isinstance(document, str) or not strict_json.is_number(logit):
            raise BundleCorrupt(f"{GOLDENS_NAME}:{number}: query and document must be strings, logit a finite number")
        goldens.append(GoldenPair(query, document, float(logit)))
    if not goldens:
        raise BundleCorrupt(f"{GOLDENS_NAME}: empty; a bundle proves itself with at least one golden pair")
    return tuple(goldens)
