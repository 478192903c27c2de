"""How much a training pair counts, by the size of its source. Knows nothing of losses."""

from collections import Counter
from collections.abc import Sequence

from relgrade.records import Pair


def source_weights(pairs: Sequence[Pair], power: float) -> list[float]:
    """Weights that keep a large source from deciding for the small ones.

    A pair of a source of n pairs weighs n ** -power, scaled so that the mean over all pairs is 1 and the learning rate
    keeps its meaning: with 0 all pairs weigh the same, with 1 all sources do.

    Args:
        pairs: training pairs, with their sources.
        power: in [0, 1].

    Returns:
        One weight > 0 for each pair, in their order.
    """
    counts = Counter(pair.source for pair in pairs)
    # A source holds n pairs of n ** -power each.
    mean = sum(n ** (1.0 - power) for n in counts.values()) / max(1, len(pairs))
    weight = {source: n**-power / mean for source, n in counts.items()}
    return [weight[pair.source] for pair in pairs]
