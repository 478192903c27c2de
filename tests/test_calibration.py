import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relgrade import metrics
from relgrade.calibrate import apply, fit_calibration, fit_platt, selection, source_weights
from relgrade.calibrate.arrays import check_labelled, clustered_error
from relgrade.calibrate.isotonic import isotonic
from relgrade.calibrate.scaling import smoothed, temperature
from relgrade.errors import InvalidInput
from relgrade.probability import at_base_rate, calibrated_log_odds, calibrated_probability, log_odds, logit_at, sigmoid
from relgrade.records import Calibration


def simulate(n=4000, slope=0.6, intercept=-1.2, seed=0):
    generator = np.random.default_rng(seed)
    logits = generator.normal(scale=3.0, size=n)
    return logits, (generator.random(n) < sigmoid(slope * logits + intercept)).astype(int)


def in_queries(n, *, size=5):
    return [f"q{i // size}" for i in range(n)]


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(selection, "N_DRAWS", 20)


# --- Platt


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


def test_the_sigmoid_calibration_of_scikit_learn_gives_the_same_line():
    calibration_module = pytest.importorskip("sklearn.calibration")
    logits, labels = simulate(120, seed=4)  # few: the smoothed targets count
    reference = calibration_module._SigmoidCalibration().fit(logits, labels)
    calibration = fit_platt(logits, labels)
    assert calibration.slope == pytest.approx(-reference.a_, rel=2e-3)
    assert calibration.intercept == pytest.approx(-reference.b_, rel=2e-3)


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
    calibration = fit_platt(logits, labels)
    assert (calibration.method, calibration.slope, calibration.intercept) == ("identity", 1.0, 0.0)
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


# --- isotonic


