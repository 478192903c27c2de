"""Suspects: planted errors come first, the model is scikit-learn's, corrections keep what a label was."""

from dataclasses import replace

import numpy as np
import pytest
from benchmarks.audit_planted import make_teacher, measure_queue
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from audit_case import labelled_pairs
from relgrade.audit.annotations import Annotation
from relgrade.audit.cases import query_index
from relgrade.audit.lexical import FEATURES, lexical_features
from relgrade.audit.relabel import (
    Correction,
    apply_corrections,
    corrections_from_people,
    relabel_queue,
)
from relgrade.audit.suspects import RIDGE, _fit_logistic, confident_errors, out_of_fold, suspect_labels
from relgrade.errors import InvalidInput
from relgrade.metrics import average_precision
from relgrade.probability import sigmoid
from relgrade.records import Pair

PAIRS = labelled_pairs(n_queries=100, n_documents=8, share_wrong=0.1)
IS_WRONG = np.asarray([(pair.label >= 0.5) != pair.fields["gold"] for pair in PAIRS])


def test_planted_errors_come_first():
    suspicion = suspect_labels(PAIRS)
    assert average_precision(suspicion.wrong, IS_WRONG) > 2.5 * IS_WRONG.mean()
    logits = np.asarray([6.0 * pair.fields["gold"] - 3.0 for pair in PAIRS])
    seen = suspect_labels(PAIRS, logits=logits)
    assert average_precision(seen.wrong, IS_WRONG) > 0.75
    assert "student's logit" in seen.evidence
    assert seen.n_likely_wrong == pytest.approx(IS_WRONG.sum(), rel=0.3)


@pytest.mark.parametrize("kind", ["one", "soft", "three"])
def test_every_kind_of_teacher_of_the_benchmark_is_ranked_better_than_by_chance(kind):
    gold = [replace(pair, label=float(pair.fields["gold"])) for pair in PAIRS]
    pairs, is_wrong = make_teacher(gold, kind, share_wrong=0.15, generator=np.random.default_rng(0))
    found = measure_queue(pairs, is_wrong, logits=None)
    assert found["average_precision"] > 1.5 * is_wrong.mean()


def test_disagreement_of_teachers_raises_suspicion():
    pairs = [
        replace(pair, label=float(pair.label >= 0.5), fields={"disagreement": 0.66 * (i % 2)})
        for i, pair in enumerate(PAIRS)
    ]
    wrong = suspect_labels(pairs).wrong
    assert wrong[1::2].mean() > 1.5 * wrong[::2].mean()


def test_the_student_has_not_seen_the_query():
    # Labels that depend on the query alone: out of fold nothing can be known of them.
    query = np.repeat(np.arange(60), 5)
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 60)[query].astype(float)
    features = np.eye(60)[query]
    predicted = out_of_fold(features, labels, query, seed=0)
    assert abs(np.corrcoef(predicted, labels)[0, 1]) < 0.35
    assert abs(predicted - labels).mean() > 0.4


def test_the_model_is_the_ridge_regression_of_scikit_learn():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(300, 4))
    labels = (generator.random(300) < sigmoid(features @ [2.0, -1.0, 0.0, 0.5] - 1.0)).astype(float)
    design = np.column_stack([np.ones(300), features])
    weights = _fit_logistic(design, labels)
    expected = LogisticRegression(C=1.0 / RIDGE, tol=1e-10, max_iter=1000).fit(features, labels)
    assert weights[1:] == pytest.approx(expected.coef_[0], abs=1e-4)
    assert weights[0] == pytest.approx(expected.intercept_[0], abs=1e-3)


def test_the_model_stays_finite_where_classes_part_cleanly():
    features = np.asarray([[-1e3], [-1.0], [1.0], [1e3]])
    weights = _fit_logistic(np.column_stack([np.ones(4), features]), np.asarray([0.0, 0.0, 1.0, 1.0]))
    assert np.isfinite(weights).all()


def test_confident_errors_by_hand():
    # Mean self-confidence: class 1 (0.9 + 0.7 + 0.2) / 3 = 0.6, class 0 (0.8 + 0.9 + 0.1) / 3 = 0.6.
    student = np.asarray([0.9, 0.7, 0.2, 0.2, 0.1, 0.9])
    verdict = np.asarray([True, True, True, False, False, False])
    assert confident_errors(student, verdict) == 2


