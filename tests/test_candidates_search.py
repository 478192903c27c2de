import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relgrade.candidates import Mix, dense
from relgrade.candidates.dense import ExactIndex, ListIndex, unit_rows
from relgrade.candidates.lexical import LexicalIndex
from relgrade.candidates.mixing import choose
from relgrade.candidates.ranking import Ranking, best_rows, fuse
from relgrade.candidates.settings import CandidateSettings
from relgrade.errors import InvalidInput, InvalidSettings

SCORES = st.lists(st.integers(-3, 3), min_size=1, max_size=40)  # few values: many ties


def ranking(rows):
    return Ranking(np.asarray(rows, np.int64), np.linspace(1, 0.5, len(rows)))


def random_vectors(n, dimension=16, seed=0):
    return unit_rows(np.random.default_rng(seed).normal(size=(n, dimension)))


@given(SCORES, st.integers(1, 45))
def test_best_rows_are_those_of_a_full_stable_sort(scores, n_wanted):
    scores = np.asarray(scores, np.float32)
    expected = sorted(range(len(scores)), key=lambda row: (-scores[row], row))[:n_wanted]
    assert best_rows(scores, n_wanted).tolist() == expected


def test_fusion_is_the_formula_of_the_paper():
    fused = fuse({"a": ranking([7, 3]), "b": ranking([3, 9])}, k=60, n_wanted=10)
    assert fused.rows.tolist() == [3, 7, 9]
    assert fused.scores == pytest.approx([1 / 62 + 1 / 61, 1 / 61, 1 / 62], abs=1e-15)


@given(st.permutations(range(8)), st.permutations(range(8)), st.integers(1, 8))
def test_fusion_does_not_depend_on_the_order_of_methods(first, second, n_wanted):
    one = fuse({"a": ranking(first), "b": ranking(second)}, k=60, n_wanted=n_wanted)
    other = fuse({"b": ranking(second), "a": ranking(first)}, k=60, n_wanted=n_wanted)
    assert one.rows.tolist() == other.rows.tolist()
    assert one.scores.tolist() == other.scores.tolist()


