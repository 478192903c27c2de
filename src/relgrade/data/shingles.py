"""Texts as sets of word 5-grams, their exact Jaccard similarity, and candidates for it by MinHash and bands.

MinHash: Broder 1997, "On the resemblance and containment of documents". Bands: Leskovec, Rajaraman, Ullman, "Mining of
Massive Datasets", section 3.4; b bands of r rows find a pair of similarity s with chance 1 - (1 - s^r)^b.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHINGLE_WORDS = 5
N_HASHES = 64  # minima of each text; with more, bands could be narrower and there would be fewer candidates to verify
MAX_MISS = 1e-3  # accepted chance to miss a pair at the threshold itself; above it the chance falls quickly
_CHUNK_WORDS = 1 << 20  # words hashed at once, which holds the working arrays to some tens of MB
_WORD = re.compile(r"\w+")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd; 2^64 over the golden ratio, as in Fibonacci hashing

UInt64s = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Bands:
    """How the minima are grouped."""

    n_bands: int
    n_rows: int  # minima of a band


def words_of(text: str) -> list[str]:
    """The words of a text: letters, digits and underscores, NFKC, folded case."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return _WORD.findall(text.casefold())


def shingles_of(text: str) -> frozenset[tuple[str, ...]]:
    """Its word 5-grams; a shorter text is one shingle, one without words has none."""
    words = words_of(text)
    if len(words) <= SHINGLE_WORDS:
        return frozenset({tuple(words)} if words else ())
    return frozenset(zip(*(words[i:] for i in range(SHINGLE_WORDS)), strict=False))


def jaccard(first: frozenset[tuple[str, ...]], second: frozenset[tuple[str, ...]]) -> float:
    """Shared shingles over all shingles, in [0, 1]; 0 when there are none."""
    n_shared = len(first & second)
    n_all = len(first) + len(second) - n_shared
    return n_shared / n_all if n_all else 0.0


def choose_bands(threshold: float) -> Bands:
    """The widest bands that miss a pair at the threshold with a chance of at most `MAX_MISS`; else single rows."""
    for n_rows in range(N_HASHES, 1, -1):
        n_bands = N_HASHES // n_rows
        if (1.0 - threshold**n_rows) ** n_bands <= MAX_MISS:
            return Bands(n_bands, n_rows)
    return Bands(N_HASHES, 1)


def band_keys(texts: Sequence[str], bands: Bands, *, seed: int) -> UInt64s:
    """One key per text and band; texts that share a key in a band are candidates.

    A key depends on the words of its text and the seed alone.

    Returns:
        Shape (n_texts, n_bands). A text without words has keys of its own, which are not to be compared.
    """
    generator = np.random.default_rng(seed)
    n_used = bands.n_bands * bands.n_rows
    factors = generator.integers(0, 2**64, size=n_used, dtype=np.uint64) | np.uint64(1)
    offsets = generator.integers(0, 2**64, size=n_used, dtype=np.uint64)
    keys = np.zeros((len(texts), bands.n_bands), dtype=np.uint64)
    row = 0
    for hashes, starts in _hashed_chunks(texts, seed):
        for band in range(bands.n_bands):
            key = np.zeros(len(starts), dtype=np.uint64)
            for i in range(band * bands.n_rows, (band + 1) * bands.n_rows):
                # High bits of a multiplication by an odd number: a different order of the shingles for each row.
                minima = np.minimum.reduceat((hashes * factors[i] + offsets[i]) >> np.uint64(32), starts)
                key = _mix(key ^ minima)
            keys[row : row + len(starts), band] = key
        row += len(starts)
    return keys


def _hashed_chunks(texts: Sequence[str], seed: int) -> Iterator[tuple[UInt64s, NDArray[np.int64]]]:
    """Shingle hashes of runs of texts, one after another, and where each text starts among them."""
    codes: dict[str, int] = {}
    words: list[int] = []
    lengths: list[int] = []
    for text in texts:
        found = words_of(text) or [""]
        words.extend(_codes_of(found, codes, seed))
        lengths.append(len(found))
        if len(words) >= _CHUNK_WORDS:
            yield _hash_shingles(words, lengths)
            words, lengths = [], []
    if lengths:
        yield _hash_shingles(words, lengths)


def _codes_of(words: Sequence[str], codes: dict[str, int], seed: int) -> list[int]:
    """A 64-bit code per word that does not depend on which words came before."""
    for word in words:
        if word not in codes:
            data = f"{seed}\0{word}".encode("utf-8", "surrogatepass")
            codes[word] = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")
    return [codes[word] for word in words]


def _hash_shingles(words: Sequence[int], lengths: Sequence[int]) -> tuple[UInt64s, NDArray[np.int64]]:
    codes = np.asarray(words, dtype=np.uint64)  # (n_words,)
    n_words = np.asarray(lengths, dtype=np.int64)  # (n_texts,)
    ends = np.cumsum(n_words)
    # Words to the end of its text, from each word: a window may not reach into the next text.
    left = np.repeat(ends, n_words) - np.arange(len(codes))  # (n_words,)
    padded = np.concatenate([codes, np.zeros(SHINGLE_WORDS, dtype=np.uint64)])
    hashes = np.zeros(len(codes), dtype=np.uint64)
    for i in range(SHINGLE_WORDS):
        hashes = hashes * _MULTIPLIER + np.where(left > i, padded[i : i + len(codes)], np.uint64(0))
    # The first window of a text always counts, the others only when they are full.
    is_first = np.zeros(len(codes), dtype=np.bool_)
    is_first[ends - n_words] = True
    is_kept = is_first | (left >= SHINGLE_WORDS)
    starts = np.cumsum(is_kept) - 1  # (n_words,) position among the kept
    return _mix(hashes[is_kept]), starts[ends - n_words]


def _mix(values: UInt64s) -> UInt64s:
    """Spread every bit over all others (finaliser of MurmurHash3)."""
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return values ^ (values >> np.uint64(33))
