"""Each known failure is provoked, and a good grader is told of none."""

import numpy as np
import pytest

from relgrade.evaluate import Contender, Judgements, ReportSettings, build_report
from relgrade.evaluate.diagnoses import diagnose
from relgrade.evaluate.evaluation import evaluate_rows
from relgrade.evaluate.report import WORD_OVERLAP
from relgrade.evaluate.rows import Rows

GENERATOR = np.random.default_rng(0)
N_QUERIES, PER_QUERY = 80, 10
QUERY_IDS = np.repeat([f"q{i}" for i in range(N_QUERIES)], PER_QUERY)
LABELS = np.tile([1.0] + [0.0] * (PER_QUERY - 1), N_QUERIES)
NOISE = GENERATOR.normal(size=LABELS.size)
GOOD = NOISE + 3.0 * LABELS


def names(scores, *, is_kept, probabilities=None, words=None, labels=LABELS):
    rows = Rows.check(labels, QUERY_IDS)
    measure = {"probabilities": None, "n_draws": 200, "seed": 0}
    grader = evaluate_rows(rows, scores=scores, is_kept=np.asarray(is_kept, bool), **measure)
    overlap = None if words is None else evaluate_rows(rows, scores=words, is_kept=None, **measure)
    found = list(diagnose(rows, grader, probabilities=probabilities, word_overlap=overlap))
    assert all(each.sentence.endswith(".") and each.name[1:] in each.sentence for each in found)
    return [each.name for each in found]


def test_a_good_grader_has_none():
    calibrated = 1 / (1 + np.exp(-(3.0 * GOOD - 4.5 - np.log(9))))
    assert names(GOOD, is_kept=GOOD > 2, probabilities=calibrated, words=NOISE + 0.5 * LABELS) == []


def test_a_head_that_did_not_learn():
    assert names(NOISE, is_kept=NOISE > 0) == ["nothing learned", "precision stuck at the base rate"]


def test_scores_with_the_sign_exchanged():
    assert names(-GOOD, is_kept=-GOOD > 3.5)[0] == "ranked upside down"


def test_a_threshold_that_lets_everything_pass_but_a_few():
    assert names(GOOD, is_kept=GOOD > -2) == ["precision stuck at the base rate"]


@pytest.mark.parametrize("kept", [False, True])
def test_one_class(kept):
    assert names(GOOD, is_kept=np.full(LABELS.size, kept)) == ["one class predicted"]


def test_accuracy_with_hardly_any_recall():
    assert names(GOOD, is_kept=GOOD > 5) == ["accuracy hides the recall"]


@pytest.mark.parametrize("mean", [0.5, 0.02])
def test_probabilities_shifted_by_resampling(mean):
    assert names(GOOD, is_kept=GOOD > 2, probabilities=np.full(LABELS.size, mean)) == ["probabilities are shifted"]


def test_labels_that_counting_words_explains():
    assert names(GOOD, is_kept=GOOD > 2, words=GOOD + 0.1 * NOISE) == ["word overlap explains the labels"]


def test_few_relevant_rows_prove_nothing():
    labels = np.zeros(LABELS.size)
    labels[:9] = 1.0
    assert names(NOISE, is_kept=NOISE > 9, labels=labels) == []


def test_the_report_says_them_before_the_table():
    judgements = Judgements(labels=LABELS, query_ids=QUERY_IDS.tolist())
    grader = Contender(name="mine", kind="grader", scores=GOOD, is_kept=np.zeros(LABELS.size))
    words = Contender(name=WORD_OVERLAP, kind="baseline", scores=GOOD + 0.1 * NOISE)
    report = build_report(judgements, [grader, words], settings=ReportSettings(n_draws=100))
    assert [note.split(":")[0] for note in report.notes] == [
        "One class predicted",
        "Word overlap explains the labels",
    ]
