"""Points that settings ask for, points and calibrations per collection, and the probability for a whole list."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relgrade.bundle import Decision
from relgrade.calibrate import (
    find_collection_points,
    find_points,
    fit_any_relevant,
    fit_collections,
    fit_platt,
    require_apart,
    selection,
    shared_queries,
)
from relgrade.errors import InvalidInput, InvalidSettings, NoSafeThreshold, SplitLeak
from relgrade.pipeline.calibrating import calibrate_scores, describe_decision, read_decision, write_decision
from relgrade.probability import calibrated_log_odds, calibrated_probability, list_features, list_probability, sigmoid
from relgrade.records import Calibration, ListCalibration, Score, VerdictPoints
from relgrade.settings import DEFAULT_POINTS, CalibrationSettings, PointSettings, Recipe

BALANCED, PRECISE, COMPLETE = DEFAULT_POINTS


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(selection, "N_DRAWS", 10)


def simulate(n_queries=200, *, per_query=5, seed=0, distance=3.0, shift=0.0):
    """Logits, labels and query ids; relevant documents lie `distance` higher, a query's documents go together."""
    generator = np.random.default_rng(seed)
    query = np.repeat([f"q{i:04}" for i in range(n_queries)], per_query)
    labels = (generator.random(query.size) < 0.3).astype(float)
    effect = np.repeat(generator.normal(scale=0.5, size=n_queries), per_query)
    logits = generator.normal(scale=1.2, size=query.size) + distance * (labels - 0.5) + effect + shift
    return logits, labels, query


def scores_of(logits, labels, query, *, source="s"):
    return [
        Score(query_id=str(q), doc_id=str(i), logit=float(x), label=float(y), source=source)
        for i, (x, y, q) in enumerate(zip(logits, labels, query, strict=True))
    ]


# --- points


def test_each_point_keeps_its_own_promise():
    logits, labels, query = simulate(400)
    found = find_points(sigmoid(logits), labels, query_ids=query, wanted=DEFAULT_POINTS, label_source="people")
    balanced, precise, complete = found.points
    assert found.left_out == ()
    assert (balanced.promise, precise.promise.kind, complete.promise.kind) == (None, "precision", "recall")
    assert precise.threshold > complete.threshold
    assert precise.evidence["bound"] >= PRECISE.target
    assert complete.evidence["recall"] >= COMPLETE.target
    assert balanced.evidence["guarantee"].startswith("none")
    assert {point.evidence["label_source"] for point in found.points} == {"people"}
    json.dumps([point.evidence for point in found.points], allow_nan=False)


def test_the_best_f1_is_told_on_queries_that_did_not_choose_it():
    """Labels by coin: the chosen threshold looks better on its own pairs than on others."""
    generator = np.random.default_rng(0)
    p, labels = generator.random(200), (generator.random(200) < 0.3).astype(float)
    wanted = replace(BALANCED, name="b")
    (point,) = find_points(p, labels, query_ids=np.arange(200), wanted=[wanted], label_source="x").points
    held_out = point.evidence["held_out"]
    assert held_out["precision"] < point.evidence["precision"]
    assert held_out["precision_standard_error"] > 0.01


def test_what_cannot_be_had_is_left_out_with_the_reason_or_stops():
    logits, labels, query = simulate(60, distance=0.5)
    arguments = {"query_ids": query, "label_source": "people"}
    found = find_points(sigmoid(logits), labels, wanted=[BALANCED, replace(PRECISE, target=0.95)], **arguments)
    assert [point.name for point in found.points] == ["balanced"]
    (entry,) = found.left_out
    assert (entry["name"], entry["kind"], entry["target"]) == ("high-precision", "precision", 0.95)
    assert "no threshold is known to keep precision >= 0.95" in entry["reason"]
    json.dumps(entry, allow_nan=False)
    required = [BALANCED, replace(PRECISE, target=0.95, required=True)]
    with pytest.raises(NoSafeThreshold, match="high-precision: no threshold") as caught:
        find_points(sigmoid(logits), labels, wanted=required, **arguments)
    assert caught.value.closest_threshold == entry["closest_threshold"]
    with pytest.raises(NoSafeThreshold, match="high-precision"):  # nothing is left to ship
        find_points(sigmoid(logits), labels, wanted=[replace(PRECISE, target=0.95)], **arguments)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 100), target=st.floats(0.5, 0.9), stricter=st.floats(0.01, 0.09))
