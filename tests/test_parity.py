"""Parity catches what it is there for: a flipped verdict, an error of one logit, a batch that moves its members."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relgrade.errors import InvalidInput, ParityError
from relgrade.export import check_logits, check_parity, compare_logits, measure_parity
from relgrade.export.parity import SHIPPED, batch_compositions
from relgrade.settings import ExportSettings

SETTINGS = ExportSettings()
N_PAIRS = 400
LENGTHS = [10 + (7 * i) % 90 for i in range(N_PAIRS)]


@pytest.fixture
def reference():
    return np.random.default_rng(0).normal(size=N_PAIRS) * 3.0


def scorer(logits):
    return lambda indices: logits[list(indices)]


def measure(reference, fp32=None, int8=None, *, threshold=0.5):
    return measure_parity(
        reference,
        scorer(reference) if fp32 is None else fp32,
        scorer(reference) if int8 is None else int8,
        lengths=LENGTHS,
        threshold=threshold,
    )


def test_equal_models_pass(reference):
    report = measure(reference)
    check_parity(report, SETTINGS)
    assert report.max_logit_error == 0.0
    assert report.verdict_flips == 0.0
    assert report.n_pairs == N_PAIRS
    assert report.shipped.name == SHIPPED
    assert [row.name for row in report.compositions] == [SHIPPED, "sorted-8", "sorted-32", "long-neighbour"]


def plant_flips(reference, n_flips, *, threshold):
    """A copy in which exactly `n_flips` verdicts differ, and the first of those pairs."""
    candidate = reference.copy()
    chosen = np.flatnonzero(reference >= threshold)[:n_flips]
    candidate[chosen] = threshold - 1e-9
    return candidate, chosen


def test_half_a_percent_of_flips_is_allowed_and_one_more_is_not(reference):
    allowed, _ = plant_flips(reference, 2, threshold=0.5)  # 2 of 400 = 0.5 %
    check_parity(measure(reference, int8=scorer(allowed)), SETTINGS)
    assert check_logits(reference, allowed, 0.5, SETTINGS).n_flips == 2
    broken, chosen = plant_flips(reference, 3, threshold=0.5)
    worst = chosen[np.abs(broken - reference)[chosen].argmax()]
    with pytest.raises(ParityError, match=rf"3 of 400 verdicts flip \(0\.75%\).*worst: pair {worst};"):
        check_parity(measure(reference, int8=scorer(broken)), SETTINGS)
    with pytest.raises(ParityError, match=f"pair {worst};"):
        check_logits(reference, broken, 0.5, SETTINGS)


def test_flips_are_counted_at_the_threshold_that_ships(reference):
    broken, _ = plant_flips(reference, 3, threshold=2.0)
    with pytest.raises(ParityError):
        check_logits(reference, broken, 2.0, SETTINGS)
    assert check_logits(reference, broken, -1.0, SETTINGS).n_flips == 0


def test_a_logit_at_the_threshold_is_relevant():
    assert compare_logits([1.0], [1.0 + 1e-12], threshold=1.0).n_flips == 0
    assert compare_logits([1.0], [1.0 - 1e-12], threshold=1.0).n_flips == 1


def test_one_wrong_fp32_logit_is_caught_and_named(reference):
    wrong = reference.copy()
    wrong[123] += 2e-4
    with pytest.raises(ParityError, match="pair 123"):
        check_parity(measure(reference, fp32=scorer(wrong)), SETTINGS)
    wrong[123] = reference[123] + 5e-5
    check_parity(measure(reference, fp32=scorer(wrong)), SETTINGS)


def test_fp32_whose_padding_leaks_is_caught(reference):
    def leaky(indices):
        longest = max(LENGTHS[i] for i in indices)
        return np.array([reference[i] + 1e-3 * (longest - LENGTHS[i]) for i in indices])

    report = measure(reference, fp32=leaky)
    assert report.shipped.fp32.max == 0.0
    with pytest.raises(ParityError, match=r"batches: sorted-8|batches: sorted-32|batches: long-neighbour"):
        check_parity(report, SETTINGS)


def test_int8_that_neighbours_move_is_reported_and_passes_when_run_alone(reference):
    def by_batch(indices):
        return np.array([reference[i] + 0.3 * (len(indices) > 1) for i in indices])

    report = measure(reference, int8=by_batch)
    check_parity(report, SETTINGS)
    assert report.shipped.int8_moved.max == 0.0
    for row in report.compositions[1:]:
        assert row.int8_moved.max == pytest.approx(0.3)
        assert row.int8_moved.n_flips > 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_not_finite_fails(reference, value):
    broken = reference.copy()
    broken[7] = value
    with pytest.raises(ParityError, match="pair 7"):
        check_logits(reference, broken, 0.5, SETTINGS)
    with pytest.raises(ParityError, match="pair 7"):
        check_parity(measure(reference, int8=scorer(broken)), SETTINGS)
    with pytest.raises(ParityError, match="pair 7"):
        check_parity(measure(reference, fp32=scorer(broken)), SETTINGS)


def test_without_int8_only_fp32_is_judged(reference):
    report = measure_parity(reference, scorer(reference), None, lengths=LENGTHS, threshold=0.0)
    check_parity(report, SETTINGS)
    assert report.verdict_flips is None
    assert report.shipped.int8 is None


def test_report_is_json(reference):
    data = json.loads(json.dumps(measure(reference).to_json(), allow_nan=False))
    assert data["max_logit_error"] == 0.0
    assert data["compositions"][0]["int8"]["n_flips"] == 0


def test_report_with_an_infinite_difference_is_json(reference):
    broken = reference.copy()
    broken[7] = np.nan
    data = json.loads(json.dumps(measure(reference, int8=scorer(broken)).to_json(), allow_nan=False))
    assert data["compositions"][0]["int8"]["max"] is None
    assert data["compositions"][0]["int8"]["worst"] == 7


@pytest.mark.parametrize(
    ("expected", "found", "threshold"),
    [([], [], 0.0), ([1.0], [1.0, 2.0], 0.0), ([[1.0]], [[1.0]], 0.0), ([np.nan], [1.0], 0.0), ([1.0], [1.0], np.nan)],
)
def test_unusable_arguments_are_refused(expected, found, threshold):
    with pytest.raises(InvalidInput):
        compare_logits(expected, found, threshold=threshold)


@given(st.lists(st.integers(1, 256), min_size=1, max_size=60), st.integers(0, 5))
def test_every_pair_is_in_every_composition(lengths, seed):
    longest = max(lengths)
    for name, batches in batch_compositions(lengths, seed=seed).items():
        members = [i for batch in batches for i in batch]
        assert set(members) == set(range(len(lengths)))
        assert all(len(set(batch)) == len(batch) for batch in batches)
        if name == "long-neighbour":
            assert all(max(lengths[i] for i in batch) == longest for batch in batches)
        else:
            assert len(members) == len(lengths)


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=1, max_size=30), st.floats(-9, 9))
def test_differences_do_not_depend_on_the_order_of_pairs(pairs, threshold):
    a, b = np.array(pairs).T
    forward = compare_logits(a, b, threshold=threshold)
    backward = compare_logits(a[::-1], b[::-1], threshold=threshold)
    assert (forward.max, forward.p99, forward.n_flips) == (backward.max, backward.p99, backward.n_flips)
    assert forward.mean == pytest.approx(backward.mean)
    assert forward.mean <= forward.max + 1e-12
