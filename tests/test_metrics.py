import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from relgrade import metrics
from relgrade.errors import InvalidInput, UndefinedMeasure

sklearn_metrics = pytest.importorskip("sklearn.metrics")

VERDICTS = [metrics.precision, metrics.recall, metrics.f1, metrics.accuracy, metrics.mcc, metrics.cohen_kappa]
RANKINGS = [metrics.average_precision, metrics.auroc, metrics.best_f1]
CONFIDENCES = [metrics.brier, metrics.log_loss, metrics.expected_calibration_error]


@st.composite
def scored(draw):
    """Scores on a coarse grid, so that ties are common, and labels of both kinds."""
    n = draw(st.integers(3, 40))
    scores = draw(npst.arrays(np.int64, n, elements=st.integers(0, 6))) / 6.0
    labels = draw(npst.arrays(np.int64, n, elements=st.integers(0, 1)))
    labels[:2] = [0, 1]
    return scores, labels


def make(seed, n=300, levels=20):
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, levels + 1, n) / levels
    return scores, (generator.random(n) < 0.1 + 0.6 * scores).astype(int)


@pytest.mark.parametrize("seed", range(5))
def test_measures_agree_with_scikit_learn(seed):
    scores, labels = make(seed)
    kept = scores >= 0.6
    pairs = [
        (metrics.precision(kept, labels), sklearn_metrics.precision_score(labels, kept)),
        (metrics.recall(kept, labels), sklearn_metrics.recall_score(labels, kept)),
        (metrics.f1(kept, labels), sklearn_metrics.f1_score(labels, kept)),
        (metrics.accuracy(kept, labels), sklearn_metrics.accuracy_score(labels, kept)),
        (metrics.mcc(kept, labels), sklearn_metrics.matthews_corrcoef(labels, kept)),
        (metrics.cohen_kappa(kept, labels), sklearn_metrics.cohen_kappa_score(kept, labels)),
        (metrics.average_precision(scores, labels), sklearn_metrics.average_precision_score(labels, scores)),
        (metrics.auroc(scores, labels), sklearn_metrics.roc_auc_score(labels, scores)),
        (metrics.brier(scores, labels), sklearn_metrics.brier_score_loss(labels, scores)),
        (metrics.log_loss(scores * 0.9 + 0.05, labels), sklearn_metrics.log_loss(labels, scores * 0.9 + 0.05)),
    ]
    for ours, theirs in pairs:
        assert ours == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("k", [1, 5, 100])
def test_ndcg_agrees_with_scikit_learn_also_on_ties(k):
    generator = np.random.default_rng(k)
    scores, grades = generator.integers(0, 4, 30), generator.integers(0, 4, 30)
    expected = sklearn_metrics.ndcg_score([grades], [scores], k=k)
    assert metrics.ndcg_at(scores, grades, k=k) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_ndcg_agrees_with_ir_measures(seed):
    ir_measures = pytest.importorskip("ir_measures")
    generator = np.random.default_rng(seed)
    n_queries, n_documents = 8, 25
    # No ties: trec_eval breaks them by document id.
    scores = generator.permutation(n_queries * n_documents).reshape(n_queries, -1) / 7.0
    grades = generator.integers(0, 4, (n_queries, n_documents)) * (generator.random((n_queries, n_documents)) < 0.3)
    grades[:, 0] = 1
    qrels = [ir_measures.Qrel(f"q{i}", f"d{j}", int(grades[i, j])) for i, j in np.ndindex(grades.shape)]
    run = [ir_measures.ScoredDoc(f"q{i}", f"d{j}", float(scores[i, j])) for i, j in np.ndindex(scores.shape)]
    found = ir_measures.iter_calc([ir_measures.nDCG @ 10], qrels, run)
    expected = {each.query_id: each.value for each in found}
    assert len(expected) == n_queries
    for i in range(n_queries):
        assert metrics.ndcg_at(scores[i], grades[i], k=10) == pytest.approx(expected[f"q{i}"], abs=1e-9)


def test_best_f1_is_the_best_of_all_thresholds():
    scores, labels = make(7)
    tried = [metrics.f1(scores >= at, labels) for at in np.unique(scores)]
    assert metrics.best_f1(scores, labels) == max(tried)


@settings(max_examples=40, deadline=None)
@given(data=scored(), seed=st.integers(0, 1000), times=st.integers(2, 3))
def test_neither_order_nor_repetition_matters(data, seed, times):
    scores, labels = data
    order = np.random.default_rng(seed).permutation(np.tile(np.arange(scores.size), times))
    kept = scores >= 0.5
    for measure in RANKINGS + CONFIDENCES:
        assert measure(scores[order], labels[order]) == pytest.approx(measure(scores, labels), abs=1e-12)
    for measure in VERDICTS:
        try:
            expected = measure(kept, labels)
        except UndefinedMeasure:
            continue
        assert measure(kept[order], labels[order]) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(data=scored())
