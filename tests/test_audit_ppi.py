"""Prediction-powered shares: worked by hand, invariances, and coverage by simulation."""

from dataclasses import replace

import numpy as np
import pytest
from benchmarks.ppi_coverage import WORLDS, audit, main, make_population, simulate
from hypothesis import given, settings
from hypothesis import strategies as st

from relgrade.audit.ppi import Audited, share_found, share_relevant
from relgrade.errors import InvalidInput, UndefinedMeasure


def audited(**changes):
    base = {
        "teacher": np.asarray([0.9, 0.8, 0.2, 0.1, 0.9, 0.1]),
        "query": np.asarray([0, 0, 1, 1, 2, 2]),
        "judged": np.asarray([0, 2, 4]),
        "people": np.asarray([1.0, 1.0, 0.0]),
        "weights": np.asarray([2.0, 2.0, 1.0]),
    }
    return Audited(**{**base, **changes})


def test_the_estimate_is_the_formula():
    share = share_relevant(audited(), power=1.0)
    # mean(teacher) = 0.5; weighted mean of (people - teacher) = (2 * 0.1 + 2 * 0.8 - 0.9) / 5 = 0.18.
    assert share.corrected.value == pytest.approx(0.68)
    assert share.people_alone.value == pytest.approx(4 / 5)
    assert share.teacher_alone == pytest.approx(0.5)
    assert (share.n_misses, share.is_thin) == (2, True)
    assert (share.corrected.n_queries, share.corrected.n_pairs) == (3, 3)


def test_half_the_power_is_half_way():
    values = [share_relevant(audited(), power=power).corrected.value for power in (0.0, 0.5, 1.0)]
    assert values[1] == pytest.approx((values[0] + values[2]) / 2)


def test_without_a_choice_the_power_is_that_of_the_narrowest_interval():
    generator = np.random.default_rng(5)
    found = audit(WORLDS[0], make_population(WORLDS[0], n_queries=400, generator=generator), generator=generator)
    best = share_relevant(found)
    assert 0.0 < best.power <= 1.0
    for power in np.linspace(0.0, 1.0, 11):
        assert share_relevant(found, power=power).corrected.half_width >= best.corrected.half_width - 1e-12
    assert best.corrected.half_width < best.people_alone.half_width


def test_a_teacher_that_is_always_right_needs_few_people():
    generator = np.random.default_rng(1)
    population = make_population(WORLDS[0], n_queries=400, generator=generator)
    right = replace(audit(WORLDS[0], population, generator=generator), teacher=population.is_relevant.astype(float))
    share = share_relevant(right)
    assert share.corrected.value == pytest.approx(population.is_relevant.mean(), abs=0.02)
    assert share.corrected.half_width < share.people_alone.half_width / 1.5
    assert share.n_misses == 0
    assert share.is_thin


def test_a_useless_teacher_costs_nothing():
    generator = np.random.default_rng(1)
    found = audit(WORLDS[0], make_population(WORLDS[0], n_queries=400, generator=generator), generator=generator)
    useless = share_relevant(replace(found, teacher=generator.random(found.teacher.size)))
    assert useless.power < 0.3
    assert useless.corrected.half_width <= useless.people_alone.half_width


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 50.0))
def test_order_scale_of_weights_and_names_of_queries_do_not_matter(seed, scale):
    generator = np.random.default_rng(seed)
    n, judged = 40, generator.permutation(40)[:15]
    base = Audited(
        teacher=generator.random(n),
        query=generator.integers(0, 8, n),
        judged=judged,
        people=generator.integers(0, 2, 15).astype(float),
        weights=generator.uniform(1.0, 9.0, 15),
    )
    order, places = generator.permutation(n), np.empty(n, dtype=int)
    places[order] = np.arange(n)
    other = Audited(
        teacher=base.teacher[order],
        query=generator.permutation(8)[base.query[order]],
        judged=places[judged][::-1],
        people=base.people[::-1],
        weights=base.weights[::-1] * scale,
    )
    one, two = share_relevant(base), share_relevant(other)
    for name in ("value", "low", "high"):
        assert getattr(two.corrected, name) == pytest.approx(getattr(one.corrected, name), abs=1e-9)
    assert 0.0 <= one.corrected.low <= one.corrected.value <= one.corrected.high <= 1.0


def test_pairs_that_err_together_widen_the_interval():
    generator = np.random.default_rng(2)
    query, judged = np.repeat(np.arange(40), 10), np.arange(400)
    people = (generator.random(40) < 0.5)[query].astype(float)
    base = audited(teacher=np.full(400, 0.5), query=query, judged=judged, people=people, weights=np.ones(400))
    alone = replace(base, query=np.arange(400))
    assert share_relevant(base).corrected.half_width > 2.5 * share_relevant(alone).corrected.half_width


def test_a_domain_and_the_share_found_agree_with_what_is_counted():
    everyone = np.arange(6)
    people = np.asarray([1.0, 0.0, 1.0, 0.0, 1.0, 0.0])
    full = audited(judged=everyone, people=people, weights=np.ones(6))
    kept = np.asarray([True, True, False, False, True, True])
    assert share_relevant(full.among(kept)).corrected.value == pytest.approx(2 / 4)
    assert share_found(full, kept).corrected.value == pytest.approx(2 / 3)
    assert share_found(full, kept).teacher_alone == pytest.approx(2.7 / 3.0)
    everything = share_found(audited(), np.ones(6, dtype=bool)).corrected
    assert (everything.low, everything.value, everything.high) == pytest.approx((1.0, 1.0, 1.0))  # whatever was drawn


def test_what_has_no_answer_says_so():
    with pytest.raises(UndefinedMeasure, match="judged none"):
        share_relevant(audited().among(np.asarray([False, True, False, False, False, False])))
    nothing = audited(people=np.zeros(3), teacher=np.zeros(6))
    with pytest.raises(UndefinedMeasure, match="nothing seems relevant"):
        share_found(nothing, np.ones(6, dtype=bool))
    one_query = audited(judged=np.asarray([0, 1]), people=np.ones(2), weights=np.ones(2))
    assert share_relevant(one_query).corrected.low is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"judged": np.asarray([0, 0, 4])}, "stands twice"),
        ({"weights": np.asarray([1.0, 0.0, 1.0])}, "above 0"),
        ({"people": np.ones(2)}, "one a judged pair"),
        ({"query": np.zeros(5, dtype=int)}, "one entry a pair"),
    ],
)
def test_arguments_are_checked(changes, message):
    with pytest.raises(InvalidInput, match=message):
        audited(**changes)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    # 2,000 draws of each world are in benchmarks/results/ppi_coverage.json; 150 show that nothing broke.
    world = replace(WORLDS[0], n_queries=150, n_judged=200)
    found = simulate(world, n_draws=150, seed=3)
    for share in (*found["coverage"].values(), *found["coverage_people_alone"].values()):
        assert 0.89 <= share <= 1.0  # 95 % +- 3.4 standard errors
    assert found["coverage_naive_prevalence"] < 0.93
    assert all(abs(bias) < 0.015 for bias in found["bias"].values())
    assert found["mean_width"]["prevalence"] < found["mean_width_people_alone"]["prevalence"]


def test_the_benchmark_writes_its_numbers(tmp_path, capsys):
    import json

    assert main(["--draws", "2", "--output", str(tmp_path / "a.json")]) == 0
    written = json.loads((tmp_path / "a.json").read_text())
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == written
    assert [each["world"]["name"] for each in written["worlds"]] == [world.name for world in WORLDS]
