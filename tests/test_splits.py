"""Splits and caps: a query is the unit, and nothing but its text, the shares and the seed decides."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relgrade.data import cap_by_query, split_by_query
from relgrade.data.queries import draw, query_key
from relgrade.errors import InvalidInput, SplitLeak
from relgrade.formats import write_pairs
from relgrade.records import Pair
from relgrade.settings import SplitSettings

SHARES = SplitSettings(validation=0.2, calibration=0.2, test=0.2)

# Few letters, so that different ids often have the same query in other spellings.
queries = st.text("aB \tﬁé?.", min_size=1, max_size=4)
pairs_strategy = st.lists(
    st.builds(
        Pair,
        query_id=st.text("ab12", min_size=1, max_size=3),
        query=queries,
        doc_id=st.text("ab", min_size=1, max_size=2),
        document=st.just("text"),
        split=st.sampled_from([None, "train"]),
    ),
    max_size=25,
)


def make(n_queries, n_documents=1, **fields):
    return [
        Pair(query_id=str(i), query=f"question {i}?", doc_id=f"{i}.{j}", document="text", **fields)
        for i in range(n_queries)
        for j in range(n_documents)
    ]


def splits_of(pairs):
    splits = {}
    for pair in pairs:
        splits.setdefault(query_key(pair.query), set()).add(pair.split)
    return splits


@given(pairs=pairs_strategy, seed=st.integers(0, 5))
def test_a_query_never_stands_in_two_splits(pairs, seed):
    divided = split_by_query(pairs, SHARES, seed=seed)
    assert all(len(splits) == 1 for splits in splits_of(divided).values())
    assert [replace(pair, split=None) for pair in divided] == [replace(pair, split=None) for pair in pairs]


@given(pairs=pairs_strategy, held_out=st.dictionaries(queries, st.sampled_from(["validation", "test"]), max_size=4))
def test_held_out_pairs_keep_their_split_and_take_their_query_along(pairs, held_out):
    by_key = {query_key(query): split for query, split in held_out.items()}
    named = [
        Pair(query_id="n", query=query, doc_id="d", document="text", split=by_key[query_key(query)])
        for query in held_out
    ]
    divided = split_by_query([*pairs, *named], SHARES, seed=0)
    splits = splits_of(divided)
    assert all(len(each) == 1 for each in splits.values())
    assert all(splits[key] == {split} for key, split in by_key.items())


@given(pairs=pairs_strategy, more=pairs_strategy, seed=st.integers(0, 5))
def test_adding_pairs_moves_no_other_query(pairs, more, seed):
    # Saying "train" of a query is a statement about it, so only pairs of other queries are added here.
    known = {query_key(pair.query) for pair in pairs}
    more = [pair for pair in more if query_key(pair.query) not in known]
    alone = split_by_query(pairs, SHARES, seed=seed)
    together = split_by_query([*more, *pairs], SHARES, seed=seed)
    assert together[len(more) :] == alone


@given(pairs=pairs_strategy)
def test_train_never_becomes_test(pairs):
    for before, after in zip(pairs, split_by_query(pairs, SHARES, seed=1), strict=True):
        assert before.split != "train" or after.split != "test"


def test_shares_are_met_on_average():
    divided = split_by_query(make(4000, 2), SplitSettings(validation=0.1, calibration=0.2, test=0.3), seed=3)
    counts = Counter(pair.split for pair in divided)
    for split, share in {"validation": 0.1, "calibration": 0.2, "test": 0.3, "train": 0.4}.items():
        assert counts[split] / len(divided) == pytest.approx(share, abs=0.03)  # four standard errors


def test_a_greater_share_moves_no_query_out_of_validation():
    small = split_by_query(make(500), SplitSettings(validation=0.1), seed=0)
    large = split_by_query(make(500), SplitSettings(validation=0.3), seed=0)
    for before, after in zip(small, large, strict=True):
        assert before.split != "validation" or after.split == "validation"


def test_seeds_give_the_same_bytes_and_other_seeds_do_not(tmp_path):
    files = []
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        path = tmp_path / f"{name}.jsonl.gz"
        write_pairs(path, split_by_query(make(60, 2), SHARES, seed=seed))
        files.append(path.read_bytes())
    assert files[0] == files[1] != files[2]


def test_the_split_is_the_same_in_every_process_and_release():
    divided = split_by_query(make(12), SHARES, seed=0)
    letters = {"train": "r", "validation": "v", "calibration": "c", "test": "t"}
    assert "".join(letters[pair.split] for pair in divided) == "tvcvctccrtvc"


def test_other_names_of_validation_and_names_that_mean_nothing():
    assert split_by_query(make(1, split="dev"), SHARES, seed=0)[0].split == "validation"
    with pytest.raises(InvalidInput, match="is in split 'holdout'; known are train, validation"):
        split_by_query(make(1, split="holdout"), SHARES, seed=0)


def test_a_query_that_is_named_for_two_splits_is_an_error():
    pairs = [*make(1, split="test"), replace(make(1, split="calibration")[0], query_id="x", query="QUESTION 0")]
    with pytest.raises(SplitLeak, match="1 queries are named for two splits: 'question 0' in calibration and test"):
        split_by_query(pairs, SHARES, seed=0)


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ("What is it?", " what  is\nit ", True),
        ("ﬁsh", "fish", True),
        ("Straße", "STRASSE", True),
        ("\u201cwhat\u201d", '"what"', True),
        ("what is C++", "what is C", False),
        ("what is it", "what is this", False),
        ("?", "!", False),
        ("?", "?!", False),
    ],
)
def test_which_queries_are_the_same(first, second, is_same):
    assert (query_key(first) == query_key(second)) is is_same


def test_draws_of_two_purposes_do_not_depend_on_each_other():
    import numpy as np

    keys = [str(i) for i in range(4000)]
    first = [draw(key, seed=0, purpose="split") for key in keys]
    second = [draw(key, seed=0, purpose="cap") for key in keys]
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.07  # four standard errors
    assert np.histogram(first, bins=10, range=(0, 1))[0] == pytest.approx([400] * 10, abs=80)


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=12), max_pairs=st.integers(5, 40), seed=st.integers(0, 3))
def test_a_cap_keeps_whole_queries(sizes, max_pairs, seed):
    pairs = [pair for i, n in enumerate(sizes) for pair in make(len(sizes), n)[i * n : (i + 1) * n]]
    kept = cap_by_query(pairs, max_pairs, seed=seed)
    assert len(kept) <= max_pairs
    counts, kept_counts = (Counter(pair.query_id for pair in each) for each in (pairs, kept))
    assert all(counts[query] == n for query, n in kept_counts.items())
    assert [pair for pair in pairs if pair.query_id in kept_counts] == kept
    # Nothing that is left out would have fitted.
    assert all(len(kept) + n > max_pairs for query, n in counts.items() if query not in kept_counts)
    assert sorted(map(repr, cap_by_query(pairs[::-1], max_pairs, seed=seed))) == sorted(map(repr, kept))


def test_caps_that_are_none_or_too_small():
    pairs = make(3, 4)
    assert cap_by_query(pairs, None, seed=0) == pairs == cap_by_query(pairs, 12, seed=0)
    with pytest.raises(InvalidInput, match="max_pairs is 3, and the smallest query has 4 pairs"):
        cap_by_query(pairs, 3, seed=0)
    assert cap_by_query(make(40), 10, seed=0) != cap_by_query(make(40), 10, seed=1)


def test_a_cap_leaves_the_shares_of_the_splits():
    capped = cap_by_query(make(3000), 1000, seed=0)
    counts = Counter(pair.split for pair in split_by_query(capped, SHARES, seed=0))
    assert counts["train"] / 1000 == pytest.approx(0.4, abs=0.07)