def test_features_are_finite_and_mean_what_they_say():
    pairs = [
        Pair(query_id="1", query="Paris 1900 fair", doc_id="a", document="the Paris fair of 1900"),
        Pair(query_id="1", query="Paris 1900 fair", doc_id="b", document="nothing here"),
        Pair(query_id="2", query="?!", doc_id="c", document=""),
    ]
    features = lexical_features(pairs, query_index(pairs))
    assert features.shape == (3, len(FEATURES))
    assert np.isfinite(features).all()
    by_name = dict(zip(FEATURES, features.T, strict=True))
    assert by_name["coverage"][:2].tolist() == pytest.approx([1.0, 0.0])
    assert by_name["names"].tolist() == [1.0, 0.0, 0.5]
    assert by_name["rank"].tolist() == [0.0, 1.0, 0.0]
    assert by_name["bm25_above_mean"][:2].sum() == pytest.approx(0.0)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_features_do_not_depend_on_the_order(seed):
    order = np.random.default_rng(seed).permutation(40)
    pairs = PAIRS[:40]
    moved, expected = [pairs[i] for i in order], lexical_features(pairs, query_index(pairs))[order]
    assert lexical_features(moved, query_index(moved)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("pairs", "logits", "message"),
    [
        ([], None, "leave the others out"),
        ([Pair(query_id="1", query="q", doc_id="d", document="x")], None, "leave the others out"),
        (PAIRS[:8], None, "two queries"),
        ([pair for pair in PAIRS if pair.label > 0.5], None, "both relevant and irrelevant"),
        (PAIRS, np.zeros(3), "one finite logit a pair"),
        (PAIRS, np.full(len(PAIRS), np.nan), "one finite logit a pair"),
    ],
)
def test_what_cannot_be_suspected_is_refused(pairs, logits, message):
    with pytest.raises(InvalidInput, match=message):
        suspect_labels(pairs, logits=logits)


def test_the_queue_is_blind_and_ordered():
    suspicion = suspect_labels(PAIRS)
    first = int(suspicion.order[0])
    queue = relabel_queue(PAIRS, suspicion, judged=[first], n=10)
    assert len(queue) == 10
    assert [each.suspicion for each in queue] == sorted((each.suspicion for each in queue), reverse=True)
    names = {(each.case.query_id, each.case.doc_id) for each in queue}
    assert (PAIRS[first].query_id, PAIRS[first].doc_id) not in names
    assert len({each.case.case for each in queue}) == 10


def test_a_correction_keeps_the_whole_history():
    fields = {"model": "teacher-1", "disagreement": 0.4, "label_mass": 0.99, "mine": 1}
    pair = Pair(query_id="1", query="q", doc_id="d", document="x", label=0.7, fields=fields)
    person = Correction("1", "d", None, 0.0, "ann")
    once = apply_corrections([pair], [person])
    twice = apply_corrections(once.pairs, [Correction("1", "d", None, 0.8, "judge-2", {"teacher_grade": 3})])
    assert (once.n_changed, once.n_confirmed, twice.n_changed) == (1, 0, 1)
    assert apply_corrections(once.pairs, [person]).pairs == once.pairs
    (last,) = twice.pairs
    assert (last.label, last.fields["teacher_grade"], last.fields["mine"]) == (0.8, 3, 1)
    assert last.fields["label_history"] == [
        {"label": 0.7, "by": "teacher-1", "model": "teacher-1", "label_mass": 0.99, "disagreement": 0.4},
        {"label": 0.0, "by": "ann"},
    ]
    assert pair.fields == fields
    assert apply_corrections([pair], [Correction("1", "?", None, 0.0, "ann")]).n_unknown == 1


def test_most_people_decide_and_a_tie_decides_nothing():
    def said(*answers, doc_id="d", scale="binary"):
        return [Annotation(f"p{i}", answer, scale, query_id="1", doc_id=doc_id) for i, answer in enumerate(answers)]

    tie, graded = said(0, 1, doc_id="tie"), said(3, 1, 2, doc_id="g", scale="graded")
    found = corrections_from_people([*said(1, 1, 0), *tie, *graded])
    assert [(each.doc_id, each.label, each.by, each.about) for each in found] == [
        ("d", 1.0, "p0, p1, p2", {}),
        ("g", 1.0, "p0, p1, p2", {"grade": 2}),
    ]
