"""Twin lists, reliability, curve, slices, flips and mistakes: values by hand, and what must not change them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relgrade import metrics
from relgrade.errors import InvalidInput
from relgrade.evaluate import Contender, Judgements, ReportSettings, build_report, evaluate_scores
from relgrade.evaluate.confidence import calibration_noise_floor, reliability
from relgrade.evaluate.curve import threshold_curve
from relgrade.evaluate.flips import compare_verdicts
from relgrade.evaluate.intervals import draw_queries, share_estimate
from relgrade.evaluate.mistakes import worst_mistakes
from relgrade.evaluate.rows import Rows
from relgrade.evaluate.slices import MAX_SLICES, OTHERS, evaluate_slices
from relgrade.evaluate.twins import compare_twins
from relgrade.evaluate.verdicts import Confusion
from relgrade.evaluate.wording import summary_sentences
from relgrade.probability import sigmoid


def sample(seed, n_queries=40, per_query=6):
    generator = np.random.default_rng(seed)
    query = np.repeat(np.arange(n_queries), per_query)
    effect = generator.normal(size=n_queries)[query]
    labels = (generator.random(query.size) < sigmoid(effect - 1.0)).astype(int)
    labels[:2] = [1, 0]
    scores = np.round(1.5 * labels + 0.5 * effect + generator.normal(size=query.size), 1)
    return scores, labels, np.asarray([f"q{number:03d}" for number in query])


def report_of(scores, labels, ids, *, n_draws=20, by=(), fields=None):
    probabilities = sigmoid(scores - 1.0)
    judgements = Judgements(
        labels=labels,
        query_ids=list(ids),
        doc_ids=[str(row) for row in range(len(ids))],
        fields=fields or {},
    )
    grader = Contender(
        name="g", kind="grader", scores=scores, probabilities=probabilities, is_kept=probabilities >= 0.5, threshold=0.5
    )
    other = Contender(name="b", kind="baseline", scores=-scores, is_kept=scores < 0.3)
    against = Contender(name="o", kind="grader", scores=scores**3, is_kept=scores >= 0.6)
    settings_ = ReportSettings(n_draws=n_draws, by=by)
    return build_report(judgements, [grader, other], against=against, settings=settings_).to_json()


def point_estimates(value, path=()):
    """Every `value` of a report, and the counts that sizes do not change, by path."""
    if isinstance(value, dict):
        if "reason" in value and "value" in value:
            return {path: value["value"]}
        skipped = {"mistakes", "noise_floor", "method", "summary", "notes"}
        found = {}
        for key, item in value.items():
            if key not in skipped and not str(key).startswith("n_"):
                found |= point_estimates(item, (*path, key))
        return found
    if isinstance(value, list):
        return {key: found for i, item in enumerate(value) for key, found in point_estimates(item, (*path, i)).items()}
    return {path: value} if isinstance(value, float) else {}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for path, value in first.items():
        assert second[path] == (value if value is None else pytest.approx(value, abs=1e-9)), path


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_order_of_rows_changes_nothing(seed):
    scores, labels, ids = sample(seed)
    fields = {"half": [int(each[1:]) % 2 for each in ids]}
    order = np.random.default_rng(seed).permutation(ids.size)
    plain = report_of(scores, labels, ids, by=("half",), fields=fields)
    mixed = report_of(
        scores[order], labels[order], ids[order], by=("half",), fields={"half": [fields["half"][i] for i in order]}
    )
    assert_same(point_estimates(plain), point_estimates(mixed))
    # The interval, too: queries are drawn by their names, not by where they stand.
    for name in ("precision", "average_precision", "losing_all", "mcc"):
        one, two = (each["contenders"][0]["evaluation"][name] for each in (plain, mixed))
        assert one["low"] == pytest.approx(two["low"], abs=1e-9)
    assert plain["reliability"]["noise_floor"] == pytest.approx(mixed["reliability"]["noise_floor"], abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_names_of_queries_change_no_value(seed):
    scores, labels, ids = sample(seed)
    names = dict(zip(sorted(set(ids)), np.random.default_rng(seed).permutation(sorted(set(ids))).tolist(), strict=True))
    renamed = np.asarray([f"new {names[each]}" for each in ids])
    assert_same(point_estimates(report_of(scores, labels, ids)), point_estimates(report_of(scores, labels, renamed)))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_duplicating_every_query_changes_no_value(seed):
    scores, labels, ids = sample(seed)
    twice = report_of(np.tile(scores, 2), np.tile(labels, 2), np.concatenate([ids, [f"copy {each}" for each in ids]]))
    assert_same(point_estimates(report_of(scores, labels, ids)), point_estimates(twice))


def test_twins_by_hand():
    # Tops: a 0.9 against 0.2, b 0.6 against 0.4, c has no relevant document, d no irrelevant one.
    ids = ["a", "a", "b", "b", "c", "d"]
    found = compare_twins([0.9, 0.2, 0.6, 0.4, 0.8, 0.7], [1, 0, 1, 0, 0, 1], ids, is_kept=[1, 0, 1, 1, 1, 1])
    assert found.n_queries == 2
    assert found.auroc.value == 1.0
    assert found.false_accepts.value == 0.0
    assert found.keeps_something.value == 0.5


def test_a_relevant_document_below_the_others_leaves_the_twins_alike():
    found = compare_twins([0.1, 0.2], [1, 0], ["a", "a"])
    assert found.auroc.value == 0.5
    assert found.false_accepts.value == 1.0
    assert found.keeps_something.reason == "there are no verdicts"


def test_false_accepts_are_counted_where_nine_in_ten_lists_pass():
    # Twenty lists: the relevant document scores 1 to 20, the other one 2.5, so that the absent top is 2.5 throughout.
    # 18 of 20 present lists pass at max(3, 2.5): no absent list does.
    ids = np.repeat([f"q{i:02d}" for i in range(20)], 2)
    scores = np.ravel([[i + 1, 2.5] for i in range(20)]).astype(float)
    labels = np.tile([1, 0], 20)
    assert compare_twins(scores, labels, ids).false_accepts.value == 0.0
    scores[1::2] = 3.5
    assert compare_twins(scores, labels, ids).false_accepts.value == 1.0


def test_a_list_score_stands_in_for_the_top():
    ids = ["a"] * 3 + ["b"] * 3
    scores, labels = [0.5, 0.5, 0.1, 0.5, 0.1, 0.1], [1, 0, 0, 0, 0, 1]
    top = compare_twins(scores, labels, ids)
    total = compare_twins(scores, labels, ids, list_score=lambda values: float(values.sum()), scored_by="sum")
    assert top.auroc.value == 0.5
    assert total.auroc.value == 1.0
    assert total.scored_by == "sum"
    with pytest.raises(InvalidInput, match="score of a list"):
        compare_twins(scores, labels, ids, list_score=lambda values: float("nan"))


def test_without_twins_there_is_a_reason():
    found = compare_twins([0.1, 0.2], [0, 0], ["a", "a"])
    assert found.n_queries == 0
    assert "no query has both" in found.auroc.reason


def test_twins_drawn_one_by_one_give_the_same_draws():
    from relgrade.evaluate.twins import RECALL, _false_accepts

    generator = np.random.default_rng(0)
    present, absent = generator.integers(0, 9, 30) / 4.0, generator.integers(0, 6, 30) / 4.0
    counts = draw_queries(30, n_draws=25, seed=1)
    found = _false_accepts(present, absent, counts)
    for row, drawn in enumerate(counts.astype(int)):
        one, other = np.repeat(present, drawn), np.repeat(absent, drawn)
        passing = [t for t in np.unique(one) if (one >= t).mean() >= RECALL - 1e-9]
        assert found[row] == pytest.approx((other >= max(passing)).mean())


def test_the_noise_floor_is_the_error_of_perfect_probabilities():
    generator = np.random.default_rng(0)
    p = generator.beta(1, 4, 2000)
    floor = calibration_noise_floor(p, n_simulations=200, seed=1)
    errors = [
        metrics.expected_calibration_error(p, (generator.random(p.size) < p).astype(int), n_bins=15) for _ in range(200)
    ]
    assert floor.mean == pytest.approx(np.mean(errors), rel=0.05)
    assert np.mean(np.asarray(errors) > floor.high) == pytest.approx(0.05, abs=0.05)
    assert floor == calibration_noise_floor(p[::-1], n_simulations=200, seed=1)


def test_blocks_do_not_change_the_noise_floor_much(monkeypatch):
    p = np.random.default_rng(0).random(300)
    whole = calibration_noise_floor(p)
    monkeypatch.setattr("relgrade.evaluate.confidence.BLOCK_CELLS", 7 * p.size)
    assert calibration_noise_floor(p) == whole


def test_reliability_says_when_probabilities_are_off():
    generator = np.random.default_rng(1)  # one seed in twenty lies above the 95 % mark, as it should
    p = generator.random(3000)
    ids = np.repeat(np.arange(300), 10)
    honest = reliability(p, generator.random(p.size) < p, ids, n_draws=50)
    boasting = reliability(p, generator.random(p.size) < p**2, ids, n_draws=50)
    assert honest.is_within_noise
    assert not boasting.is_within_noise
    assert len(honest.bins) == 15
    assert sum(each.n_pairs for each in honest.bins) == p.size
    gaps = [abs(each.mean_probability - each.share_relevant.value) * each.n_pairs for each in honest.bins]
    assert sum(gaps) / p.size == pytest.approx(honest.calibration_error.value)
    assert all(each.share_relevant.low <= each.share_relevant.value <= each.share_relevant.high for each in honest.bins)


def test_too_few_pairs_to_tell_are_not_praised():
    generator = np.random.default_rng(2)

    def sentence(n):
        p = generator.random(n)
        found = reliability(p, generator.random(n) < p, np.arange(n), n_draws=2)
        return " ".join(summary_sentences(evaluate_scores(p, p > 2, np.arange(n), threshold=0.5, n_draws=2), [], found))

    assert "could not tell" in sentence(90)
    assert "nothing here speaks against" in sentence(4000)


def test_the_curve_is_the_measures_at_each_threshold():
    scores, labels, ids = sample(3)
    p = np.round(sigmoid(scores), 2)  # on the grid, so that ties at a threshold count
    curve = threshold_curve(p, labels, ids)
    for i in (0, 13, 50, 77):
        at = evaluate_scores(p, labels, ids, threshold=curve.thresholds[i], n_draws=1)
        assert curve.precision[i] == at.precision.value
        assert curve.recall[i] == at.recall.value
        assert curve.losing_all[i] == at.losing_all.value
        assert curve.false_keep[i] == at.false_keep.value
    assert curve.precision[-1] is None or p.max() == 1.0


def test_a_pair_on_the_threshold_is_kept_in_the_curve():
    curve = threshold_curve([0.5, 0.4], [1, 0], ["a", "b"])
    assert (curve.precision[50], curve.recall[50], curve.recall[51]) == (1.0, 1.0, 0.0)


def test_slices_are_evaluations_of_their_rows():
    scores, labels, ids = sample(4)
    field = np.where(np.arange(ids.size) % 3 == 0, "x", "y")
    found = evaluate_slices(
        "f", field, scores=scores, labels=labels, query_ids=ids, threshold=0.5, n_draws=30, is_kept=scores >= 0.5
    )
    assert list(found.members) == ["y", "x"]  # the larger first
    rows = field == "x"
    alone = evaluate_scores(scores[rows], labels[rows], ids[rows], threshold=0.5, n_draws=30)
    assert found.members["x"].precision == alone.precision
    # A query is unanswerable when it has nothing relevant anywhere, not when its slice has nothing.
    whole = {each for each in ids if labels[ids == each].sum() == 0}
    assert found.members["x"].n_unanswerable == len(whole & set(ids[rows]))


def test_slices_are_few_and_named():
    n = 3 * MAX_SLICES
    values = [f"v{i:03d}" for i in range(n)] + ["big"] * 5 + [None, True]
    rows = len(values)
    scores, labels = np.linspace(0, 1, rows), np.arange(rows) % 2
    found = evaluate_slices(
        "f", values, scores=scores, labels=labels, query_ids=np.arange(rows), threshold=0.5, n_draws=2
    )
    assert len(found.members) == MAX_SLICES
    assert OTHERS in found.members
    assert "big" in found.members
    assert sum(each.n_pairs for each in found.members.values()) == rows
    with pytest.raises(InvalidInput, match="no row has the field 'f'"):
        evaluate_slices("f", [None], scores=[1.0], labels=[1], query_ids=["a"], threshold=0.5)


def test_flips_by_hand():
    labels, ids = [1, 0, 1, 0, 1], ["a", "a", "b", "b", "c"]
    flips = compare_verdicts([1, 0, 0, 1, 1], [0, 1, 1, 0, 1], labels, ids)
    assert (flips.n_flipped, flips.n_mended, flips.n_broken) == (4, 2, 2)
    assert (flips.n_newly_kept_relevant, flips.n_newly_dropped_irrelevant) == (1, 1)
    assert (flips.n_newly_kept_irrelevant, flips.n_newly_dropped_relevant) == (1, 1)
    assert flips.differences["precision"].value == 0.0
    assert flips.differences["losing_all"].value == 0.0
    assert flips.differences["false_keep"].reason == "one of the two has no value"


def test_differences_are_those_of_the_measures_and_paired():
    scores, labels, ids = sample(5)
    other = scores + np.random.default_rng(0).normal(scale=0.1, size=scores.size)
    flips = compare_verdicts(scores >= 0.5, other >= 0.7, labels, ids, scores=scores, other_scores=other, n_draws=200)
    one, two = (
        evaluate_scores(each, labels, ids, threshold=at, n_draws=200) for each, at in ((scores, 0.5), (other, 0.7))
    )
    for name, found in flips.differences.items():
        assert found.value == pytest.approx(getattr(one, name).value - getattr(two, name).value), name
    assert flips.differences["recall"].half_width < one.recall.half_width
    same = compare_verdicts(scores >= 0.5, scores >= 0.5, labels, ids)
    assert same.n_flipped == 0
    assert (same.differences["f1"].low, same.differences["f1"].high) == (0.0, 0.0)


def test_the_worst_mistakes_are_the_surest_one_a_query():
    ids = ["a", "a", "b", "c", "c", "d"]
    labels = [0, 0, 0, 1, 1, 1]
    scores = [0.9, 0.95, 0.8, 0.1, 0.2, 0.05]
    found = worst_mistakes(scores, [1, 1, 1, 0, 0, 0], labels, ids)
    assert found.false_keeps == (1, 2)
    assert found.false_drops == (5, 3)
    assert worst_mistakes(scores, [1, 1, 1, 0, 0, 0], labels, ids, limit=1).false_drops == (5,)
    assert worst_mistakes(scores, labels, labels, ids).false_keeps == ()


def test_a_share_on_which_all_queries_agree_has_an_exact_interval():
    draws = np.zeros(100)
    found = share_estimate(np.zeros(20, dtype=bool), draws, n_pairs=40)
    stats = pytest.importorskip("scipy.stats")
    assert (found.value, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(stats.binomtest(0, 20).proportion_ci(method="exact").high)
    assert share_estimate(np.ones(20, dtype=bool), draws, n_pairs=40).low == pytest.approx(1.0 - found.high)
    assert share_estimate(np.zeros(0, dtype=bool), draws, n_pairs=0, reason="none").reason == "none"


def test_ndcg_uses_grades_where_there_are_some():
    scores, ids = [0.9, 0.5, 0.1, 0.3], ["a", "a", "a", "b"]
    found = evaluate_scores(scores, [1, 1, 0, 0], ids, threshold=0.5, grades=[1, 3, 0, 0], n_draws=10)
    assert found.ndcg_at_10.value == pytest.approx(metrics.ndcg_at(scores[:3], [1, 3, 0], k=10))
    assert found.ndcg_at_10.n_queries == 1
    plain = evaluate_scores(scores, [1, 1, 0, 0], ids, threshold=0.5, n_draws=10)
    assert plain.ndcg_at_10.value == 1.0


def test_draws_of_mcc_and_kappa_are_the_measures_on_the_pairs_drawn():
    scores, labels, ids = sample(6, n_queries=12)
    rows, kept = Rows.check(labels, ids), scores >= 0.5
    counts = draw_queries(12, n_draws=20, seed=0)
    drawn = Confusion.of(rows, kept).drawn(counts)
    for row, times in enumerate(counts.astype(int)):
        again = np.repeat(np.arange(labels.size), times[rows.query])
        assert drawn.mcc()[row] == pytest.approx(metrics.mcc(kept[again], labels[again]))
        assert drawn.kappa()[row] == pytest.approx(metrics.cohen_kappa(kept[again], labels[again]))


def test_what_has_no_value_says_why():
    found = evaluate_scores([0.5, 0.5], [0, 0], ["a", "b"], threshold=0.9, n_draws=5)
    assert found.precision.reason == "nothing is kept"
    assert found.recall.reason == "nothing is relevant"
    assert "labels are all the same" in found.auroc.reason
    assert "no query has a relevant" in found.losing_all.reason
    assert found.false_keep.value == 0.0
    assert found.accuracy.value == 1.0
    without = evaluate_scores([0.5, 0.5], [0, 1], ["a", "b"], threshold=None, n_draws=5)
    assert without.f1.reason == "no threshold was chosen for it"
    assert without.auroc.value == 0.5