def test_a_stricter_target_never_lowers_the_threshold(seed, target, stricter):
    logits, labels, query = simulate(120, seed=seed)
    thresholds = []
    for each in (target, target + stricter):
        wanted = [BALANCED, replace(PRECISE, target=each)]
        found = find_points(sigmoid(logits), labels, query_ids=query, wanted=wanted, label_source="x").points
        thresholds.append(found[1].threshold if len(found) == 2 else np.inf)
    assert thresholds[0] <= thresholds[1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "precision"}, "needs a target between 0 and 1, got None"),
        ({"kind": "recall", "target": 1.0}, "needs a target between 0 and 1"),
        ({"kind": "best-f1", "target": 0.5}, "has no target"),
        ({"kind": "precision", "target": 0.5, "delta": 0.0}, "delta"),
        ({"kind": "precision", "target": 0.5, "max_per_query": 0}, "max_per_query"),
        ({"name": " ", "kind": "best-f1"}, "blank"),
    ],
)
def test_points_are_checked_when_they_are_read(fields, message):
    with pytest.raises(InvalidSettings, match=message):
        PointSettings(**{"name": "p", **fields})


def test_points_and_calibration_are_tables_of_a_recipe(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(
        '[[points]]\nname = "strict"\nkind = "precision"\ntarget = 0.9\ndelta = 0.05\nrequired = true\n'
        '[calibration]\nmethods = ["platt"]\nby = "source"\nupper = "strict"\n'
    )
    recipe = Recipe.read(path)
    assert recipe.points == (PointSettings(name="strict", kind="precision", target=0.9, delta=0.05, required=True),)
    assert (recipe.calibration.methods, recipe.calibration.by) == (("platt",), "source")
    path.write_text('[[points]]\nname = "a"\nkind = "best-f1"\n' * 2)
    with pytest.raises(InvalidSettings, match="two points have one name"):
        Recipe.read(path)
    path.write_text("points = []\n")
    with pytest.raises(InvalidSettings, match="needs an operating point"):
        Recipe.read(path)
    path.write_text('[calibration]\nmethods = ["magic"]\n')
    with pytest.raises(InvalidSettings, match="must be one of 'temperature'"):
        Recipe.read(path)


# --- the step


def test_scores_become_a_decision_that_survives_a_file(tmp_path):
    scores = scores_of(*simulate(300)) + scores_of(*simulate(60, seed=1, shift=-2.0), source="t")
    options = CalibrationSettings(by="source", base_rate=0.1)
    decision = calibrate_scores(scores, settings=options, points=DEFAULT_POINTS)
    assert decision.verdict_points == VerdictPoints("high-precision", "high-recall")
    assert decision.calibration.prevalence == 0.1
    assert [member.value for member in decision.collections.members] == ["s", "t"]
    assert decision.any_relevant is not None
    write_decision(tmp_path / "c.json", decision)
    assert read_decision(tmp_path / "c.json") == decision
    lines = describe_decision(decision)
    assert any(line.startswith("trust: ") for line in lines)
    assert any("promises nothing" in line for line in lines)
    assert any(line.startswith("t: ") for line in lines)


def test_a_base_rate_moves_probabilities_and_no_cut_off():
    logits, labels, query = simulate(300)
    scores = scores_of(logits, labels, query)
    plain, rare = (
        calibrate_scores(scores, settings=CalibrationSettings(base_rate=rate), points=DEFAULT_POINTS)
        for rate in (None, 0.03)
    )
    for one, other in zip(plain.operating_points, rare.operating_points, strict=True):
        kept = [calibrated_probability(plain.calibration, logits) >= one.threshold]
        assert (kept == (calibrated_probability(rare.calibration, logits) >= other.threshold)).all()
        assert other.threshold < one.threshold


def test_without_both_points_there_is_no_three_way_verdict():
    scores = scores_of(*simulate(60, distance=0.5))
    points = [BALANCED, replace(PRECISE, target=0.97)]
    decision = calibrate_scores(scores, settings=CalibrationSettings(), points=points)
    assert decision.verdict_points is None
    (left_out,) = [line for line in describe_decision(decision) if line.startswith("! ")]
    assert left_out.startswith("! no point high-precision: no threshold")


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"label": None}, {}, "labelled scores, got none"),
        ({"label": 0.0}, {}, "have the label 0"),
        ({"label": 0.4}, {"cut": None}, "neither 0 nor 1, such as 0.4"),
        ({"query_id": "q"}, {}, "50 labelled pairs of 20 queries"),
        ({"logit": float("nan")}, {}, "finite"),
        ({"source": None}, {"by": "source"}, "no pair has a field 'source'"),
    ],
)
def test_scores_that_cannot_be_used_say_why(change, options, message):
    scores = [replace(score, **change) for score in scores_of(*simulate(30))]
    with pytest.raises(InvalidInput, match=message):
        calibrate_scores(scores, settings=CalibrationSettings(**options), points=DEFAULT_POINTS)