def curved(n, *, seed=0):
    """Confident below 0, hardly informed above: no straight line fits."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(scale=3.0, size=n)
    return logits, (generator.random(n) < sigmoid(np.where(logits > 0, 0.1, 1.5) * logits - 0.2)).astype(int)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(30, 200), ties=st.booleans())
def test_isotonic_passes_through_the_blocks_of_scikit_learn(seed, n, ties):
    isotonic_module = pytest.importorskip("sklearn.isotonic")
    logits, labels = simulate(n, seed=seed)
    logits = np.round(logits) if ties else logits
    weights = np.random.default_rng(seed).uniform(0.5, 2.0, n)
    data = check_labelled(logits, labels, weights=weights, query_ids=None)
    calibration = isotonic(data)
    if calibration.method == "identity":
        return
    reference = isotonic_module.IsotonicRegression().fit(logits, smoothed(data), sample_weight=data.weights)
    centres, expected = [x for x, _ in calibration.knots], reference.predict(logits).round(12)
    assert apply(calibration, centres) == pytest.approx(np.unique(expected), abs=1e-9)
    for x, value in zip(centres, np.unique(expected), strict=True):
        members = expected == value
        assert x == pytest.approx(np.average(logits[members], weights=weights[members]))


@settings(max_examples=40, deadline=None)
@given(
    xs=st.lists(st.floats(-30, 30), min_size=1, max_size=6, unique=True),
    ys=st.lists(st.floats(-20, 20), min_size=6, max_size=6, unique=True),
    slope=st.floats(0.01, 5),
    probes=st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20),
)
def test_a_calibration_never_turns_the_order_round(xs, ys, slope, probes):
    knots = tuple(zip(sorted(xs), sorted(ys[: len(xs)]), strict=True))
    calibration = Calibration("isotonic", slope, 0.3, knots=knots)
    ordered = np.sort([*probes, *xs, *np.nextafter(xs, np.inf), *np.nextafter(xs, -np.inf)])
    assert (np.diff(calibrated_log_odds(calibration, ordered)) >= 0.0).all()
    assert calibrated_log_odds(calibration, sorted(xs)) == pytest.approx([y + 0.3 for y in sorted(ys[: len(xs)])])


@settings(max_examples=40, deadline=None)
@given(p=st.floats(0.001, 0.999), is_curved=st.booleans())
def test_the_logit_of_a_probability_is_found_again(p, is_curved):
    knots = ((-2.0, -3.0), (0.0, 0.0), (1.0, 0.5)) if is_curved else ()
    calibration = Calibration("isotonic", 0.7, -0.4, knots=knots)
    assert calibrated_probability(calibration, [logit_at(calibration, p)])[0] == pytest.approx(p, rel=1e-9)


@pytest.mark.parametrize("knots", [((0.0, 1.0), (0.0, 2.0)), ((0.0, 1.0), (1.0, 1.0)), ((1.0, 0.0), (0.0, 1.0))])
def test_knots_that_do_not_rise_are_refused(knots):
    with pytest.raises(InvalidInput, match="rise strictly"):
        Calibration("isotonic", knots=knots)


# --- the choice


@pytest.mark.parametrize(
    ("method", "n", "make"),
    [
        ("temperature", 500, lambda n: simulate(n, intercept=0.0)),
        ("platt", 500, lambda n: simulate(n, intercept=-1.5)),
        ("isotonic", 3000, curved),
    ],
)
def test_the_simplest_that_does_as_well_is_chosen(method, n, make):
    logits, labels = make(n)
    calibration = fit_calibration(logits, labels, query_ids=in_queries(n))
    assert calibration.method == method
    table = calibration.evidence["cross_validation"]
    assert table["chosen"] == method
    assert table[method]["excess"] <= table[method]["excess_standard_error"]
    simpler = [name for name in selection.METHODS[: selection.METHODS.index(method)]]
    assert all(table[name]["excess"] > table[name]["excess_standard_error"] for name in simpler)


def test_a_simpler_method_a_little_worse_is_taken_and_one_much_worse_is_not():
    logits, labels = simulate(400, slope=1.0, intercept=0.0)
    data = check_labelled(logits, labels, weights=None, query_ids=in_queries(400))
    for worse, name in ((0.02, "simple"), (2.0, "best")):
        choice = selection.choose({"simple": logits + worse, "best": logits}, data)
        table = choice.losses
        assert choice.name == name
        assert table["simple"]["excess"] > 0.0
        assert (table["simple"]["excess"] <= table["simple"]["excess_standard_error"]) == (name == "simple")


def test_the_order_of_the_pairs_changes_nothing():
    logits, labels = simulate(300)
    ids, order = np.array(in_queries(300)), np.random.default_rng(1).permutation(300)
    plain = fit_calibration(logits, labels, query_ids=ids)
    moved = fit_calibration(logits[order], labels[order], query_ids=ids[order])
    assert moved.slope == pytest.approx(plain.slope, rel=1e-9)
    for name in selection.METHODS:
        one, other = (each.evidence["cross_validation"][name] for each in (plain, moved))
        assert one == pytest.approx(other, rel=1e-6, abs=1e-9)


def test_fifty_pairs_are_enough_and_their_worth_is_told():
    logits, labels = simulate(50, seed=3)
    few = fit_calibration(logits, labels, query_ids=in_queries(50, size=2)).evidence
    logits, labels = simulate(2000, seed=3)
    many = fit_calibration(logits, labels, query_ids=in_queries(2000, size=2)).evidence
    json.dumps(few, allow_nan=False)
    assert (few["n_pairs"], few["n_queries"]) == (50, 25)
    assert few["probability_standard_error"]["0.5"] > 2 * many["probability_standard_error"]["0.5"]
    assert few["held_out"]["noise_floor"] > 2 * many["held_out"]["noise_floor"]
    assert few["trust"].startswith("rough: 25 queries")
    assert many["trust"].startswith("good: 1000 queries")


def test_the_calibration_error_of_a_true_calibration_is_its_noise_floor():
    logits, labels = simulate(3000, slope=1.0, intercept=0.0, seed=8)
    held_out = fit_calibration(logits, labels, query_ids=in_queries(3000)).evidence["held_out"]
    assert held_out["expected_calibration_error"] < held_out["noise_floor_95"] * 1.2
    wrong = selection.reliability(3.0 * logits, check_labelled(logits, labels, weights=None, query_ids=None), seed=0)
    assert wrong["expected_calibration_error"] > 5 * wrong["noise_floor_95"]


def test_pairs_of_a_query_count_as_one_draw():
    values = np.random.default_rng(0).normal(size=400)
    alone = check_labelled(np.zeros(400), np.zeros(400), weights=None, query_ids=None)
    assert clustered_error(values, alone) == pytest.approx(values.std(ddof=1) / 20, rel=1e-9)
    copied = check_labelled(np.zeros(1600), np.zeros(1600), weights=None, query_ids=np.repeat(np.arange(400), 4))
    assert clustered_error(np.repeat(values, 4), copied) == pytest.approx(clustered_error(values, alone))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [0] * 60}, "all 60 pairs have the label 0"),
        ({"logits": [0.0] * 59 + [float("nan")]}, "finite"),
        ({"labels": [0, 2] * 30}, "labels must lie in"),
        ({"query_ids": ["q"] * 60}, "at least 50 labelled pairs of 20 queries, got 60 pairs of 1;"),
        ({"query_ids": ["q"] * 59}, "one query id per pair"),
        ({"logits": [0.0, 1.0] * 20, "labels": [0, 1] * 20, "query_ids": in_queries(40, size=1)}, "got 40"),
        ({"methods": ["beta"]}, "methods are some of temperature, platt, isotonic"),
        ({"methods": []}, "methods are some of"),
        ({"prior_shift": float("inf")}, "prior_shift must be finite"),
        ({"base_rate": 0.0}, "between 0 and 1"),
        ({"base_rate": True}, "between 0 and 1"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(change, message):
    arguments = {"logits": [0.0, 1.0] * 30, "labels": [0, 1] * 30, "query_ids": in_queries(60, size=2), **change}
    with pytest.raises(InvalidInput, match=message):
        fit_calibration(arguments.pop("logits"), arguments.pop("labels"), **arguments)


def test_equal_scores_are_left_alone_and_explained():
    calibration = fit_calibration([0.5] * 60, [0, 1, 0] * 20, query_ids=in_queries(60, size=3))
    assert calibration.method == "identity"
    assert "logits are all the same" in calibration.evidence["fallback"]


# --- the prior


def population(n, *, seed=0):
    """Logits of a good model and labels, 5 % of them relevant, with the true probabilities."""
    generator = np.random.default_rng(seed)
    labels = (generator.random(n) < 0.05).astype(int)
    logits = generator.normal(loc=np.where(labels == 1, 1.0, -1.0), scale=1.0)
    # Two normal densities of one variance: the log-odds are (m1 - m0) x / s^2 plus those of the classes.
    return logits, labels, sigmoid(2.0 * logits + log_odds(0.05))


def test_the_base_rate_corrects_calibration_pairs_that_were_resampled():
    logits, labels, truth = population(15_000)
    keep = (labels == 1) | (np.random.default_rng(1).random(labels.size) < 0.1)  # one in ten of the irrelevant
    arguments = {"query_ids": in_queries(int(keep.sum())), "methods": ["platt"]}
    naive = fit_calibration(logits[keep], labels[keep], **arguments)
    corrected = fit_calibration(logits[keep], labels[keep], base_rate=0.05, **arguments)
    assert np.abs(apply(naive, logits) - truth).mean() > 0.05
    assert np.abs(apply(corrected, logits) - truth).mean() < 0.01
    assert corrected.prevalence == 0.05
    assert at_base_rate(naive, 0.05).intercept == corrected.intercept


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic"])
def test_a_known_shift_of_training_is_taken_back(method):
    """A model that learned from pairs with nine in ten negatives dropped, and overstates its logits by half."""
    logits, labels, truth = population(15_000)
    learned = 1.5 * (2.0 * logits + log_odds(0.05)) + np.log(10.0)
    arguments = {"query_ids": in_queries(labels.size), "methods": [method]}
    calibration = fit_calibration(learned, labels, prior_shift=np.log(10.0), **arguments)
    assert np.abs(apply(calibration, learned) - truth).mean() < 0.01
    if method == "temperature":  # without an intercept it cannot find the shift by itself
        blind = fit_calibration(learned, labels, **arguments)
        assert np.abs(apply(blind, learned) - truth).mean() > 0.02


def test_a_prior_shift_moves_a_temperature_and_no_line():
    logits, labels = simulate(600)
    ids = in_queries(600)
    data = check_labelled(logits, labels, weights=None, query_ids=ids)
    shifted = temperature(data, prior_shift=1.0)
    assert calibrated_log_odds(shifted, [1.0])[0] == pytest.approx(0.0, abs=1e-12)
    lines = [fit_calibration(logits, labels, query_ids=ids, methods=["platt"], prior_shift=s) for s in (0.0, 1.0)]
    assert lines[0].slope == lines[1].slope
    assert lines[0].intercept == lines[1].intercept


def test_a_base_rate_needs_to_know_the_old_one():
    with pytest.raises(InvalidInput, match="records its prevalence"):
        at_base_rate(Calibration("platt", 2.0, 1.0), 0.1)
    back = at_base_rate(at_base_rate(Calibration("platt", 2.0, 1.0, prevalence=0.3), 0.1), 0.3)
    assert back.intercept == pytest.approx(1.0)


# --- applying it


def test_probabilities_are_safe_from_overflow_and_keep_the_order():
    extreme = [-1e308, -1000.0, -40.0, 0.0, 40.0, 1000.0, 1e308]
    for knots in ((), ((-1.0, -2.0), (1.0, 2.0))):
        probabilities = calibrated_probability(Calibration("platt", 10.0, 1.0, knots=knots), extreme)
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
