"""Divides pairs into train, validation, calibration and test by query.

Guarantee: pairs of the same query (`queries.query_key`) are in one split, and the split of a query depends on its
text, the shares and the seed alone, so that adding pairs moves no other query. Shares are met on average, not exactly:
200 queries at a share of 0.1 give 20, plus or minus 4.
"""

from collections.abc import Sequence
from dataclasses import replace

from relgrade.data.queries import draw, query_key
from relgrade.errors import InvalidInput, SplitLeak
from relgrade.records import Pair
from relgrade.settings import SplitSettings

TRAIN, VALIDATION, CALIBRATION, TEST = SPLITS = ("train", "validation", "calibration", "test")
_OTHER_NAMES = {"dev": VALIDATION, "val": VALIDATION, "valid": VALIDATION}
_MAX_SHOWN = 3


def split_by_query(pairs: Sequence[Pair], settings: SplitSettings, *, seed: int) -> list[Pair]:
    """Give each pair a split.

    A pair that names validation (also `dev`, `val`, `valid`), calibration or test keeps it, and takes the other pairs
    of its query along. Queries of pairs that name `train` are divided into train, validation and calibration, queries
    of pairs that name none into all four.

    Args:
        pairs: any number of collections.
        settings: shares of the queries.
        seed: of the draw.

    Returns:
        New pairs in the order of the old.

    Raises:
        InvalidInput: a pair names another split.
        SplitLeak: pairs of one query name two splits other than train.
    """
    keys = [query_key(pair.query) for pair in pairs]
    named: dict[str, set[str]] = {}
    for key, pair in zip(keys, pairs, strict=True):
        names = named.setdefault(key, set())
        if pair.split is not None:
            names.add(_known(pair))
    _check_contradictions(named)
    splits = {key: _split_of(key, names, settings, seed) for key, names in named.items()}
    return [
        pair if pair.split == splits[key] else replace(pair, split=splits[key])
        for key, pair in zip(keys, pairs, strict=True)
    ]


def _known(pair: Pair) -> str:
    name = _OTHER_NAMES.get(pair.split or "", pair.split)
    if name not in SPLITS:
        raise InvalidInput(f"query {pair.query_id!r} is in split {pair.split!r}; known are {', '.join(SPLITS)}")
    return name


def _check_contradictions(named: dict[str, set[str]]) -> None:
    bad = [(key, names - {TRAIN}) for key, names in named.items() if len(names - {TRAIN}) > 1]
    if bad:
        shown = "; ".join(f"{key[:80]!r} in {' and '.join(sorted(names))}" for key, names in bad[:_MAX_SHOWN])
        raise SplitLeak(
            f"{len(bad)} queries are named for two splits: {shown}. Take their pairs out of one, or clear `split`"
        )


def _split_of(key: str, names: set[str], settings: SplitSettings, seed: int) -> str:
    held_out = names - {TRAIN}
    if held_out:
        return next(iter(held_out))
    at = draw(key, seed=seed, purpose="split")
    if at < settings.validation:
        return VALIDATION
    if at < settings.validation + settings.calibration:
        return CALIBRATION
    if at < settings.validation + settings.calibration + settings.test and TRAIN not in names:
        return TEST
    return TRAIN
