"""Cuts a collection to a number of pairs by drawing whole queries, so that no query loses some of its documents."""

from collections.abc import Sequence

from relgrade.data.queries import draw, query_key
from relgrade.errors import InvalidInput
from relgrade.records import Pair


def cap_by_query(pairs: Sequence[Pair], max_pairs: int | None, *, seed: int) -> list[Pair]:
    """Keep at most `max_pairs` pairs.

    Queries are taken in an order drawn with the seed, whatever the order of the pairs; one that no longer fits is
    passed over.

    Args:
        pairs: of one collection.
        max_pairs: >= 1; None keeps all.
        seed: of the draw, which is independent of the draw of the splits.

    Returns:
        The kept pairs in their order.

    Raises:
        InvalidInput: `max_pairs` is below 1, or below the number of pairs of every query.
    """
    if max_pairs is None or len(pairs) <= max_pairs:
        return list(pairs)
    keys = [query_key(pair.query) for pair in pairs]
    sizes: dict[str, int] = {}
    for key in keys:
        sizes[key] = sizes.get(key, 0) + 1
    kept: set[str] = set()
    n_kept = 0
    for key in sorted(sizes, key=lambda key: (draw(key, seed=seed, purpose="cap"), key)):
        if n_kept + sizes[key] <= max_pairs:
            kept.add(key)
            n_kept += sizes[key]
    if not kept:
        raise InvalidInput(f"max_pairs is {max_pairs}, and the smallest query has {min(sizes.values())} pairs")
    return [pair for key, pair in zip(keys, pairs, strict=True) if key in kept]
