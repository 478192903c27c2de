import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from relgrade import metrics
from relgrade.calibrate import pick_best_f1
from relgrade.errors import InvalidInput, UndefinedMeasure


@st.composite
def labelled(draw):
    n = draw(st.integers(2, 40))
    probabilities = draw(npst.arrays(np.int64, n, elements=st.integers(0, 8))) / 8.0
    labels = draw(npst.arrays(np.int64, n, elements=st.integers(0, 1)))
    labels[0] = 1
    sources = np.array(draw(st.lists(st.sampled_from("ab"), min_size=n, max_size=n)))
    return probabilities, labels, sources


def macro_f1(probabilities, labels, sources, threshold):
    kept = probabilities >= threshold
    names = [each for each in np.unique(sources) if labels[sources == each].any()]
    return np.mean([metrics.f1(kept[sources == each], labels[sources == each]) for each in names])


@settings(max_examples=60, deadline=None)
@given(data=labelled())
def test_no_threshold_does_better(data):
    probabilities, labels, sources = data
    point = pick_best_f1(probabilities, labels, sources=sources)
    reached = macro_f1(probabilities, labels, sources, point.threshold)
    assert reached == pytest.approx(point.evidence["macro_f1"])
    for other in [0.0, *np.unique(probabilities), 1.0]:
        assert macro_f1(probabilities, labels, sources, other) <= reached + 1e-12


@settings(max_examples=60, deadline=None)
@given(data=labelled(), seed=st.integers(0, 1000), times=st.integers(1, 3))
def test_neither_order_nor_repetition_matters(data, seed, times):
    probabilities, labels, sources = data
    order = np.random.default_rng(seed).permutation(np.tile(np.arange(labels.size), times))
    plain = pick_best_f1(probabilities, labels, sources=sources)
    again = pick_best_f1(probabilities[order], labels[order], sources=sources[order])
    assert again.threshold == plain.threshold
    assert again.evidence["macro_f1"] == plain.evidence["macro_f1"]


def test_the_threshold_lies_midway_and_the_boundary_is_kept():
    point = pick_best_f1([0.2, 0.4, 0.8, 0.9], [0, 0, 1, 1])
    assert point.threshold == pytest.approx(0.6)
    # Nothing is dropped: the lowest probability is the threshold, and the pair that sits on it is kept.
    point = pick_best_f1([0.3, 0.9], [1, 1])
    assert point.threshold == 0.3
    assert point.evidence["n_kept"] == 2


def test_neighbouring_numbers_are_still_told_apart():
    upper = float(np.nextafter(0.5, 1.0))
    point = pick_best_f1([0.5, upper], [0, 1])
    assert point.threshold == upper
    assert point.evidence["f1"] == 1.0


def test_of_equal_thresholds_the_lowest_wins():
    # Keeping 1 of 1 right and 1 of 2 relevant: F1 2/3; keeping all 4: F1 2/3 as well.
    point = pick_best_f1([0.9, 0.5, 0.4, 0.3], [1, 0, 0, 1])
    assert point.threshold == 0.3


def test_sources_count_equally():
    # The large source alone would keep everything above 0.1, the small one above 0.6.
    probabilities = np.array([0.2] * 50 + [0.15] * 2 + [0.7] * 2 + [0.5] * 20)
    labels = np.array([1] * 50 + [0] * 2 + [1] * 2 + [0] * 20)
    sources = np.array(["large"] * 52 + ["small"] * 22)
    assert pick_best_f1(probabilities, labels).threshold < 0.2
    by_source = pick_best_f1(probabilities, labels, sources=sources)
    expected = max((macro_f1(probabilities, labels, sources, at), -at) for at in np.unique(probabilities))
    assert by_source.evidence["macro_f1"] == pytest.approx(expected[0])


def test_the_evidence_is_json_and_counts_right():
    point = pick_best_f1(
        [0.9, 0.1, 0.8, 0.2, 0.15],
        [1, 0, 1, 0, 0],
        sources=["a", "a", "b", "b", "c"],
        query_ids=["1", "1", "2", "2", "3"],
        name="strict",
    )
    evidence = json.loads(json.dumps(point.evidence, allow_nan=False))
    assert point.name == "strict"
    assert "none" in evidence["guarantee"]
    assert (evidence["n_queries"], evidence["n_pairs"], evidence["n_relevant"]) == (3, 5, 2)
    assert (evidence["precision"], evidence["recall"]) == (1.0, 1.0)
    assert set(evidence["by_source"]) == {"a", "b"}
    assert evidence["sources_without_relevant_pairs"] == ["c"]


def test_nothing_relevant_has_no_threshold():
    with pytest.raises(UndefinedMeasure, match="nothing is relevant"):
        pick_best_f1([0.1, 0.9], [0, 0])


@pytest.mark.parametrize(
    ("probabilities", "labels", "sources"),
    [
        ([], [], None),
        ([0.1, 1.5], [0, 1], None),
        ([0.1, float("nan")], [0, 1], None),
        ([0.1, 0.9], [0, 0.5], None),
        ([0.1, 0.9], [0, 1, 1], None),
        ([0.1, 0.9], [0, 1], ["a"]),
    ],
)
def test_bad_arrays_are_refused(probabilities, labels, sources):
    with pytest.raises(InvalidInput):
        pick_best_f1(probabilities, labels, sources=sources)
