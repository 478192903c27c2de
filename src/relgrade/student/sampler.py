"""Which pairs make a batch, and in which order: a pure function of (lengths, limits, seed, epoch).

It knows lengths and groups, not texts, models or devices.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from relgrade.errors import InvalidInput

BUCKET_GROWTH = 1.125  # lengths within this factor count as one, so at most an eighth of a batch is padding
SHORTEST_BUCKET = 8  # tokens


class LengthBatchSampler(Sampler[list[int]]):
    """Batches of pairs of like length under a token budget, in random order.

    Pairs, or whole groups, are sorted by length bucket, then by size, then at random, and cut greedily into batches.
    The cuts depend on buckets and sizes alone, so every epoch has the same number of batches and each of them has
    the same size; which pairs fill them, and in which order they come, changes. A constant number of batches is what
    lets a run resume by counting.

    Inputs: lengths[i] >= 1 of pair i in tokens; groups[i], pairs of one group stay in one batch (None: each alone).
    Requirements: at least one pair; limits >= 1; 0 <= rank < n_ranks.
    Raises: InvalidInput when a requirement is not met.

    Args:
        lengths: tokens of each pair.
        batch_tokens: padded tokens of a batch, at most. A longer pair or group is a batch of its own.
        batch_pairs: pairs of a batch, at most. A larger group is a batch of its own.
        seed: of the shuffles.
        groups: for losses that compare the documents of a query.
        rank: this process; it sees every `n_ranks`-th batch.
        n_ranks: processes that train together. Each gets the same number of batches: where they do not come out
            even, batches are halved, or repeated when there is nothing to halve.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        batch_tokens: int,
        batch_pairs: int,
        seed: int,
        groups: Sequence[int] | None = None,
        rank: int = 0,
        n_ranks: int = 1,
    ) -> None:
        if len(lengths) == 0 or min(lengths) < 1:
            raise InvalidInput("a sampler needs at least one pair, and pairs of at least one token")
        if min(batch_tokens, batch_pairs, n_ranks) < 1 or not 0 <= rank < n_ranks:
            raise InvalidInput(
                f"limits must be >= 1 and 0 <= rank < n_ranks, got batch_tokens {batch_tokens}, "
                f"batch_pairs {batch_pairs}, rank {rank} of {n_ranks}"
            )
        if groups is not None and len(groups) != len(lengths):
            raise InvalidInput(f"{len(lengths)} lengths and {len(groups)} groups")
        self._units = _units(len(lengths), groups)
        self._buckets = np.array([_bucket(max(lengths[i] for i in unit)) for unit in self._units])  # (n_units,) tokens
        self._sizes = np.array([len(unit) for unit in self._units])  # (n_units,)
        self._seed = seed
        self._epoch = 0
        self._rank = rank
        self._n_ranks = n_ranks
        order = np.lexsort((self._sizes, self._buckets))
        cuts = _cut(self._buckets[order], self._sizes[order], batch_tokens=batch_tokens, batch_pairs=batch_pairs)
        self._cuts = _evened(cuts, n_ranks)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0, that the next iteration gives."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Batches that this process sees in an epoch."""
        return -(-len(self._cuts) // self._n_ranks)

    def __iter__(self) -> Iterator[list[int]]:
        random = np.random.default_rng([self._seed, self._epoch])
        order = np.lexsort((random.random(len(self._units)), self._sizes, self._buckets))
        batches = [order[start:stop] for start, stop in self._cuts]
        shuffled = [batches[i] for i in random.permutation(len(batches))]
        for turn in range(len(self)):
            batch = shuffled[(turn * self._n_ranks + self._rank) % len(shuffled)]
            yield [i for unit in batch for i in self._units[unit]]


def _units(n_pairs: int, groups: Sequence[int] | None) -> list[list[int]]:
    """What stays together: the pairs of a group, in their order."""
    if groups is None:
        return [[i] for i in range(n_pairs)]
    members: dict[int, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    return list(members.values())


def _bucket(length: int) -> int:
    """The longest length of the bucket that `length` falls into."""
    edge = SHORTEST_BUCKET
    while edge < length:
        edge = int(np.ceil(edge * BUCKET_GROWTH))
    return edge


def _cut(
    buckets: np.ndarray[tuple[int], np.dtype[np.int64]],
    sizes: np.ndarray[tuple[int], np.dtype[np.int64]],
    *,
    batch_tokens: int,
    batch_pairs: int,
) -> list[tuple[int, int]]:
    """Greedy cuts [start, stop) of units sorted by rising bucket; a unit that fits nowhere is alone."""
    cuts = []
    start = n_pairs = 0
    for position, (bucket, size) in enumerate(zip(buckets.tolist(), sizes.tolist(), strict=True)):
        is_full = n_pairs + size > batch_pairs or (n_pairs + size) * bucket > batch_tokens
        if n_pairs and is_full:
            cuts.append((start, position))
            start, n_pairs = position, 0
        n_pairs += size
    return [*cuts, (start, len(sizes))]


def _evened(cuts: list[tuple[int, int]], n_ranks: int) -> list[tuple[int, int]]:
    """Halve the batches of most units until their number divides among the processes, or none can be halved."""
    cuts = list(cuts)
    while len(cuts) % n_ranks:
        widest = max(range(len(cuts)), key=lambda i: cuts[i][1] - cuts[i][0])
        start, stop = cuts[widest]
        if stop - start < 2:
            break
        middle = (start + stop) // 2
        cuts[widest : widest + 1] = [(start, middle), (middle, stop)]
    return cuts
