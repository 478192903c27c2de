"""Nearly the same texts in different groups: proposed by shared bands, kept when their exact similarity is enough.

It knows numbered groups and nothing of splits or pairs.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from relgrade.data.shingles import band_keys, choose_bands, jaccard, shingles_of

# Texts from one template are candidates of each other by the thousand without being nearly the same; the work on each
# is bounded, and those that share the most bands are compared first.
MAX_COMPARED = 64


@dataclass(frozen=True, slots=True)
class Partner:
    """A text, and one nearly the same text of another group."""

    first: int  # position of the text
    group: int  # the other group
    second: int  # position of its text there
    similarity: float  # Jaccard of word 5-grams, >= the threshold


def near_partners(texts: Sequence[str], masks: NDArray[np.int64], *, threshold: float, seed: int) -> list[Partner]:
    """One partner for each text in each later group that has one.

    Args:
        texts: distinct.
        masks: groups of each text, bit g for group g, shape (n_texts,). A text is compared with those of groups above
            its lowest, other than its own.
        threshold: similarity from which texts are nearly the same, in (0, 1].
        seed: of the hashes.

    Returns:
        By position of the text, then by group.
    """
    search = _Search(texts, masks, threshold)
    if len(texts) > 1:
        keys = band_keys(texts, choose_bands(threshold), seed=seed)
        for members in _candidates(keys, masks):
            search.compare(members)
    return sorted(search.found.values(), key=lambda partner: (partner.first, partner.group))


def _candidates(keys: NDArray[np.uint64], masks: NDArray[np.int64]) -> Iterator[list[int]]:
    """Positions of texts that share a key in a band and are in more than one group, most alike side by side."""
    n_bands = keys.shape[1]
    for band in range(n_bands):
        others = [keys[:, (band + i) % n_bands] for i in range(min(n_bands, 4))]
        order = np.lexsort(others[::-1])  # by this band, ties by the next ones
        ordered = keys[order, band]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])  # (n_buckets,)
        ends = np.r_[starts[1:], len(ordered)]
        union = np.bitwise_or.reduceat(masks[order], starts)
        is_mixed = (ends - starts > 1) & ((union & (union - 1)) != 0)  # more than one bit
        for start, end in zip(starts[is_mixed].tolist(), ends[is_mixed].tolist(), strict=True):
            yield order[start:end].tolist()


class _Search:
    """Partners found so far."""

    def __init__(self, texts: Sequence[str], masks: NDArray[np.int64], threshold: float) -> None:
        self.found: dict[tuple[int, int], Partner] = {}  # (text, group)
        self._masks: list[int] = masks.tolist()
        self._threshold = threshold
        self._rejected: set[tuple[int, int]] = set()
        self._n_compared: dict[tuple[int, int], int] = {}
        self._shingles = lru_cache(maxsize=8192)(lambda position: shingles_of(texts[position]))

    def compare(self, members: Sequence[int]) -> None:
        """Look for partners among texts that share a band."""
        places: dict[int, list[int]] = {}  # group -> places of its texts among the members, rising
        for place, position in enumerate(members):
            for group in _bits(self._masks[position]):
                places.setdefault(group, []).append(place)
        for place, position in enumerate(members):
            mask = self._masks[position]
            for group, others in places.items():
                is_later = mask & (1 << group) == 0 and mask & ((1 << group) - 1) != 0
                if is_later and (position, group) not in self.found:
                    middle = bisect_left(others, place)
                    nearest = others[max(0, middle - MAX_COMPARED // 2) : middle + MAX_COMPARED // 2]
                    self._look(position, group, [members[other] for other in nearest])

    def _look(self, position: int, group: int, others: Sequence[int]) -> None:
        for other in others:
            if (position, other) in self._rejected:
                continue
            n_compared = self._n_compared.get((position, group), 0)
            if n_compared >= MAX_COMPARED:
                return
            self._n_compared[position, group] = n_compared + 1
            similarity = self._similarity(position, other)
            if similarity >= self._threshold:
                self.found[position, group] = Partner(position, group, other, similarity)
                return
            self._rejected.add((position, other))

    def _similarity(self, first: int, second: int) -> float:
        return jaccard(self._shingles(first), self._shingles(second))


def _bits(mask: int) -> Iterator[int]:
    group = 0
    while mask >> group:
        if mask >> group & 1:
            yield group
        group += 1
