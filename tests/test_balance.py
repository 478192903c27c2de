"""Balancing touches training pairs alone, keeps every positive, and says what it did to the odds."""

import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relgrade.data import ClassWeights, balance, class_weights, prior_shift
from relgrade.errors import InvalidInput
from relgrade.formats import read_pairs, write_pairs
from relgrade.records import Pair
from relgrade.settings import BalanceSettings

labels = st.none() | st.sampled_from([0.0, 0.49, 0.5, 1.0])
splits = st.sampled_from(["train", "train", "train", "validation", "test", None])


def make(labelled):
    """Pairs of (label, split)."""
    return [
        Pair(query_id=str(i // 4), query=f"q {i // 4}", doc_id=str(i), document=f"text {i}", label=label, split=split)
        for i, (label, split) in enumerate(labelled)
    ]


both_classes = st.lists(st.tuples(labels, splits), max_size=40).map(
    lambda rows: make([(1.0, "train"), (0.0, "train"), *rows])
)
ratios = st.sampled_from([0.3, 1.0, 2.5, 10.0])


def counts(pairs):
    train = [pair.label for pair in pairs if pair.split == "train" and pair.label is not None]
    return sum(label >= 0.5 for label in train), sum(label < 0.5 for label in train)


def originals(pairs):
    return [replace(pair, fields={}) for pair in pairs]


@given(pairs=both_classes, ratio=ratios, seed=st.integers(0, 3))
def test_oversampling_repeats_positives_until_the_ratio_is_met(pairs, ratio, seed):
    after = balance(pairs, BalanceSettings(method="oversample", negatives_per_positive=ratio), seed=seed)
    (n_positive, n_negative), (n_positive_after, n_negative_after) = counts(pairs), counts(after)
    assert n_negative_after == n_negative
    assert n_positive_after == max(n_positive, round(n_negative / ratio))
    assert list(dict.fromkeys(map(repr, originals(after)))) == list(map(repr, originals(pairs)))
    times = Counter(pair.doc_id for pair in after)
    of_positives = [times[pair.doc_id] for pair in pairs if pair.split == "train" and (pair.label or 0) >= 0.5]
    assert max(of_positives) - min(of_positives) <= 1
    assert sum(times.values()) - sum(of_positives) == len(pairs) - len(of_positives)


@given(pairs=both_classes, ratio=ratios, seed=st.integers(0, 3))
def test_undersampling_leaves_out_negatives_alone(pairs, ratio, seed):
    after = balance(pairs, BalanceSettings(method="undersample", negatives_per_positive=ratio), seed=seed)
    n_positive, n_negative = counts(pairs)
    assert counts(after) == (n_positive, min(n_negative, max(1, round(n_positive * ratio))))
    kept = {pair.doc_id for pair in after}
    assert after == [pair for pair in pairs if pair.doc_id in kept]
    gone = [pair for pair in pairs if pair.doc_id not in kept]
    assert all(pair.split == "train" and pair.label is not None and pair.label < 0.5 for pair in gone)


@given(pairs=both_classes)
def test_other_methods_change_no_pair(pairs):
    for method in ("none", "class-weights"):
        assert balance(pairs, BalanceSettings(method=method), seed=0) == pairs


@given(pairs=both_classes, ratio=ratios)
def test_class_weights_reach_the_ratio_and_have_mean_one(pairs, ratio):
    weights = class_weights(pairs, BalanceSettings(method="class-weights", negatives_per_positive=ratio))
    n_positive, n_negative = counts(pairs)
    assert weights.negative * n_negative == pytest.approx(ratio * weights.positive * n_positive)
    assert weights.negative * n_negative + weights.positive * n_positive == pytest.approx(n_positive + n_negative)
    assert weights.prior_shift == pytest.approx(-math.log(ratio) - math.log(n_positive / n_negative))


def test_weights_of_other_methods_and_of_soft_labels():
    pairs = make([(1.0, "train"), (0.0, "train"), (0.0, "train")])
    assert class_weights(pairs, BalanceSettings(method="oversample")) == ClassWeights(1.0, 1.0)
    weights = ClassWeights(positive=3.0, negative=1.0)
    assert [weights.of(label) for label in (0.0, 0.5, 1.0)] == [1.0, 2.0, 3.0]


def test_prior_shift_is_the_change_of_log_odds_in_train():
    before = make([(1.0, "train"), *[(0.0, "train")] * 9, *[(1.0, "test")] * 50])
    after = balance(before, BalanceSettings(method="oversample"), seed=0)
    assert prior_shift(before, after) == pytest.approx(math.log(9))
    assert prior_shift(after, before) == pytest.approx(-math.log(9))
    assert prior_shift(before, before) == 0.0


@pytest.mark.parametrize("method", ["oversample", "undersample", "class-weights"])
@pytest.mark.parametrize("rows", [[(1.0, "train")], [(0.0, "train"), (1.0, "test")], [(None, "train")], []])
def test_one_class_cannot_be_balanced(method, rows):
    settings = BalanceSettings(method=method)
    with pytest.raises(InvalidInput, match="positive and negative pairs of split train, got"):
        class_weights(make(rows), settings) if method == "class-weights" else balance(make(rows), settings, seed=0)


@pytest.mark.parametrize("method", ["oversample", "undersample"])
def test_seeds_decide_the_bytes_and_a_balanced_file_can_be_read(tmp_path, method):
    pairs = make([(1.0, "train")] * 5 + [(0.0, "train")] * 33)
    ratio = 4.5 if method == "oversample" else 3
    settings = BalanceSettings(method=method, negatives_per_positive=ratio)
    files = []
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        write_pairs(tmp_path / f"{name}.jsonl", balance(pairs, settings, seed=seed))
        files.append((tmp_path / f"{name}.jsonl").read_bytes())
    assert files[0] == files[1] != files[2]
    once = list(read_pairs(tmp_path / "a.jsonl"))
    assert once == balance(pairs, settings, seed=1)
    # A second time: copies of copies are told apart too.
    more = BalanceSettings(method=method, negatives_per_positive=ratio / 3)
    write_pairs(tmp_path / "d.jsonl", balance(once, more, seed=0))
    assert counts(list(read_pairs(tmp_path / "d.jsonl"))) == counts(balance(once, more, seed=0))
