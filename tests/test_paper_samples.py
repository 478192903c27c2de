"""Which pairs train, calibrate and test: whole queries apart, ratios exact, one number of pairs for every row."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paper_case import settings_of, write_data
from relgrade.data.queries import query_key
from relgrade.errors import InvalidData, InvalidSettings
from relgrade.formats.write import write_pairs
from relgrade.paper.job import make_job
from relgrade.paper.samples import draw_training, is_relevant, pair_key, read_samples
from relgrade.paper.settings import RowSettings, TestSettings
from relgrade.probability import log_odds

ROW = {"name": "c", "method": "C"}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return settings_of(write_data(tmp_path_factory.mktemp("data")), "unused", [ROW])


@pytest.fixture(scope="module")
def samples(table):
    return read_samples(table)


def test_queries_stand_on_one_side(samples):
    sides = [samples.pool, samples.calibration, samples.tests["test"]]
    keys = [{query_key(pair.query) for pair in side} for side in sides]
    assert not keys[0] & keys[1]
    assert not keys[0] & keys[2]
    assert not keys[1] & keys[2]
    assert len(samples.calibration) == 30


def test_fewer_test_queries_are_whole_and_the_same(table):
    some = read_samples(replace(table, test_queries=3)).tests["test"]
    more = read_samples(replace(table, test_queries=5)).tests["test"]
    assert len({pair.query_id for pair in some}) == 3
    assert len(some) == 15
    assert {pair_key(pair) for pair in some} < {pair_key(pair) for pair in more}


@given(st.sampled_from([None, 0.5, 1.0, 2.0, 4.0, 9.0]), st.integers(10, 200), st.integers(0, 3))
def test_a_draw_has_its_number_and_its_ratio(samples, ratio, n_pairs, seed):
    drawn = draw_training(samples, RowSettings(**ROW, negatives_per_positive=ratio), n_pairs=n_pairs, seed=seed)
    if ratio is None and n_pairs > len(samples.pool):
        assert drawn.pairs == samples.pool  # once: nothing asked for more of one kind
        assert drawn.prior_shift == 0.0
        return
    assert len(drawn.pairs) == n_pairs
    pool = float(is_relevant(samples.pool).mean())
    share = pool if ratio is None else 1.0 / (1.0 + ratio)
    assert drawn.n_relevant == pytest.approx(n_pairs * share, abs=1.0)
    expected = 0.0 if ratio is None else log_odds(drawn.n_relevant / n_pairs) - log_odds(pool)
    assert drawn.prior_shift == pytest.approx(expected)


def test_a_smaller_draw_is_part_of_a_larger_one(samples):
    row = RowSettings(**ROW, negatives_per_positive=1)
    small, large = ({pair_key(pair) for pair in draw_training(samples, row, n_pairs=n, seed=3).pairs} for n in (10, 20))
    assert small < large


def test_other_labels_replace_those_of_the_training_pairs(samples, tmp_path):
    path = tmp_path / "soft.jsonl"
    write_pairs(path, [replace(pair, label=0.25) for pair in samples.pool])
    drawn = draw_training(samples, RowSettings(**ROW, labels=str(path)), n_pairs=20, seed=0)
    assert {pair.label for pair in drawn.pairs} == {0.25}
    write_pairs(path, [replace(pair, label=0.25) for pair in samples.pool[:1]])
    with pytest.raises(InvalidData, match="training pairs have no label here"):
        draw_training(samples, RowSettings(**ROW, labels=str(path)), n_pairs=20, seed=0)


@pytest.mark.parametrize("loss", ["cross-entropy", "class-weighted"])
def test_training_pairs_of_one_kind(table, samples, tmp_path, loss):
    path = tmp_path / "soft.jsonl"
    row = RowSettings(**ROW, labels=str(path), loss=loss)
    places = {"folder": tmp_path, "shared": tmp_path, "on_piece": lambda what, done, total: None}
    for label, found in ((0.25, "0 of its 40"), (0.75, "40 of its 40")):
        write_pairs(path, [replace(pair, label=label) for pair in samples.pool])
        with pytest.raises(
            InvalidData, match=rf"soft\.jsonl: row c: {found} training pairs .* of both kinds are needed"
        ):
            make_job(row, table, samples, **places)


def test_a_test_that_shares_queries_with_the_training_pairs(table):
    leak = TestSettings(name="leak", path=table.train, split="train")
    for test in (leak, replace(leak, split=None)):
        with pytest.raises(
            InvalidSettings, match=r"test leak shares 24 queries with the training pairs .*, such as 'where is"
        ):
            read_samples(replace(table, tests=(*table.tests, test)))


def test_ids_that_mean_two_things(samples):
    odd = replace(samples.tests["test"][0], document="something else")
    with pytest.raises(InvalidData, match="have different texts"):
        replace(samples, tests={**samples.tests, "other": [odd]}).judged()


def test_too_few_pairs_for_both_sides(table):
    with pytest.raises(InvalidSettings, match="pairs of both kinds are needed"):
        read_samples(replace(table, calibration_pairs=120))
