"""Which queries count as the same, and a number drawn for each of them that other queries cannot change."""

import hashlib
import unicodedata

_EDGES = " \t\n?!.,;:\"'`\u201c\u201d\u2018\u2019\u00ab\u00bb\u2026"  # ends that make no other question of it


def query_key(query: str) -> str:
    """The text under which queries are the same: NFKC, folded case, single spaces, no punctuation at the ends."""
    folded = " ".join(unicodedata.normalize("NFKC", query).casefold().split())
    return folded.strip(_EDGES) or folded


def draw(key: str, *, seed: int, purpose: str) -> float:
    """A number in [0, 1), uniform over keys, fixed by the arguments alone.

    Args:
        key: of a query.
        seed: another seed gives an independent number.
        purpose: so does another purpose; without it, a cap would keep the queries that a split puts first.
    """
    text = f"{seed}\0{purpose}\0{key}".encode("utf-8", "surrogatepass")
    # 53 bits fill a float in [0, 1) exactly; 64 would round up to 1.0 now and then.
    return (int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 11) / 2**53