def test_grades_are_cut_for_the_probability_too():
    plain = scores_of(*simulate(60))
    graded = [replace(score, label=1.0 + 2.0 * score.label) for score in plain]
    one, other = (
        calibrate_scores(scores, settings=CalibrationSettings(cut=cut), points=[BALANCED])
        for scores, cut in ((plain, 0.5), (graded, 2.0))
    )
    assert one == other


def test_equal_scores_keep_all_or_nothing():
    scores = [replace(score, logit=0.5) for score in scores_of(*simulate(60))]
    decision = calibrate_scores(scores, settings=CalibrationSettings(), points=DEFAULT_POINTS)
    assert "logits are all the same" in decision.calibration.evidence["fallback"]
    point = decision.operating_points[0]
    assert (calibrated_probability(decision.calibration, [0.5]) >= point.threshold).all()
    assert "high-precision" in [entry["name"] for entry in decision.left_out_points]


# --- per collection


def collections(n_large=300, n_small=40, *, shift=2.0):
    large, small = simulate(n_large), simulate(n_small, seed=1, shift=shift)
    logits, labels = (np.concatenate([one, other]) for one, other in zip(large[:2], small[:2], strict=True))
    query = np.concatenate([large[2], [f"small-{name}" for name in small[2]]])
    values = ["large"] * large[0].size + ["small"] * small[0].size
    return logits, labels, query, values


def test_a_collection_leaves_the_pooled_calibration_as_its_queries_allow():
    logits, labels, query, values = collections()
    pooled = fit_platt(logits, labels)
    found = fit_collections(logits, labels, query_ids=query, values=values, pooled=pooled)
    own = np.array(values) == "small"
    before, after = (
        np.abs(calibrated_probability(each, logits[own]).mean() - labels[own].mean())
        for each in (pooled, found["small"])
    )
    assert after < before / 2
    alone = fit_platt(logits[own], labels[own])
    offsets = [calibrated_log_odds(each, [0.0])[0] for each in (pooled, found["small"], alone)]
    assert offsets[2] < offsets[1] < offsets[0]  # shrunk: between the pooled one and its own


def test_collections_that_do_not_differ_stay_with_the_pooled_calibration():
    logits, labels, query, values = collections(shift=0.0)
    pooled = fit_platt(logits, labels)
    for each in fit_collections(logits, labels, query_ids=query, values=values, pooled=pooled).values():
        assert (each.slope, each.intercept) == (pooled.slope, pooled.intercept)
        assert each.evidence["pull_in_queries"] is None


def test_the_knots_of_a_pooled_calibration_are_carried_over():
    logits, labels, query, values = collections()
    pooled = Calibration("isotonic", 1.0, 0.2, knots=((-2.0, -3.0), (0.0, -0.5), (2.0, 1.0)))
    own = fit_collections(logits, labels, query_ids=query, values=values, pooled=pooled)["small"]
    z = calibrated_log_odds(pooled, logits)
    a, b = own.evidence["slope_change"], own.evidence["intercept_change"]
    assert calibrated_log_odds(own, logits) == pytest.approx((1.0 + a) * z + b)


def test_a_point_that_a_collection_does_not_support_is_the_pooled_one_and_says_so():
    logits, labels, query, values = collections(n_small=12)
    pooled = fit_platt(logits, labels)
    calibrations = fit_collections(logits, labels, query_ids=query, values=values, pooled=pooled)
    arguments = {"query_ids": query, "label_source": "people"}
    points = find_points(calibrated_probability(pooled, logits), labels, wanted=DEFAULT_POINTS, **arguments).points
    found = find_collection_points(
        calibrations,
        logits,
        labels,
        values=values,
        field="source",
        wanted=DEFAULT_POINTS,
        pooled=pooled,
        pooled_points=points,
        **arguments,
    )
    large, small = found.members
    assert all(
        point.promise == pooled_point.promise
        for point, pooled_point in zip(large.operating_points, points, strict=True)
    )
    for point, pooled_point in zip(small.operating_points, points, strict=True):
        assert point.promise is None
        assert point.evidence["fallback"].startswith("the pooled point, at the same logit")
        kept = calibrated_probability(small.calibration, logits) >= point.threshold
        assert (kept == (calibrated_probability(pooled, logits) >= pooled_point.threshold)).all()
    assert large.operating_points[1].evidence["n_queries"] == 300  # its own queries alone


def test_too_few_queries_or_one_class_have_no_calibration_of_their_own():
    logits, labels, query, values = collections(n_small=4)
    pooled = fit_platt(logits, labels)
    assert set(fit_collections(logits, labels, query_ids=query, values=values, pooled=pooled)) == {"large"}
    nobody = [None] * len(values)
    assert fit_collections(logits, labels, query_ids=query, values=nobody, pooled=pooled) == {}
    with pytest.raises(InvalidInput, match="one value per pair"):
        fit_collections(logits, labels, query_ids=query, values=["a"], pooled=pooled)