@given(st.integers(1, 70), st.integers(1, 9))
def test_exact_search_in_blocks_is_search_in_one_piece(n_rows, n_wanted):
    rows, queries = random_vectors(n_rows, 3), random_vectors(5, 3, seed=1)
    rows = np.repeat(rows[: max(1, n_rows // 2)], 2, axis=0)  # copies: ties across blocks
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense, "BLOCK_ROWS", 7)
        patch.setattr(dense, "QUERY_BLOCK", 2)
        found = ExactIndex(lambda start, stop: rows[start:stop], len(rows)).search(queries, n_wanted)
    for query, ours in zip(queries, found, strict=True):
        scores = rows.astype(np.float64) @ query.astype(np.float64)
        assert len(ours.rows) == min(n_wanted, len(rows))
        assert np.all(np.diff(ours.scores) <= 0)
        assert ours.scores == pytest.approx(np.sort(scores)[::-1][:n_wanted], abs=1e-6)
        assert len(set(ours.rows.tolist())) == len(ours.rows)


def test_lists_find_what_exact_search_finds_and_do_so_twice():
    pytest.importorskip("faiss")
    centres, noise = random_vectors(40), np.random.default_rng(3).normal(scale=0.1, size=(4000, 16))
    rows = unit_rows(np.repeat(centres, 100, axis=0) + noise)
    queries = rows[::400]
    exact = ExactIndex(lambda start, stop: rows[start:stop], len(rows)).search(queries, 10)
    built = [ListIndex(lambda a, b: rows[a:b], len(rows), dimension=16, seed=0).search(queries, 10) for _ in range(2)]
    overlap = [len(set(a.rows) & set(b.rows)) / 10 for a, b in zip(exact, built[0], strict=True)]
    assert np.mean(overlap) > 0.95
    assert [each.rows.tolist() for each in built[0]] == [each.rows.tolist() for each in built[1]]


def test_vectors_that_are_not_finite_are_refused():
    with pytest.raises(InvalidInput, match="vector 1 holds"):
        unit_rows(np.asarray([[1.0, 0.0], [np.nan, 0.0]]))
    assert unit_rows(np.zeros((1, 2))).tolist() == [[0.0, 0.0]]


def test_words_are_searched_as_the_baseline_scores_them():
    from relgrade.evaluate.baselines import BM25

    documents = [f"the {a} and {b} of the river" for a in ("dog", "cat", "hen") for b in ("apple", "plum", "cat cat")]
    query = "Which cat ate an apple?"
    expected = BM25(documents).score([(query, document) for document in documents])
    found = LexicalIndex(documents).search(query, 100)
    assert set(found.rows.tolist()) == set(np.flatnonzero(expected > 0).tolist())
    assert found.scores == pytest.approx(expected[found.rows], rel=1e-6)
    assert np.all(np.diff(found.scores) <= 0)


def test_a_query_without_known_words_finds_nothing_and_a_corpus_without_words_is_refused():
    index = LexicalIndex(["red apple", "green pear"])
    assert index.search("zzz the of", 5).rows.tolist() == []
    with pytest.raises(InvalidInput, match="no word to index in the 2 documents"):
        LexicalIndex(["the", "!"])


@given(
    st.lists(st.integers(0, 15), min_size=1, max_size=60),
    st.integers(0, 6),
    st.integers(0, 6),
    st.integers(1, 6),
    st.integers(0, 3),
)
def test_a_choice_has_its_strata_and_no_text_twice(keys, n_top, n_mid, n_random, seed):
    keys = np.asarray(keys, np.int64)
    ranked = np.random.default_rng(seed).permutation(len(keys))[:20]
    mix = Mix(top=n_top, mid=n_mid, random=n_random)
    chosen = choose(ranking(ranked), mix, text_keys=keys, rng=np.random.default_rng(seed))
    texts = [keys[choice.row] for choice in chosen]
    assert len(set(texts)) == len(texts)
    n_distinct_ranked = len({keys[row] for row in ranked})
    by_stratum = {name: [each for each in chosen if each.stratum == name] for name in ("top", "mid", "random")}
    assert [each.rank for each in by_stratum["top"]] == list(range(1, min(n_top, n_distinct_ranked) + 1))
    assert len(by_stratum["mid"]) == min(n_mid, max(0, n_distinct_ranked - n_top))
    assert all(each.rank > n_top for each in by_stratum["mid"])
    n_left = len(set(keys.tolist())) - len(by_stratum["top"]) - len(by_stratum["mid"])
    assert len(by_stratum["random"]) == min(n_random, n_left)


def test_random_documents_are_drawn_from_the_whole_corpus():
    keys = np.arange(1000)
    drawn = [
        choice.row
        for seed in range(300)
        for choice in choose(ranking(range(10)), Mix(random=3), text_keys=keys, rng=np.random.default_rng(seed))
    ]
    assert np.mean(drawn) == pytest.approx(499.5, abs=40)  # four standard errors
    assert len(set(drawn)) > 500


@pytest.mark.parametrize(
    ("text", "mix"),
    [("top=10,mid=5,random=5", Mix(top=10, mid=5, random=5)), (" random=3 , top=1", Mix(top=1, random=3))],
)
def test_a_mix_is_read(text, mix):
    assert Mix.parse(text) == mix


@pytest.mark.parametrize("text", ["", "top", "top=-1", "top=1,top=2", "best=3", "top=0", "top=٣"])
def test_what_is_no_mix_is_refused(text):
    with pytest.raises(InvalidSettings):
        Mix.parse(text)


@given(st.integers(1, 200))
def test_the_default_mix_has_as_many_as_asked(total):
    assert Mix.of(total).total == total


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "magic"}, "one of bm25, dense, hybrid"),
        ({"depth": 10, "mix": Mix(top=8, mid=4)}, "at least 12"),
        ({"seed": -1}, "whole number >= 0"),
        ({"method": "bm25", "has_store_vectors": True}, "reads no vectors"),
    ],
)
def test_settings_that_contradict_are_refused(changes, message):
    with pytest.raises(InvalidSettings, match=message):
        CandidateSettings(**changes)