def test_rankings_see_only_the_order_of_scores(data):
    scores, labels = data
    for measure in RANKINGS:
        assert measure(np.exp(3.0 * scores), labels) == pytest.approx(measure(scores, labels), abs=1e-12)


def test_a_constant_score_is_worth_the_base_rate():
    labels = [1, 0, 0, 1, 0]
    assert metrics.average_precision([0.3] * 5, labels) == pytest.approx(0.4)
    assert metrics.auroc([0.3] * 5, labels) == 0.5


def test_calibration_error_by_hand():
    # Two bins of two pairs: |0.15 - 0.5| and |0.85 - 1.0|, each half of the pairs.
    assert metrics.expected_calibration_error([0.1, 0.2, 0.8, 0.9], [0, 1, 1, 1], n_bins=2) == pytest.approx(0.25)
    # Opposite errors in one bin cancel, ties share a bin whatever their labels.
    assert metrics.expected_calibration_error([0.5] * 4, [0, 1, 1, 0], n_bins=4) == 0.0


def test_equal_mass_bins_hold_equal_shares():
    bins = metrics.equal_mass_bins(np.random.default_rng(0).random(150), n_bins=15)
    assert np.bincount(bins).tolist() == [10] * 15
    # Nine tied pairs stand in the bin of the middle one, the sixth of ten.
    assert metrics.equal_mass_bins(np.array([0.1] + [0.2] * 9), n_bins=2).tolist() == [0] + [1] * 9


def test_queries_that_lose_everything_and_queries_kept_for_nothing():
    queries = ["a", "a", "b", "b", "c", "d"]
    labels = [1, 0, 1, 1, 0, 0]
    kept = [0, 1, 0, 1, 1, 0]
    assert metrics.share_of_queries_losing_all(kept, labels, query_ids=queries) == 0.5
    answerable = [1, 1, 1, 1, 0, 0]
    assert metrics.false_keep_rate(kept, answerable, query_ids=queries) == 0.5
    with pytest.raises(InvalidInput, match="answerable in one pair"):
        metrics.false_keep_rate(kept, [1, 0, 1, 1, 0, 0], query_ids=queries)


@pytest.mark.parametrize(
    ("measure", "first", "second"),
    [
        (metrics.precision, [0, 0], [0, 1]),
        (metrics.recall, [0, 1], [0, 0]),
        (metrics.f1, [0, 0], [0, 0]),
        (metrics.mcc, [1, 1], [0, 1]),
        (metrics.cohen_kappa, [1, 1], [1, 1]),
        (metrics.average_precision, [0.1, 0.2], [0, 0]),
        (metrics.auroc, [0.1, 0.2], [1, 1]),
        (metrics.best_f1, [0.1, 0.2], [0, 0]),
    ],
)
def test_what_has_no_value_raises_and_is_never_nan(measure, first, second):
    with pytest.raises(UndefinedMeasure):
        measure(first, second)


def test_undefined_measures_of_queries():
    with pytest.raises(UndefinedMeasure):
        metrics.share_of_queries_losing_all([1, 1], [0, 0], query_ids=["a", "b"])
    with pytest.raises(UndefinedMeasure):
        metrics.false_keep_rate([1, 1], [1, 1], query_ids=["a", "b"])
    with pytest.raises(UndefinedMeasure):
        metrics.ndcg_at([1.0, 2.0], [0, 0], k=1)


@pytest.mark.parametrize("measure", VERDICTS + RANKINGS + CONFIDENCES)
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([], []),
        ([0.5, float("nan")], [0, 1]),
        ([0.5, float("inf")], [0, 1]),
        ([[0.5, 0.5]], [[0, 1]]),
        ([0.5, 0.5, 0.5], [0, 1]),
        (["x", "y"], [0, 1]),
        ([1, 0], [0, 2]),
        ([1, 0], [0, float("nan")]),
    ],
)
def test_bad_arrays_are_refused(measure, first, second):
    with pytest.raises(InvalidInput):
        measure(first, second)


@pytest.mark.parametrize("measure", CONFIDENCES)
def test_logits_are_no_probabilities(measure):
    with pytest.raises(InvalidInput, match="look like logits"):
        measure([-1.0, 2.0], [0, 1])


def test_certain_mistakes_cost_a_finite_loss():
    assert metrics.log_loss([0.0], [1]) == pytest.approx(-np.log(metrics.LOG_LOSS_FLOOR))