# --- whether anything is relevant


def test_present_and_absent_lists_are_told_apart_and_the_probability_is_calibrated():
    fitted = fit_any_relevant(*simulate(400)[:2], query_ids=simulate(400)[2])
    logits, labels, query = simulate(1500, seed=9)
    rows = {True: [], False: []}
    for name in np.unique(query):
        own = query == name
        if 0 < labels[own].sum() < own.sum():
            rows[True].append(list_probability(fitted, logits[own]))
            rows[False].append(list_probability(fitted, logits[own & (labels == 0)]))
    assert np.mean(rows[True]) > 0.65
    assert np.mean(rows[False]) < 0.35
    sure = np.array([*rows[True], *rows[False]])
    truth = np.repeat([1.0, 0.0], len(rows[True]))
    for low, high in ((0.0, 0.3), (0.3, 0.7), (0.7, 1.0)):
        held = (sure >= low) & (sure < high)
        assert abs(sure[held].mean() - truth[held].mean()) < 0.12


def test_the_length_of_a_list_gives_nothing_away():
    """Logits of pure noise: a twin without its relevant documents is shorter, and that must not be learned."""
    generator = np.random.default_rng(0)
    query = np.repeat(np.arange(300), 4)
    labels = np.tile([1.0, 0.0, 0.0, 0.0], 300)
    fitted = fit_any_relevant(generator.normal(size=1200), labels, query_ids=query)
    assert abs(fitted.evidence["held_out"]["auroc"] - 0.5) < 0.06
    lists = [generator.normal(size=n) for n in (1, 3, 4, 20)]
    assert all(0.35 < list_probability(fitted, each) < 0.65 for each in lists[1:3])


def test_the_share_of_answerable_queries_moves_the_probability():
    logits, labels, query = simulate(300)
    few, many = (fit_any_relevant(logits, labels, query_ids=query, answerable=share) for share in (0.2, 0.8))
    assert list_probability(few, [0.0, -1.0]) < list_probability(many, [0.0, -1.0]) - 0.2


@settings(max_examples=40, deadline=None)
@given(logits=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8), seed=st.integers(0, 99))
def test_a_list_has_one_probability_whatever_its_order(logits, seed):
    fitted = ListCalibration(best=1.0, second=0.2, log_sum_exp=0.3, log_n=-0.1, intercept=-0.5, floor=-8.0)
    shuffled = list(np.random.default_rng(seed).permutation(logits))
    assert 0.0 <= list_probability(fitted, logits) <= 1.0
    assert list_probability(fitted, shuffled) == list_probability(fitted, logits)
    assert np.isfinite(list_features(logits, floor=-8.0)).all()
    assert list_features(logits, floor=-8.0)[2] >= list_features(logits, floor=-8.0)[0] - 1e-9


def test_no_documents_hold_nothing():
    assert list_probability(ListCalibration(intercept=9.0), []) == 0.0


def test_lists_of_one_kind_are_refused():
    logits, _, query = simulate(60)
    for labels in (np.zeros(logits.size), np.ones(logits.size)):
        with pytest.raises(InvalidInput, match="20 lists with a relevant document and as many without"):
            fit_any_relevant(logits, labels, query_ids=query)
    with pytest.raises(InvalidInput, match="answerable"):
        fit_any_relevant(logits, np.zeros(logits.size), query_ids=query, answerable=1.0)
    with pytest.raises(InvalidInput, match="must be 0 or 1"):
        fit_any_relevant(logits, np.full(logits.size, 0.5), query_ids=query)


# --- queries on both sides


def test_shared_queries_are_found_whatever_their_spelling():
    calibration = ["Who wrote Emma?", "how  tall is it", "when", "when"]
    assert shared_queries(calibration, ["who wrote emma", "WHEN?", "why"]) == ["Who wrote Emma?", "when"]
    assert shared_queries(calibration, []) == []
    with pytest.raises(SplitLeak, match=r"1 calibration queries stand in test\.jsonl too, such as 'when'"):
        require_apart(calibration, ["When"], what="test.jsonl")
    require_apart(calibration, ["why"], what="test.jsonl")


def test_a_decision_is_checked_as_a_whole():
    decision = calibrate_scores(scores_of(*simulate(60)), settings=CalibrationSettings(), points=[BALANCED])
    with pytest.raises(InvalidInput, match="verdict_points names 'high-recall'"):
        replace(decision, verdict_points=VerdictPoints("balanced", "high-recall"))
    with pytest.raises(InvalidInput, match="needs an operating point"):
        Decision(calibration=Calibration(), operating_points=())
