"""Leaks: what stands in two splits is found, near duplicates by an exact measure, and only training pairs go."""

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relgrade.data import drop_leaks, find_leaks, near
from relgrade.data.shingles import Bands, band_keys, choose_bands, jaccard, shingles_of
from relgrade.errors import InvalidInput, SplitLeak
from relgrade.records import Pair

SPLITS = ["train", "validation", "calibration", "test"]
WORDS = [f"w{i}" for i in range(500)]


def make(*rows):
    """Pairs of (split, query, document)."""
    return [
        Pair(query_id=str(i), query=query, doc_id=str(i), document=document, split=split)
        for i, (split, query, document) in enumerate(rows)
    ]


def found_in(report):
    return {(leak.kind, *leak.splits): leak.n for leak in report.leaks}


def words(n, seed):
    return random.Random(seed).choices(WORDS, k=n)


def with_changes(text, n_changes, seed):
    """The words with some replaced, each of which takes up to five shingles along."""
    drawn = random.Random(seed)
    changed = list(text)
    for place in drawn.sample(range(len(text)), n_changes):
        changed[place] = f"new{seed}x{place}"
    return changed


def similarity(first, second):
    return jaccard(shingles_of(first), shingles_of(second))


def test_each_kind_of_leak_is_found_with_its_splits():
    text = words(100, 0)
    near_text = with_changes(text, 1, 1)
    pairs = make(
        ("train", "What is it?", "one"),
        ("test", "what is  IT", "two"),
        ("train", "a", "Same  text\nhere."),
        ("validation", "b", "same text here."),
        ("train", "c", " ".join(text)),
        ("calibration", "d", " ".join(near_text)),
        ("test", "e", "three"),
    )
    report = find_leaks(pairs, near_duplicate=0.8)
    assert found_in(report) == {
        ("query", "train", "test"): 1,
        ("document", "train", "validation"): 1,
        ("near-document", "train", "calibration"): 1,
    }
    assert [leak.n_first for leak in report.leaks] == [3, 3, 3]
    example = report.leaks[2].examples[0]
    assert (example.first, example.second) == (" ".join(text), " ".join(near_text))
    assert example.similarity == pytest.approx(91 / 101)  # 96 shingles each, 5 of them changed
    assert not report.is_clean
    assert drop_leaks(pairs, report) == [pairs[1], pairs[3], pairs[5], pairs[6]]


def test_what_is_no_leak():
    text = " ".join(words(50, 0))
    pairs = make(
        ("train", "a", text),
        ("train", "a", text),
        ("train", "b", text),
        ("test", "c", " ".join(words(50, 1))),
        ("train", "d", ""),
        ("test", "e", " \n"),
        ("train", "f", "..."),
        ("test", "g", "?!"),
    )
    report = find_leaks(pairs, near_duplicate=0.1)
    assert report.is_clean
    assert report.summary() == "no query and no document stands in two splits (near duplicates from 0.1)"
    report.raise_if_found()
    assert drop_leaks(pairs, report) == pairs
    assert find_leaks([], near_duplicate=0.5).is_clean


def test_short_documents_are_compared_as_a_whole():
    pairs = make(("train", "a", "Blue, whale"), ("test", "b", "blue whale!"), ("validation", "c", "blue whales"))
    assert found_in(find_leaks(pairs, near_duplicate=0.9)) == {("near-document", "train", "test"): 1}


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.9, 1.0])
def test_candidates_lose_almost_nothing_and_the_rest_is_exact(threshold):
    n = 400
    firsts = [words(60 + seed % 90, seed) for seed in range(n)]
    seconds = [with_changes(text, seed % 12, seed + n) for seed, text in enumerate(firsts)]
    pairs = make(
        *[("train", f"a{i}", " ".join(text)) for i, text in enumerate(firsts)],
        *[("test", f"b{i}", " ".join(text) + ".") for i, text in enumerate(seconds)],
    )
    expected = sum(similarity(a.document, b.document) >= threshold for a, b in zip(pairs[:n], pairs[n:], strict=True))
    assert 20 < expected < n
    (leak,) = find_leaks(pairs, near_duplicate=threshold).leaks
    assert 0 <= expected - leak.n <= 3
    assert all(example.similarity >= threshold for example in leak.examples)


def test_the_chance_of_a_shared_minimum_is_the_similarity():
    # Mean over texts and hashes; each single one is only as good as 64 draws.
    texts = [(words(80, seed), seed) for seed in range(300)]
    first = [" ".join(text) for text, _ in texts]
    second = [" ".join(with_changes(text, 4, seed)) for text, seed in texts]
    single = Bands(n_bands=64, n_rows=1)
    shared = (band_keys(first, single, seed=0) == band_keys(second, single, seed=0)).mean(axis=1)
    exact = np.asarray([similarity(a, b) for a, b in zip(first, second, strict=True)])
    assert abs(float(np.mean(shared - exact))) < 0.01
    assert float(np.std(shared - exact)) < 1.3 * np.sqrt(np.mean(exact * (1 - exact)) / 64)


@pytest.mark.parametrize("threshold", np.linspace(0.15, 1.0, 18))
def test_bands_miss_one_in_a_thousand_at_most(threshold):
    bands = choose_bands(threshold)
    assert bands.n_bands * bands.n_rows <= 64
    assert (1 - threshold**bands.n_rows) ** bands.n_bands <= 1e-3


