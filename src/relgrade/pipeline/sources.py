"""Step `read`: the pairs of every source of a recipe, capped, as one file."""

from collections.abc import Sequence
from pathlib import Path

from relgrade.data import cap_by_query
from relgrade.errors import InvalidSettings
from relgrade.formats import read_pairs, write_pairs
from relgrade.records import Pair
from relgrade.settings import SourceSettings


def read_sources(sources: Sequence[SourceSettings], output: Path, *, seed: int) -> list[str]:
    """Read, leave out what cannot be learned from, cap, write.

    Pairs without a label, and documents without text, which a grader judges by rule, are left out and counted.

    Args:
        sources: of a recipe.
        output: file of pairs to write.
        seed: of the caps.

    Returns:
        A line per source.

    Raises:
        InvalidSettings: no sources, or a source without a pair that can be used.
        InvalidData: a file or line is not as it should be.
    """
    if not sources:
        raise InvalidSettings("the recipe names no sources; add a [[sources]] table with name and path")
    pairs: list[Pair] = []
    lines = []
    for source in sources:
        found = list(read_pairs(source.path, source=source.name, split=source.split))
        usable = [pair for pair in found if pair.label is not None and pair.document.strip()]
        if not usable:
            raise InvalidSettings(
                f"source {source.name!r} ({source.path}): {len(found)} pairs, none with a label and a text; "
                "labelled pairs were expected"
            )
        kept = cap_by_query(usable, source.max_pairs, seed=seed)
        pairs += kept
        n_queries = len({pair.query_id for pair in kept})
        lines.append(f"{source.name}: {len(kept):,} pairs of {n_queries:,} queries, {len(found):,} read")
        if len(usable) < len(found):
            lines.append(f"! {source.name}: {len(found) - len(usable):,} pairs without label or text left out")
    output.parent.mkdir(parents=True, exist_ok=True)
    write_pairs(output, pairs)
    return lines
