import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from relgrade.calibrate import betting, binomial

LIMIT = 4


@st.composite
def counted(draw):
    """Part and whole of a few queries at two thresholds."""
    n = draw(st.integers(1, 40))
    whole = draw(npst.arrays(np.int64, (n, 2), elements=st.integers(0, LIMIT))).astype(float)
    share = draw(npst.arrays(np.int64, (n, 2), elements=st.integers(0, 4))) / 4.0
    return np.floor(whole * share), whole


def capital(part, whole, target, limit):
    """The definition, one query and one stake at a time."""
    total = 0.0
    for stake, share in zip(betting.STAKES, betting.SHARES, strict=True):
        owned = share
        for p, w in zip(part, whole, strict=True):
            owned *= 1.0 + stake * (p / target - w) / limit
        total += owned
    return total


def test_the_shares_of_the_capital_are_all_of_it():
    assert sum(betting.SHARES) == pytest.approx(1.0)
    assert len(betting.STAKES) == len(betting.SHARES)
    assert max(betting.STAKES) < 1.0  # a query that keeps `limit` false documents must not end the game


@settings(max_examples=60, deadline=None)
@given(data=counted(), target=st.floats(0.05, 0.95))
def test_the_capital_is_that_of_the_definition(data, target):
    part, whole = data
    found = betting.log_capital(part, whole, target=target, limit=LIMIT)
    expected = [np.log(capital(part[:, i], whole[:, i], target, LIMIT)) for i in range(2)]
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("outcomes", [[(0, 1), (1, 1)], [(4, 4), (0, 4), (0, 0), (1, 1)], [(1, 2), (0, 1), (3, 4)]])
def test_at_the_target_the_capital_is_fair(outcomes):
    # Every sequence of three queries from a population whose share is the target: the mean capital is what was there.
    target = sum(p for p, _ in outcomes) / sum(w for _, w in outcomes)
    capitals = [
        np.exp(betting.log_capital(*np.array(drawn, dtype=float).T[:, :, None], target=target, limit=LIMIT)[0])
        for drawn in itertools.product(outcomes, repeat=3)
    ]
    assert np.mean(capitals) == pytest.approx(1.0)


@settings(max_examples=60, deadline=None)
@given(data=counted(), targets=st.tuples(st.floats(0.05, 0.95), st.floats(0.05, 0.95)))
def test_the_capital_falls_as_the_target_rises(data, targets):
    low, high = (betting.log_capital(*data, target=target, limit=LIMIT) for target in sorted(targets))
    assert (high <= low + 1e-12).all()


@settings(max_examples=60, deadline=None)
@given(data=counted(), delta=st.floats(0.01, 0.5))
def test_the_bound_is_where_the_capital_reaches_the_level(data, delta):
    part, whole = data
    bounds = betting.lower_bound(part, whole, delta=delta, limit=LIMIT)
    for column, bound in enumerate(bounds):
        one = part[:, column : column + 1], whole[:, column : column + 1]
        assert bound * one[1].sum() <= one[0].sum() + 1e-6  # never above the observed share
        if bound > 0.001:
            assert betting.log_capital(*one, target=bound - 1e-6, limit=LIMIT)[0] >= np.log(1 / delta) - 1e-9
        if bound < 0.999:
            assert betting.log_capital(*one, target=bound + 1e-6, limit=LIMIT)[0] < np.log(1 / delta)


@settings(max_examples=60, deadline=None)
@given(data=counted(), seed=st.integers(0, 100), n_empty=st.integers(0, 40))
def test_neither_order_nor_queries_that_keep_nothing_matter(data, seed, n_empty):
    part, whole = data
    order = np.random.default_rng(seed).permutation(len(part) + n_empty)
    more = [np.concatenate([each, np.zeros((n_empty, 2))])[order] for each in data]
    plain = betting.log_capital(part, whole, target=0.7, limit=LIMIT)
    assert betting.log_capital(*more, target=0.7, limit=LIMIT) == pytest.approx(plain, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(data=counted(), times=st.integers(2, 4), delta=st.floats(0.01, 0.5))
def test_merging_copies_into_one_query_never_tightens_the_bound(data, times, delta):
    part, whole = data
    merged = betting.lower_bound(part * times, whole * times, delta=delta, limit=LIMIT * times)
    apart = betting.lower_bound(np.tile(part, (times, 1)), np.tile(whole, (times, 1)), delta=delta, limit=LIMIT)
    assert (merged <= apart + 1e-6).all()


def test_weighing_keeps_the_share_of_a_query_and_caps_its_size():
    part, whole = betting.weigh(np.array([[3.0], [1.0], [0.0]]), np.array([[6.0], [2.0], [0.0]]), limit=3)
    assert part.ravel().tolist() == [1.5, 1.0, 0.0]
    assert whole.ravel().tolist() == [3.0, 2.0, 0.0]


def test_long_products_neither_overflow_nor_vanish():
    whole = np.full((5000, 1), 4.0)
    assert np.isfinite(betting.log_capital(np.zeros_like(whole), whole, target=0.9, limit=LIMIT)).all()
    assert betting.lower_bound(whole, whole, delta=0.05, limit=LIMIT)[0] > 0.99


@pytest.mark.parametrize("n", [1, 7, 60, 900])
@pytest.mark.parametrize("delta", [0.01, 0.1])
def test_clopper_pearson_is_scipys(n, delta):
    beta = pytest.importorskip("scipy.stats").beta
    for k in {0, n // 10, n // 2, n - 1}:
        expected = beta.ppf(1 - delta, k + 1, n - k)
        assert binomial.upper_bound(k, n, delta=delta) == pytest.approx(expected, abs=1e-9)
        assert binomial.tail(k, n, expected) == pytest.approx(delta, rel=1e-6)
    assert binomial.upper_bound(n, n, delta=delta) == 1.0


def test_the_number_of_queries_needed_would_do_and_little_less_would_not():
    needed = binomial.n_needed(0.05, target=0.1, delta=0.1)
    assert binomial.upper_bound(round(0.05 * needed), needed, delta=0.1) <= 0.1
    fewer = int(needed * 0.7)
    assert binomial.upper_bound(round(0.05 * fewer), fewer, delta=0.1) > 0.1
    assert binomial.n_needed(0.0, target=0.1, delta=0.1) == 22  # 0.9 ** 22 < 0.1 < 0.9 ** 21
    assert binomial.n_needed(0.1, target=0.1, delta=0.1) is None
    assert binomial.n_needed(0.0999, target=0.1, delta=0.1, most=1000) is None
