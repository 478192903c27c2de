"""The bookkeeping of benchmarks.levers: what is left out of training, what is drawn, and what a margin is."""

import numpy as np
import pytest

pytest.importorskip("torch")

from benchmarks import levers
from benchmarks.levers import Data, Lever, capped, judge, queries_share

from relgrade.student.evidence import NAMES

N = len(NAMES)
COSINE = NAMES.index("cosine_mean")


def make_data(source, *, n_queries=30, per_query=5, seed=0, sign=1.0):
    """Relevant pairs have the higher cosine, or the lower one for sign -1; all else is noise."""
    generator = np.random.default_rng(seed)
    n = n_queries * per_query
    labels = np.tile(np.arange(per_query) == 0, n_queries).astype(float)
    x = generator.normal(size=(n, N)).astype(np.float32)
    x[:, COSINE] = sign * (labels - 0.5) * 4 + generator.normal(size=n)
    queries = np.asarray([f"{source}\t{i // per_query}" for i in range(n)])
    return Data(x, labels, np.asarray([source] * n), queries, np.arange(n) % per_query == 4)


def join(*parts):
    columns = zip(*([part.x, part.labels, part.sources, part.queries, part.is_random] for part in parts), strict=True)
    return Data(*(np.concatenate(list(each)) for each in columns))


TRAIN = join(make_data("a"), make_data("b", seed=1, sign=-1.0))
TESTS = {"a": make_data("a", seed=2), "b": make_data("b", seed=3, sign=-1.0), "never": make_data("never", seed=4)}
BETTER = dict.fromkeys(TESTS, 0.5)


def test_a_collection_left_out_is_not_learned_from():
    row = judge(Lever("free", kind="free"), TRAIN, TESTS, better=BETTER, epochs=1)
    # Each of the two teaches the opposite of the other, which shows only where the other is judged.
    assert row["left_out_by_file"]["a"] < -0.2
    assert row["left_out_by_file"]["b"] < -0.2
    assert row["left_out_worst"] == min(row["left_out_by_file"].values())
    assert row["margin"] > row["left_out"]


def test_the_same_seed_gives_the_same_head():
    rows = [judge(Lever("one", is_judged_left_out=False), TRAIN, TESTS, better=BETTER, epochs=1) for _ in range(2)]
    assert rows[0] == rows[1]
    assert rows[0]["left_out"] is None


def test_a_margin_is_taken_per_file():
    high = judge(Lever("one", is_judged_left_out=False), TRAIN, TESTS, better=BETTER, epochs=1)
    low = judge(Lever("one", is_judged_left_out=False), TRAIN, TESTS, better=BETTER | {"never": 0.8}, epochs=1)
    assert high["margin"] - low["margin"] == pytest.approx(0.1, abs=2e-4)
    assert high["never_trained"] - low["never_trained"] == pytest.approx(0.3, abs=2e-4)


def test_draws_keep_whole_queries_of_each_source():
    part = queries_share(0.2)(TRAIN, 0)
    assert sorted(set(part.sources.tolist())) == ["a", "b"]
    assert len(set(part.queries.tolist())) == 12
    assert len(part.labels) == 60
    limited = capped(40)(TRAIN, 0)
    assert [int((limited.sources == source).sum()) for source in ("a", "b")] == [40, 40]


def test_every_lever_names_measures_that_exist():
    for lever in (*levers.LEVERS, *levers.CURVE):
        assert set(lever.columns) <= set(NAMES)
    assert len({lever.name for lever in (*levers.LEVERS, *levers.CURVE)}) == len(levers.LEVERS) + len(levers.CURVE)
