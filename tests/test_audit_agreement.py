"""Agreement against scikit-learn and krippendorff, and its intervals."""

import importlib.util

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from relgrade.audit.agreement import coincidences, cross_tables, kappa, krippendorff_alpha, raw_agreement
from relgrade.audit.clusters import bootstrap, student_quantile, sums_by_query
from relgrade.errors import InvalidInput

has_krippendorff = pytest.mark.skipif(
    importlib.util.find_spec("krippendorff") is None, reason="krippendorff is not installed"
)


def one_kappa(first, second, weights=None, *, n=2, is_quadratic=False):
    tables = cross_tables(np.asarray(first), np.asarray(second), n_categories=n, weights=weights)
    return float(kappa(tables.sum(axis=0, keepdims=True), is_quadratic=is_quadratic)[0])


def one_alpha(answers, *, n, level):
    matrix = coincidences(np.asarray(answers, dtype=float), n_categories=n).sum(axis=0, keepdims=True)
    return float(krippendorff_alpha(matrix, level=level)[0])


@pytest.mark.parametrize(("n", "is_quadratic"), [(2, False), (4, False), (4, True)])
@pytest.mark.parametrize("seed", range(3))
def test_kappa_is_that_of_scikit_learn(n, is_quadratic, seed):
    generator = np.random.default_rng(seed)
    first = generator.integers(0, n, 80)
    second = np.where(generator.random(80) < 0.6, first, generator.integers(0, n, 80))
    weights = generator.uniform(0.2, 9.0, 80)
    for given_weights in (None, weights):
        expected = cohen_kappa_score(
            first, second, weights="quadratic" if is_quadratic else None, sample_weight=given_weights
        )
        found = one_kappa(first, second, given_weights, n=n, is_quadratic=is_quadratic)
        assert found == pytest.approx(expected, abs=1e-12)


def test_kappa_of_a_table_worked_by_hand():
    # Cohen's own kind of table: 20 and 15 agree, 5 and 10 do not; p_o 0.7, p_e 0.5.
    table = np.asarray([[[20.0, 5.0], [10.0, 15.0]]])
    assert kappa(table)[0] == pytest.approx(0.4)
    assert raw_agreement(table)[0] == pytest.approx(0.7)


def test_kappa_of_one_answer_throughout_is_undefined():
    assert np.isnan(one_kappa([1, 1], [1, 1]))
    assert np.isnan(kappa(np.zeros((1, 2, 2)))[0])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=30))
def test_kappa_treats_both_judges_alike_and_is_one_only_when_they_agree(pairs):
    first, second = map(list, zip(*pairs, strict=True))
    one = one_kappa(first, second, n=4, is_quadratic=True)
    two = one_kappa(second, first, n=4, is_quadratic=True)
    assert one == pytest.approx(two, nan_ok=True)
    if not np.isnan(one):
        assert (one == pytest.approx(1.0)) == (first == second)
        assert -1.0 - 1e-9 <= one <= 1.0 + 1e-9


@has_krippendorff
@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
@pytest.mark.parametrize("seed", range(3))
def test_alpha_is_that_of_krippendorff(level, seed):
    from krippendorff import alpha

    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 4, 60)
    answers = np.stack([np.where(generator.random(60) < 0.7, truth, generator.integers(0, 4, 60)) for _ in range(4)])
    answers = np.where(generator.random((4, 60)) < 0.4, np.nan, answers)  # (n_annotators, n_pairs)
    expected = alpha(reliability_data=answers, value_domain=[0, 1, 2, 3], level_of_measurement=level)
    assert one_alpha(answers.T, n=4, level=level) == pytest.approx(expected, abs=1e-12)


def test_alpha_of_the_example_in_krippendorff_2011():
    # Binary data of two observers: table B of the paper, alpha 0.095.
    one = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
    two = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    assert one_alpha(np.column_stack([one, two]), n=2, level="nominal") == pytest.approx(0.095, abs=5e-4)


def test_alpha_passes_over_pairs_of_one_person():
    two_people = [[0, 0], [1, 1], [1, 0]]
    more = [*two_people, [1, np.nan], [np.nan, np.nan]]
    assert one_alpha(more, n=2, level="nominal") == one_alpha(two_people, n=2, level="nominal")


def test_the_interval_knows_that_queries_are_the_unit():
    generator = np.random.default_rng(0)
    query = np.repeat(np.arange(30), 10)
    is_good = generator.random(30) < 0.5  # all of a query's pairs are right, or none
    first = np.ones(300, dtype=int)
    tables = cross_tables(first, is_good[query].astype(int), n_categories=2)
    clustered = bootstrap(sums_by_query(tables, query), raw_agreement, n_pairs=300)
    alone = bootstrap(tables, raw_agreement, n_pairs=300)
    assert clustered.value == alone.value == pytest.approx(is_good.mean())
    assert clustered.half_width > 2.5 * alone.half_width
    assert (clustered.n_queries, clustered.n_pairs) == (30, 300)


def test_an_interval_needs_two_queries_and_defined_draws():
    table = np.asarray([[[1.0, 1.0], [0.0, 3.0]]])
    assert bootstrap(table, kappa, n_pairs=5).low is None
    assert bootstrap(table[:0], kappa, n_pairs=0).value is None
    # One disagreement in one of two queries: half the draws have no kappa.
    tables = np.asarray([[[0.0, 0.0], [0.0, 3.0]], [[1.0, 1.0], [0.0, 3.0]]])
    found = bootstrap(tables, kappa, n_pairs=8)
    assert found.value is not None
    assert found.low is None


@pytest.mark.parametrize("degrees", [5, 10, 30, 200])
def test_students_quantile_is_that_of_scipy(degrees):
    from scipy.stats import t

    assert student_quantile(degrees) == pytest.approx(t.ppf(0.975, degrees), rel=1e-3)


def test_students_quantile_needs_a_degree_of_freedom():
    with pytest.raises(InvalidInput, match="two queries"):
        student_quantile(0)