texts = st.lists(st.sampled_from(["a", "b", "c", "é", ".", "D"]), max_size=9).map(" ".join)


@given(texts=st.lists(texts, min_size=1, max_size=8), order=st.randoms())
def test_keys_of_a_text_do_not_depend_on_the_others(texts, order):
    bands = Bands(4, 3)
    together = band_keys(texts, bands, seed=1)
    alone = np.concatenate([band_keys([text], bands, seed=1) for text in texts])
    np.testing.assert_array_equal(together, alone)
    assert not np.array_equal(together, band_keys(texts, bands, seed=2))


@given(texts=st.lists(texts, min_size=2, max_size=2))
def test_equal_shingles_have_equal_keys_and_others_do_not(texts):
    first, second = band_keys(texts, Bands(4, 16), seed=0)
    if all(shingles_of(text) for text in texts):
        assert np.array_equal(first, second) == (shingles_of(texts[0]) == shingles_of(texts[1]))


def test_texts_that_fill_more_than_one_chunk(monkeypatch):
    texts = [" ".join(words(20, seed)) for seed in range(50)]
    bands = Bands(4, 3)
    whole = band_keys(texts, bands, seed=0)
    monkeypatch.setattr("relgrade.data.shingles._CHUNK_WORDS", 64)
    np.testing.assert_array_equal(band_keys(texts, bands, seed=0), whole)


rows = st.lists(st.tuples(st.sampled_from(SPLITS), st.sampled_from("abcdef"), texts), max_size=14)


@settings(max_examples=150)
@given(rows=rows, threshold=st.sampled_from([0.2, 0.5, 0.9]))
def test_after_dropping_no_training_pair_leaks_and_the_rest_is_untouched(rows, threshold):
    pairs = make(*rows)
    report = find_leaks(pairs, near_duplicate=threshold)
    kept = drop_leaks(pairs, report)
    assert [pair for pair in kept if pair.split != "train"] == [pair for pair in pairs if pair.split != "train"]
    assert all(leak.splits[0] != "train" for leak in find_leaks(kept, near_duplicate=threshold).leaks)
    # What is dropped does leak: with only one training pair left in, it is found again.
    gone = [pair for pair in pairs if pair not in kept]
    for pair in gone:
        others = [other for other in pairs if other.split != "train"]
        assert not find_leaks([pair], near_duplicate=threshold).leaks
        assert any(leak.splits[0] == "train" for leak in find_leaks([pair, *others], near_duplicate=threshold).leaks)


@given(rows=rows, order=st.randoms(use_true_random=False))
def test_the_order_of_pairs_does_not_matter(rows, order):
    pairs = make(*rows)
    shuffled = list(pairs)
    order.shuffle(shuffled)
    first, second = (find_leaks(each, near_duplicate=0.5) for each in (pairs, shuffled))
    assert found_in(first) == found_in(second)
    assert (first.train_queries, first.train_documents) == (second.train_queries, second.train_documents)


def test_a_template_does_not_make_the_work_quadratic(monkeypatch):
    n = 600
    template = words(80, 0)
    texts = [" ".join([*template[: 5 + i % 70], f"new{i}", *template[6 + i % 70 :]]) for i in range(n)]
    pairs = make(*[("train" if i % 2 else "test", str(i), text) for i, text in enumerate(texts)])
    # With one word in its place each, any two have a similarity of 71 / 81 at most.
    n_calls = 0

    def counted(first, second):
        nonlocal n_calls
        n_calls += 1
        return jaccard(first, second)

    monkeypatch.setattr(near, "jaccard", counted)
    assert find_leaks(pairs, near_duplicate=0.9).is_clean
    assert n / 2 < n_calls <= n / 2 * near.MAX_COMPARED < n * n / 4


def test_thousands_of_the_same_text_are_no_work():
    text = " ".join(words(30, 0))
    pairs = make(*[("train" if i % 2 else "test", str(i), f"{text}{'.' * i}") for i in range(2000)])
    (leak,) = find_leaks(pairs, near_duplicate=0.9).leaks
    assert (leak.n, leak.n_first, len(leak.examples)) == (1000, 1000, 5)


def test_a_summary_is_one_line_a_fact_and_drives_no_terminal():
    pairs = make(("train", "a\x1b[2J\nb" + "x" * 200, "one"), ("test", "A\x1b[2J b" + "x" * 200, "two"))
    report = find_leaks(pairs, near_duplicate=0.9)
    first, second = report.summary().split("\n")
    assert first == "1 of 1 queries of train are in test too"
    assert second.startswith("  for example a\\x1b[2J bxxx")
    assert len(second) < 130
    with pytest.raises(SplitLeak, match="1 of 1 queries of train"):
        report.raise_if_found()


def test_arguments_that_make_no_sense():
    pairs = make(("train", "a", "b"))
    for threshold in (0.0, -1.0, 1.1, float("nan")):
        with pytest.raises(InvalidInput, match="near_duplicate must be in"):
            find_leaks(pairs, near_duplicate=threshold)
    with pytest.raises(InvalidInput, match="query '0' has no split; divide the pairs"):
        find_leaks([replace(pairs[0], split=None)], near_duplicate=0.9)
