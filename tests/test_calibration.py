import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relgrade import metrics
from relgrade.calibrate import apply, fit_platt, source_weights
from relgrade.errors import InvalidInput
from relgrade.probability import calibrated_probability, sigmoid
from relgrade.records import Calibration


def simulate(n=4000, slope=0.6, intercept=-1.2, seed=0):
    generator = np.random.default_rng(seed)
    logits = generator.normal(scale=3.0, size=n)
    return logits, (generator.random(n) < sigmoid(slope * logits + intercept)).astype(int)


def test_the_truth_is_found_again():
    calibration = fit_platt(*simulate(20_000))
    assert calibration.method == "platt"
    assert calibration.slope == pytest.approx(0.6, abs=0.03)
    assert calibration.intercept == pytest.approx(-1.2, abs=0.06)


def test_unregularised_logistic_regression_gives_the_same_line():
    linear_model = pytest.importorskip("sklearn.linear_model")
    logits, labels = simulate()
    weights = source_weights(["a"] * 3000 + ["b"] * 1000)
    reference = linear_model.LogisticRegression(C=1e9, tol=1e-8, max_iter=1000)
    reference.fit(logits[:, None], labels, sample_weight=weights)
    calibration = fit_platt(logits, labels, weights=weights)
    # Smoothed targets move 4000 pairs by next to nothing.
    assert calibration.slope == pytest.approx(reference.coef_[0, 0], rel=5e-3)
    assert calibration.intercept == pytest.approx(reference.intercept_[0], rel=5e-3)


def test_calibration_helps_on_other_pairs_and_says_so():
    calibration = fit_platt(*simulate(), query_ids=[str(i // 4) for i in range(4000)])
    logits, labels = simulate(seed=1)
    after, before = apply(calibration, logits), sigmoid(logits)
    assert metrics.log_loss(after, labels) < metrics.log_loss(before, labels)
    assert metrics.expected_calibration_error(after, labels) < 0.04
    evidence = calibration.evidence
    assert (evidence["n_pairs"], evidence["n_queries"]) == (4000, 1000)
    assert evidence["log_loss_after"] < evidence["log_loss_before"]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([1e-3, 1.0, 1e3]), offset=st.floats(-50, 50))
def test_order_does_not_matter_and_the_scale_of_logits_cancels(seed, scale, offset):
    logits, labels = simulate(200, seed=seed)
    plain = fit_platt(logits, labels)
    order = np.random.default_rng(seed).permutation(200)
    moved = fit_platt((logits * scale + offset)[order], labels[order])
    assert np.allclose(apply(moved, logits * scale + offset), apply(plain, logits), atol=1e-5)


def test_sources_count_equally():
    weights = source_weights(["a", "a", "a", "b"])
    assert weights.sum() == pytest.approx(4.0)
    assert weights[:3].sum() == pytest.approx(weights[3])
    # The small source has twice the relevant share: with equal weight the intercept moves its way.
    logits, labels = simulate(3000)
    few, few_labels = simulate(300, intercept=1.0, seed=1)
    both, both_labels = np.concatenate([logits, few]), np.concatenate([labels, few_labels])
    sources = ["large"] * 3000 + ["small"] * 300
    pooled = fit_platt(both, both_labels)
    equal = fit_platt(both, both_labels, weights=source_weights(sources))
    assert equal.intercept > pooled.intercept + 0.3


def test_a_prior_shift_moves_the_log_odds_and_nothing_else():
    logits, labels = simulate()
    plain, shifted = fit_platt(logits, labels), fit_platt(logits, labels, prior_shift=-1.5)
    assert shifted.slope == plain.slope
    assert shifted.intercept == pytest.approx(plain.intercept - 1.5)


def test_perfect_separation_stays_finite():
    calibration = fit_platt([-2.0, -1.0, 1.0, 2.0], [0, 0, 1, 1])
    probabilities = apply(calibration, [-2.0, 2.0])
    assert np.isfinite(calibration.slope)
    assert 0.0 < probabilities[0] < 0.3 < 0.7 < probabilities[1] < 1.0


def test_targets_are_smoothed_as_platt_does():
    # One pair of each class: targets (1 + 1) / (1 + 2) and 1 / (1 + 2), which two numbers fit exactly.
    calibration = fit_platt([-1.0, 1.0], [0, 1])
    assert apply(calibration, [-1.0, 1.0]) == pytest.approx([1 / 3, 2 / 3], abs=1e-3)


@pytest.mark.parametrize(
    ("logits", "labels", "reason"),
    [
        ([1.0, 2.0, 3.0], [1, 1, 1], "labels are all the same"),
        ([1.0, 2.0, 3.0], [0, 0, 0], "labels are all the same"),
        ([0.1, 0.1, 0.1], [0, 1, 0], "logits are all the same"),
        ([3.0, 2.0, 1.0, 0.0], [0, 0, 1, 1], "irrelevant pairs"),
    ],
)
def test_what_cannot_be_fitted_is_left_alone_and_explained(logits, labels, reason):
    calibration = fit_platt(logits, labels, prior_shift=0.5)
    assert (calibration.method, calibration.slope, calibration.intercept) == ("identity", 1.0, 0.5)
    assert reason in calibration.evidence["fallback"]


def test_soft_labels_are_used():
    logits = np.linspace(-3, 3, 200)
    calibration = fit_platt(logits, sigmoid(0.5 * logits))
    assert calibration.slope == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("logits", "labels", "weights"),
    [
        ([], [], None),
        ([1.0, 2.0], [1], None),
        ([1.0, float("nan")], [0, 1], None),
        ([1.0, float("inf")], [0, 1], None),
        ([1.0, 2.0], [0, 2], None),
        ([1.0, 2.0], [0, float("nan")], None),
        ([1.0, 2.0], [0, 1], [1.0, -1.0]),
        ([1.0, 2.0], [0, 1], [0.0, 0.0]),
    ],
)
def test_bad_arrays_are_refused(logits, labels, weights):
    with pytest.raises(InvalidInput):
        fit_platt(logits, labels, weights=weights)


def test_a_prior_shift_must_be_a_number():
    with pytest.raises(InvalidInput, match="prior_shift"):
        fit_platt([0.0, 1.0], [0, 1], prior_shift=float("nan"))


def test_probabilities_are_safe_from_overflow_and_keep_the_order():
    extreme = [-1e308, -1000.0, -40.0, 0.0, 40.0, 1000.0, 1e308]
    probabilities = calibrated_probability(Calibration("platt", 10.0, 1.0), extreme)
    assert probabilities.dtype == np.float64
    assert (np.diff(probabilities) >= 0).all()
    assert (probabilities[0], probabilities[-1]) == (0.0, 1.0)
    assert sigmoid(-40.0) == pytest.approx(np.exp(-40.0))


@settings(max_examples=50, deadline=None)
@given(x=st.floats(-700, 700))
def test_sigmoid_is_symmetric(x):
    assert sigmoid(x) + sigmoid(-x) == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_no_probability_without_a_logit(bad):
    with pytest.raises(InvalidInput, match="no verdict"):
        calibrated_probability(Calibration(), [0.0, bad])
