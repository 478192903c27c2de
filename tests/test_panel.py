"""Verdicts: three ways, at a base rate, by collection, and for the list as a whole."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_runtime import FakeRuntime, fake_bundle, fake_logit, fake_manifest
from relgrade.bundle import Manifest, load_bundle, render_card
from relgrade.bundle.promises import promise_in_words
from relgrade.errors import BundleCorrupt, InvalidInput
from relgrade.grade.grader import Grader
from relgrade.grade.panel import collection_value
from relgrade.probability import calibrated_probability, list_probability, log_odds, sigmoid
from relgrade.records import (
    Calibration,
    CollectionPoints,
    Collections,
    Document,
    Grade,
    ListCalibration,
    OperatingPoint,
    Pair,
    Promise,
    VerdictPoints,
)

CALIBRATION = Calibration("platt", 1.5, -0.25, {"n_queries": 40}, prevalence=0.3)
POINTS = (
    OperatingPoint("balanced", 0.5, {"chosen_by": "best F1"}),
    OperatingPoint("high-precision", 0.8, {"bound": 0.91, "n_queries": 300}, Promise("precision", 0.9, 0.05)),
    OperatingPoint("high-recall", 0.2, {"bound": 0.92, "n_queries": 300}, Promise("recall", 0.9, 0.05)),
)
THREE_WAY = {
    "calibration": CALIBRATION,
    "operating_points": POINTS,
    "verdict_points": VerdictPoints("high-precision", "high-recall"),
}
TEXTS = [f"text {i}" for i in range(60)]


def grader_of(tmp_path, **changes):
    options = {name: changes.pop(name) for name in ("operating_point", "base_rate") if name in changes}
    return Grader(fake_bundle(tmp_path / "b", **{**THREE_WAY, **changes}), FakeRuntime(), **options)


# --- three ways


def test_a_verdict_is_one_of_three(tmp_path):
    graded = grader_of(tmp_path).grade("q", TEXTS)
    for grade in graded:
        expected = "relevant" if grade.probability >= 0.8 else "unsure" if grade.probability >= 0.2 else "not relevant"
        assert grade.verdict == expected
        assert grade.relevant == (grade.probability >= 0.5)  # another question, answered by another point
    assert {grade.verdict for grade in graded} == {"relevant", "unsure", "not relevant"}


@given(upper=st.floats(0, 1), lower=st.floats(0, 1))
def test_nothing_is_unsure_where_the_thresholds_cross(tmp_path_factory, upper, lower):
    points = (POINTS[0], replace(POINTS[1], threshold=upper), replace(POINTS[2], threshold=lower))
    manifest = fake_manifest(**{**THREE_WAY, "operating_points": points})
    bundle = SimpleNamespace(manifest=manifest, hash="h")
    verdicts = {grade.verdict for grade in Grader(bundle, FakeRuntime()).grade("q", TEXTS)}
    if upper <= lower:
        assert "unsure" not in verdicts
        assert "Nothing is unsure" in render_card(manifest)


def test_a_bundle_without_two_points_judges_two_ways(tmp_path):
    for name in ("balanced", "high-recall"):
        grader = grader_of(tmp_path / name, verdict_points=None, operating_point=name)
        for grade in grader.grade("q", TEXTS):
            assert grade.verdict == ("relevant" if grade.relevant else "not relevant")
    assert Grade(0, 1.0, 0.7, True, "p", False, 1).verdict == "relevant"


def test_a_blank_document_is_never_more_than_not_relevant(tmp_path):
    points = tuple(replace(point, threshold=0.0) for point in POINTS)
    (grade,) = grader_of(tmp_path, operating_points=points).grade("q", [" "])
    assert (grade.verdict, grade.relevant) == ("not relevant", False)


# --- base rate


def test_a_base_rate_corrects_the_probability_and_keeps_the_same_documents(tmp_path):
    plain, rare = grader_of(tmp_path / "1"), grader_of(tmp_path / "2", base_rate=0.05)
    shift = log_odds(0.05) - log_odds(0.3)
    for one, other in zip(plain.grade("q", TEXTS), rare.grade("q", TEXTS), strict=True):
        assert other.probability == pytest.approx(float(sigmoid(log_odds(one.probability) + shift)))
        assert (other.relevant, other.verdict, other.logit) == (one.relevant, one.verdict, one.logit)
        assert other.relevant == (other.probability >= rare.operating_point.threshold)
    assert rare.operating_point.threshold == pytest.approx(float(sigmoid(shift)))
    assert rare.with_point("high-recall").grade("q", ["a"])[0].probability == rare.grade("q", ["a"])[0].probability


@pytest.mark.parametrize(
    ("name", "base_rate", "holds"),
    [("high-precision", 0.1, False), ("high-precision", 0.5, True), ("high-recall", 0.1, True)],
)
def test_a_lower_base_rate_takes_the_promise_of_precision_away(tmp_path, name, base_rate, holds):
    point = grader_of(tmp_path, operating_point=name, base_rate=base_rate).operating_point
    assert (point.promise is not None) == holds
    assert ("promise_taken_away" in point.evidence) == (not holds)
    assert point.evidence["threshold_before"] == next(each.threshold for each in POINTS if each.name == name)


@pytest.mark.parametrize("base_rate", [0.0, 1.0, -1, "0.5", True, float("nan")])
def test_a_base_rate_is_a_share(tmp_path, base_rate):
    with pytest.raises(InvalidInput, match="between 0 and 1"):
        grader_of(tmp_path, base_rate=base_rate)


def test_a_bundle_that_does_not_know_its_prevalence_takes_no_base_rate(tmp_path):
    with pytest.raises(InvalidInput, match="records its prevalence"):
        grader_of(tmp_path, calibration=replace(CALIBRATION, prevalence=None), base_rate=0.1)


# --- collections

OWN = CollectionPoints(
    "wiki",
    Calibration("platt", 1.5, 2.0, prevalence=0.6),
    tuple(replace(point, threshold=point.threshold / 2) for point in POINTS),
)
BY_SOURCE = Collections("source", (OWN,))


def test_a_document_is_judged_by_the_points_of_its_collection(tmp_path):
    grader = grader_of(tmp_path, collections=BY_SOURCE, operating_point="high-recall")
    documents = [
        {"text": "x", "metadata": {"source": source}} if source else {"text": "x"}
        for source in ("wiki", "elsewhere", None)
    ]
    own, other, none = grader.grade("q", documents)
    logit = fake_logit("q", "x")
    assert own.probability == calibrated_probability(OWN.calibration, [logit])[0]
    assert other.probability == none.probability == calibrated_probability(CALIBRATION, [logit])[0]
    assert (own.collection, other.collection, none.collection) == ("wiki", None, None)
    assert own.relevant == (own.probability >= 0.1)
    assert {grade.operating_point for grade in (own, other, none)} == {"high-recall"}


def test_neighbours_of_other_collections_change_nothing(tmp_path):
    grader = grader_of(tmp_path, collections=BY_SOURCE)
    mixed = [Document(text, metadata={"source": "wiki"} if i % 2 else {}) for i, text in enumerate(TEXTS)]
    together = grader.grade("q", mixed)
    for document, grade in zip(mixed, together, strict=True):
        (alone,) = grader.grade("q", [document])
        assert (alone.probability, alone.verdict, alone.collection) == (
            grade.probability,
            grade.verdict,
            grade.collection,
        )


def test_a_base_rate_reaches_the_collections(tmp_path):
    grader = grader_of(tmp_path, collections=BY_SOURCE, base_rate=0.05)
    (grade,) = grader.grade("q", [{"text": "x", "source": "wiki"}])
    z = 1.5 * fake_logit("q", "x") + 2.0 + log_odds(0.05) - log_odds(0.6)
    assert grade.probability == pytest.approx(1 / (1 + math.exp(-z)))


@pytest.mark.parametrize(
    ("original", "value"),
    [
        (Document("x", metadata={"source": "a"}), "a"),
        (Document("x"), None),
        ({"text": "x", "metadata": {"source": "a"}, "source": "b"}, "a"),
        ({"text": "x", "meta": {"source": 3}}, "3"),
        ({"text": "x", "source": "b"}, "b"),
        (SimpleNamespace(page_content="x", metadata={"source": "a"}), "a"),
        (SimpleNamespace(content="x", meta={"source": "a"}), "a"),
        ("x", None),
        (Pair(query_id="q", query="q", doc_id="d", document="x", source="a"), "a"),
        (Pair(query_id="q", query="q", doc_id="d", document="x", fields={"source": "b"}), None),
    ],
)
def test_where_the_value_of_a_field_stands(original, value):
    assert collection_value(original, "source") == value


# --- the list


def test_a_list_has_a_probability_of_all_its_documents(tmp_path):
    fitted = ListCalibration(best=1.0, log_n=-0.2, intercept=-1.0, floor=-6.0)
    grader = grader_of(tmp_path, any_relevant=fitted)
    graded = grader.grade("q", TEXTS)
    expected = list_probability(fitted, [grade.logit for grade in graded])
    assert 0.0 < expected < 1.0
    assert graded.any_relevant_probability == expected
    assert graded.ranked().any_relevant_probability == expected
    assert grader.filter("q", TEXTS).any_relevant_probability == expected  # of what came in, not of what was kept
    assert grader.rerank("q", TEXTS, top_k=1).any_relevant_probability == expected
    assert grader.grade("q", []).any_relevant_probability == 0.0
    assert grader_of(tmp_path / "2").grade("q", TEXTS).any_relevant_probability is None


# --- the manifest

FULL = {
    **THREE_WAY,
    "collections": BY_SOURCE,
    "any_relevant": ListCalibration(best=1.0, evidence={"n_lists": 40}),
    "left_out_points": ({"name": "few-lost", "reason": "no threshold is known"},),
}


def test_a_manifest_with_everything_is_read_as_it_was_written(tmp_path):
    knots = Calibration("isotonic", 0.5, 0.1, {}, ((-1.0, -2.0), (1.0, 2.0)), 0.25)
    bundle = fake_bundle(tmp_path / "b", **{**FULL, "calibration": knots})
    assert load_bundle(bundle.folder).manifest == bundle.manifest
    with pytest.raises(InvalidInput, match="it was left out: no threshold is known"):
        bundle.manifest.point("few-lost")


def test_a_manifest_from_before_these_fields_is_read(tmp_path):
    data = fake_manifest().to_json()
    for name in ("verdict_points", "collections", "any_relevant", "left_out_points"):
        del data[name]
    del data["calibration"]["knots"], data["calibration"]["prevalence"], data["operating_points"][0]["promise"]
    assert Manifest.from_json(json.loads(json.dumps(data))) == fake_manifest()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data["calibration"].update(knots=[[0, 1], [1]]), "a logit and its log-odds"),
        (lambda data: data["calibration"].update(knots=[[0, 1], [0, 2]]), "rise strictly"),
        (lambda data: data["calibration"].update(knots={}), "must be a list"),
        (lambda data: data["calibration"].update(prevalence=1), "between 0 and 1"),
        (lambda data: data["verdict_points"].update(upper="lax"), "names 'lax'"),
        (lambda data: data["verdict_points"].pop("lower"), "lacks the fields"),
        (lambda data: data["collections"].update(members=[]), "values that differ"),
        (lambda data: data["collections"]["members"][0].update(operating_points=[]), "expected"),
        (lambda data: data["collections"]["members"][0].update(value=""), "not empty"),
        (lambda data: data["any_relevant"].update(best="1"), "finite number"),
        (lambda data: data["any_relevant"].update(novelty=1), "unknown fields"),
        (lambda data: data["operating_points"][1]["promise"].update(target=2), "between 0 and 1"),
        (lambda data: data.update(left_out_points=[3]), "must be a JSON object"),
    ],
)
def test_the_new_fields_are_read_strictly(change, message):
    data = json.loads(json.dumps(fake_manifest(**FULL).to_json()))
    change(data)
    with pytest.raises(BundleCorrupt, match=message):
        Manifest.from_json(data)


def test_the_card_says_what_is_promised_and_what_is_not():
    card = render_card(fake_manifest(**FULL))
    assert "| balanced \\(default\\) | 0.5000 | nothing: chosen for the best F1 |" in card
    assert "of the documents kept, at least 90 % are relevant | 5 % of calibrations | 0.91 | 300 |" in card
    assert "of the relevant documents, at least 90 % are kept" in card
    assert "**There is no point few\\-lost**, which was asked for: no threshold is known" in card
    assert "Verdict: relevant from a probability of 0.8000 on" in card
    assert "### Points by source" in card
    assert "### Whether anything in a list is relevant" in card
    for kind in ("lost-queries", "false-keeps"):
        assert "at most 10 %" in promise_in_words(Promise(kind, 0.1))
