"""Which graded documents go on to the generator: a pure function of grades, a policy and token counts."""

from collections.abc import Sequence

from relgrade.errors import InvalidInput
from relgrade.records import Grade, KeepPolicy


def best_first(grades: Sequence[Grade]) -> list[int]:
    """Positions of the relevant ones by falling logit, then of the others; ties keep their order."""
    return sorted(range(len(grades)), key=lambda i: (not grades[i].relevant, -grades[i].logit))


def choose(grades: Sequence[Grade], policy: KeepPolicy, *, n_tokens: Sequence[int] | None = None) -> list[int]:
    """Positions of the grades to keep, ascending.

    Best first, every relevant one is taken, then rejected ones until `min_keep` are there. One that does not fit into
    what is left of `max_tokens` is passed over and the next is tried, so a single document longer than `max_tokens` is
    never kept, and the limit is never exceeded. `max_keep` ends the search. The limits win over `min_keep`.

    Args:
        grades: of one query.
        policy: the limits.
        n_tokens: tokens of each document, same order; needed when the policy has `max_tokens`.

    Raises:
        InvalidInput: `max_tokens` is set and `n_tokens` has not one count per grade.
    """
    if policy.max_tokens is None:
        n_tokens = [0] * len(grades)
    elif n_tokens is None or len(n_tokens) != len(grades):
        raise InvalidInput(f"max_tokens needs one token count per document: {len(grades)} were expected")
    n_left = policy.max_tokens or 0
    kept: list[int] = []
    for position in best_first(grades):
        is_full = policy.max_keep is not None and len(kept) >= policy.max_keep
        if is_full or (not grades[position].relevant and len(kept) >= policy.min_keep):
            break
        if n_tokens[position] <= n_left:
            n_left -= n_tokens[position]
            kept.append(position)
    return sorted(kept)
