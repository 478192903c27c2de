from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relgrade.data import add_random_negatives
from relgrade.data.random_negatives import FIELD, OTHER_SOURCE, SAME_SOURCE
from relgrade.errors import InvalidSettings
from relgrade.records import Pair
from relgrade.settings import RandomNegativesSettings

TWO_AND_ONE = RandomNegativesSettings(same_source=2, other_source=1)


def collection(source, *, n_queries=12, n_documents=4, split="train"):
    return [
        Pair(
            query_id=f"q{q}",
            query=f"what does {source} say of {q}?",
            doc_id=f"d{d}",
            document=f"{source} text {q} {d}",
            label=float(d == 0),
            split=split,
            source=source,
        )
        for q in range(n_queries)
        for d in range(n_documents)
    ]


def added(pairs):
    return [pair for pair in pairs if FIELD in pair.fields]


def test_each_query_gets_as_many_as_asked_for_behind_its_own():
    given_pairs = collection("news") + collection("wiki")
    mixed = add_random_negatives(given_pairs, TWO_AND_ONE, seed=0)
    assert [pair for pair in mixed if FIELD not in pair.fields] == given_pairs
    per_query = Counter((pair.source, pair.query_id, pair.fields[FIELD]) for pair in added(mixed))
    assert set(per_query.values()) == {2, 1}
    assert len(per_query) == 24 * 2
    assert [FIELD in pair.fields for pair in mixed[:7]] == [False] * 4 + [True] * 3


def test_they_are_negatives_of_the_query_with_the_text_of_a_document_that_exists():
    given_pairs = collection("news") + collection("wiki")
    texts = {pair.document: pair.source for pair in given_pairs}
    for pair in added(add_random_negatives(given_pairs, TWO_AND_ONE, seed=0)):
        assert pair.label == 0.0
        own = {each.document for each in given_pairs if each.query == pair.query}
        assert pair.document not in own
        assert (texts[pair.document] == pair.source) == (pair.fields[FIELD] == SAME_SOURCE)


def test_no_text_crosses_a_split_and_test_pairs_stay_as_they_were():
    given_pairs = [
        pair for split in ("train", "validation", "calibration", "test") for pair in collection(split, split=split)
    ]
    mixed = add_random_negatives(given_pairs, RandomNegativesSettings(same_source=3), seed=0)
    home = {pair.document: pair.split for pair in given_pairs}
    assert all(home[pair.document] == pair.split for pair in mixed)
    assert {pair.split for pair in added(mixed)} == {"train", "validation", "calibration"}


def test_ids_within_a_query_stay_distinct():
    given_pairs = [*collection("news"), *collection("wiki")]
    mixed = add_random_negatives(given_pairs, TWO_AND_ONE, seed=0)
    ids = Counter((pair.source, pair.query_id, pair.doc_id) for pair in mixed)
    assert max(ids.values()) == 1


def test_what_stands_with_the_query_in_other_spacing_or_case_is_not_drawn():
    first, second = collection("news", n_queries=2, n_documents=1)
    again = Pair(
        query_id="q1",
        query=second.query,
        doc_id="x",
        document=" NEWS  text 0 0",
        label=1.0,
        split="train",
        source="news",
    )
    mixed = add_random_negatives([first, second, again], RandomNegativesSettings(same_source=1), seed=0)
    assert [pair.query for pair in added(mixed)] == [first.query]


def test_one_source_has_no_other():
    mixed = add_random_negatives(collection("news"), TWO_AND_ONE, seed=0)
    assert {pair.fields[FIELD] for pair in added(mixed)} == {SAME_SOURCE}


def test_a_large_source_is_not_the_only_other_subject():
    given_pairs = collection("news") + collection("wiki", n_queries=200) + collection("law", n_queries=3)
    mixed = add_random_negatives(given_pairs, RandomNegativesSettings(other_source=2), seed=0)
    to_news = [pair.document.split()[0] for pair in added(mixed) if pair.source == "news"]
    assert {pair.fields[FIELD] for pair in added(mixed)} == {OTHER_SOURCE}
    assert Counter(to_news)["law"] >= 6


@given(seed=st.integers(0, 5), same=st.integers(0, 3), other=st.integers(0, 3))
def test_the_same_seed_draws_the_same_and_nothing_is_lost(seed, same, other):
    settings = RandomNegativesSettings(same_source=same, other_source=other)
    given_pairs = collection("news", n_queries=3) + collection("wiki", n_queries=2)
    mixed = add_random_negatives(given_pairs, settings, seed=seed)
    assert mixed == add_random_negatives(given_pairs, settings, seed=seed)
    assert [pair for pair in mixed if FIELD not in pair.fields] == given_pairs
    assert len(added(mixed)) <= (same + other) * 5


def test_a_negative_number_is_refused():
    with pytest.raises(InvalidSettings, match=r"random_negatives.same_source must be >= 0, got -1"):
        RandomNegativesSettings(same_source=-1)
