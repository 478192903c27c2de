"""Adds documents drawn at random as negatives of a query.

Collections are labelled among what a retriever found, so every negative in them is a near miss, and a model trained on
near misses alone has never seen a document about something else. Its scores of those are extrapolation. A few random
documents per query, in training and in calibration alike, put them where they belong.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from relgrade.data.queries import draw, query_key
from relgrade.data.splits import CALIBRATION, TRAIN, VALIDATION
from relgrade.records import Pair
from relgrade.settings import RandomNegativesSettings

ADDED_TO = (TRAIN, VALIDATION, CALIBRATION)  # test pairs are reported as they were given
FIELD = "negative"  # says how an added pair came about
SAME_SOURCE, OTHER_SOURCE = "random, same source", "random, other source"
_MAX_TRIES = 8  # per wanted document; a query that stands with most of its collection gets fewer


def add_random_negatives(pairs: Sequence[Pair], settings: RandomNegativesSettings, *, seed: int) -> list[Pair]:
    """Add negatives to each query of train, validation and calibration.

    A document is drawn from its own split alone, so that no text comes to stand in two. Never drawn is what already
    stands with the query, under any id. A random document of the query's own collection may answer it all the same;
    among thousands of documents that is rare, in a collection of one subject and few documents it is not.

    Args:
        pairs: of all splits; a query is known by its text (`queries.query_key`) and its source.
        settings: how many per query.
        seed: of the draw. A query's draw depends on its text, the seed and the documents of its split.

    Returns:
        The pairs as they were, each query's new ones behind its last.
    """
    if settings.same_source == 0 and settings.other_source == 0:
        return list(pairs)
    pools: dict[str, dict[str, list[Pair]]] = {split: _pools(pairs, split) for split in ADDED_TO}
    lists = _lists(pairs)
    added: dict[int, list[Pair]] = {}
    for each in lists.values():
        if each.first.split in ADDED_TO:
            added[each.last_position] = list(_draw_for(each, pools[each.first.split], settings, seed))
    return [pair for position, old in enumerate(pairs) for pair in (old, *added.get(position, ()))]


@dataclass(slots=True)
class _QueryList:
    first: Pair
    last_position: int = 0
    documents: set[str] = field(default_factory=set)
    doc_ids: set[str] = field(default_factory=set)


def _lists(pairs: Sequence[Pair]) -> dict[tuple[str | None, str], _QueryList]:
    lists: dict[tuple[str | None, str], _QueryList] = {}
    for position, pair in enumerate(pairs):
        found = lists.setdefault((pair.source, query_key(pair.query)), _QueryList(pair))
        found.last_position = position
        found.documents.add(_text_key(pair.document))
        found.doc_ids.add(pair.doc_id)
    return lists


def _pools(pairs: Sequence[Pair], split: str) -> dict[str, list[Pair]]:
    """Source -> one pair per distinct document of that split, in the order of the pairs."""
    pools: dict[str, dict[str, Pair]] = {}
    for pair in pairs:
        if pair.split == split and pair.document.strip():
            pools.setdefault(pair.source or "", {}).setdefault(_text_key(pair.document), pair)
    return {source: list(documents.values()) for source, documents in pools.items()}


def _draw_for(
    each: _QueryList, pools: dict[str, list[Pair]], settings: RandomNegativesSettings, seed: int
) -> Iterator[Pair]:
    own = each.first.source or ""
    others = [source for source in sorted(pools) if source != own]
    taken = set(each.documents)
    key = f"{own}\t{query_key(each.first.query)}"
    for kind, n_wanted in ((SAME_SOURCE, settings.same_source), (OTHER_SOURCE, settings.other_source)):
        n_left = n_wanted
        for attempt in range(n_wanted * _MAX_TRIES):
            source = own
            if kind == OTHER_SOURCE:
                # Sources alike, however large: a big one would else be the only other subject ever seen.
                source = others[_index(len(others), f"{key}\t{attempt}", seed, "other source")] if others else ""
            pool = pools.get(source, [])
            if n_left == 0 or not pool:
                break
            drawn = pool[_index(len(pool), f"{key}\t{attempt}", seed, kind)]
            if _text_key(drawn.document) in taken:
                continue
            taken.add(_text_key(drawn.document))
            n_left -= 1
            yield _negative(each, drawn, kind)


def _negative(each: _QueryList, drawn: Pair, kind: str) -> Pair:
    doc_id = drawn.doc_id if kind == SAME_SOURCE else f"{drawn.source}/{drawn.doc_id}"
    while doc_id in each.doc_ids:  # ids of another list may mean another text
        doc_id += "'"
    each.doc_ids.add(doc_id)
    first = each.first
    return Pair(
        query_id=first.query_id,
        query=first.query,
        doc_id=doc_id,
        document=drawn.document,
        label=0.0,
        split=first.split,
        source=first.source,
        fields={FIELD: kind},
    )


def _index(n: int, key: str, seed: int, purpose: str) -> int:
    return int(draw(key, seed=seed, purpose=purpose) * n)


def _text_key(document: str) -> str:
    return " ".join(document.split()).casefold()
