"""Fingerprints of the calibration queries in a bundle, so that an evaluation can refuse to reuse them.

A fingerprint is no secret: whoever guesses a query can check that it is among them.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable

from relgrade.errors import BundleCorrupt

CALIBRATION_QUERIES_NAME = "calibration-queries.txt"
_EDGES = " ?!.,;:\"'"  # ends that make no other question of it
_LINE = re.compile(r"[0-9a-f]{16}")


def query_print(query: str) -> str:
    """16 hexadecimal digits; the same for queries that differ in case, spacing and punctuation at the ends alone."""
    folded = " ".join(unicodedata.normalize("NFKC", query).casefold().split())
    key = folded.strip(_EDGES) or folded
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def prints_to_bytes(queries: Iterable[str]) -> bytes:
    """`calibration-queries.txt`: the fingerprint of each query on a line, sorted, each once."""
    return "".join(f"{each}\n" for each in sorted({query_print(query) for query in queries})).encode("ascii")


def prints_from_bytes(content: bytes) -> frozenset[str]:
    """Inverse of `prints_to_bytes`, as fingerprints.

    Raises:
        BundleCorrupt: a line is no fingerprint.
    """
    lines = content.decode("ascii", "replace").splitlines()
    for number, line in enumerate(lines, start=1):
        if not _LINE.fullmatch(line):
            raise BundleCorrupt(f"{CALIBRATION_QUERIES_NAME}:{number}: 16 hexadecimal digits were expected")
    return frozenset(lines)
