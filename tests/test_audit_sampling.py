"""The sample is drawn with the chances it states, keeps its limits, and tells annotators nothing."""

import itertools
import json
import stat

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_case import labelled_pairs
from relgrade.audit.cases import (
    draw_sample,
    frame_digest,
    key_path,
    read_cases,
    read_key,
    write_cases,
    write_key,
)
from relgrade.audit.sampling import draw_units, inclusion_probabilities, probability_bins
from relgrade.errors import InvalidData, InvalidInput
from relgrade.records import Pair


@st.composite
def frames(draw):
    seed, n_pairs = draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, 60))
    generator = np.random.default_rng(seed)
    query = np.unique(generator.integers(0, draw(st.integers(1, 20)), n_pairs), return_inverse=True)[1]
    probabilities = generator.random(n_pairs) ** draw(st.sampled_from([0.3, 1.0, 6.0]))
    per_query = draw(st.integers(1, 5))
    n = draw(st.integers(1, int(np.minimum(np.bincount(query), per_query).sum())))
    return probabilities, query, n, per_query, generator


@settings(deadline=None)
@given(frames())
def test_a_draw_has_its_size_and_no_query_gives_too_many(frame):
    probabilities, query, n, per_query, generator = frame
    disagreement = generator.random(query.size)
    chances = inclusion_probabilities(probabilities, query, n=n, per_query=per_query, disagreement=disagreement)
    assert chances.sum() == pytest.approx(n)
    assert chances.min() > 0.0
    assert chances.max() <= 1.0
    drawn = draw_units(chances, query, probability_bins(probabilities), generator=generator)
    assert len(set(drawn.tolist())) == drawn.size == n
    assert np.bincount(query[drawn]).max() <= per_query


def test_each_pair_is_drawn_as_often_as_its_chance_says():
    generator = np.random.default_rng(7)
    query = np.repeat(np.arange(6), [1, 2, 3, 4, 6, 8])
    probabilities = generator.random(24)
    chances = inclusion_probabilities(probabilities, query, n=9, per_query=2)
    assert np.ptp(chances) > 0.2  # or the test could not tell
    n_draws, counts = 4000, np.zeros(24)
    for _ in range(n_draws):
        counts[draw_units(chances, query, probability_bins(probabilities), generator=generator)] += 1
    errors = (counts / n_draws - chances) / np.sqrt(np.maximum(chances * (1 - chances), 1e-9) / n_draws)
    assert np.abs(errors).max() < 4.5


def test_estimates_from_weighted_draws_are_unbiased():
    generator = np.random.default_rng(3)
    query, probabilities = np.repeat(np.arange(50), 6), generator.random(300) ** 3
    values = (generator.random(300) < probabilities).astype(float)
    chances = inclusion_probabilities(probabilities, query, n=40, per_query=2)
    totals = []
    for _ in range(1500):
        drawn = draw_units(chances, query, probability_bins(probabilities), generator=generator)
        totals.append((values[drawn] / chances[drawn]).sum())
    spread = np.std(totals) / np.sqrt(len(totals))
    assert abs(np.mean(totals) - values.sum()) < 4 * spread


def test_rare_bins_and_disagreement_are_drawn_more():
    query = np.arange(1100)
    probabilities = np.concatenate([np.full(1000, 0.02), np.full(100, 0.5)])
    disagreement = np.zeros(1100)
    disagreement[:100] = 1.0
    chances = inclusion_probabilities(probabilities, query, n=100, per_query=1, disagreement=disagreement)
    assert chances[-1] > 2 * chances[500]
    assert chances[0] == pytest.approx(5 * chances[500])


@pytest.mark.parametrize(
    ("n", "per_query", "probabilities", "message"),
    [
        (5, 1, [0.1, 0.2, 0.3], "2 can be drawn"),
        (0, 1, [0.1, 0.2, 0.3], "n >= 1"),
        (1, 0, [0.1, 0.2, 0.3], "per_query >= 1"),
        (1, 1, [0.1, 0.2, float("nan")], "lie in"),
        (1, 1, [], "0 pairs"),
    ],
)
def test_what_cannot_be_drawn_is_refused(n, per_query, probabilities, message):
    query = np.asarray([0, 0, 1])[: len(probabilities)]
    with pytest.raises(InvalidInput, match=message):
        inclusion_probabilities(np.asarray(probabilities), query, n=n, per_query=per_query)


def test_the_same_seed_draws_the_same_sample_and_another_another():
    pairs = labelled_pairs()
    assert draw_sample(pairs, n=20, seed=4) == draw_sample(pairs, n=20, seed=4)
    assert draw_sample(pairs, n=20, seed=4).key.entries != draw_sample(pairs, n=20, seed=5).key.entries


def test_the_file_of_the_annotator_says_nothing_of_the_teacher(tmp_path):
    pairs = labelled_pairs(model="oracle-405b", disagreement=0.5)
    sample = draw_sample(pairs, n=80, seed=0)
    write_cases(tmp_path / "s.jsonl", sample.cases)
    rows = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert {name for row in rows for name in row} == {"case", "query", "document", "rubric", "sample"}
    # Nor does the order: the cases of one query stand together, queries in random order.
    place = {pair.document: pair.label for pair in pairs}
    labels = [place[row["document"]] for row in rows]
    assert abs(np.corrcoef(labels, np.arange(80))[0, 1]) < 0.3
    queries = [row["query"] for row in rows]
    assert len(set(queries)) < 40
    assert sum(one != two for one, two in itertools.pairwise(queries)) == len(set(queries)) - 1


def test_the_key_knows_everything_and_is_its_owners_alone(tmp_path):
    pairs = [*labelled_pairs(), Pair(query_id="q", query="x", doc_id="d", document="y")]
    sample = draw_sample(pairs, n=20, seed=0, per_query=2)
    path = key_path(tmp_path / "s.jsonl")
    write_key(path, sample.key)
    assert path.name == "s.key.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_key(path) == sample.key
    assert (sample.key.n_pairs, sample.key.n_queries, sample.key.n_unlabelled) == (180, 30, 1)
    by_name = {(pair.query_id, pair.doc_id): pair for pair in pairs}
    for case, entry in zip(sample.cases, sample.key.entries, strict=True):
        pair = by_name[entry.query_id, entry.doc_id]
        assert (case.case, case.document, entry.label) == (entry.case, pair.document, pair.label)


def test_cases_survive_the_file(tmp_path):
    pairs = labelled_pairs()
    odd = Pair(query_id="odd", query="\u202eq <script>", doc_id="d", document="line\n\u2028 </script>\x1b", label=0.5)
    sample = draw_sample([*pairs, odd], n=181, seed=0, per_query=9)
    write_cases(tmp_path / "s.jsonl", sample.cases)
    assert read_cases(tmp_path / "s.jsonl") == sample.cases


def test_the_rubric_comes_from_the_labels():
    assert draw_sample(labelled_pairs(rubric="topical"), n=5, seed=0).key.rubric == "topical"
    assert draw_sample(labelled_pairs(rubric="topical"), n=5, seed=0, rubric="mine").cases[0].rubric == "mine"
    mixed = [*labelled_pairs(rubric="topical"), *labelled_pairs(rubric="answer-bearing")]
    with pytest.raises(InvalidInput, match="several rubrics"):
        draw_sample(mixed, n=5, seed=0)


@pytest.mark.parametrize("value", [1.5, "much", True])
def test_a_disagreement_out_of_range_is_refused(value):
    with pytest.raises(InvalidInput, match="disagreement lies in"):
        draw_sample(labelled_pairs(disagreement=value), n=5, seed=0)


def test_nothing_labelled_is_nothing_to_audit():
    with pytest.raises(InvalidInput, match="label them first"):
        draw_sample([Pair(query_id="q", query="x", doc_id="d", document="y")], n=1, seed=0)


def test_the_digest_of_a_frame_knows_ids_and_nothing_else():
    pairs = labelled_pairs()
    assert frame_digest(pairs) == frame_digest(list(reversed(labelled_pairs(share_wrong=0.9))))
    assert frame_digest(pairs) != frame_digest(pairs[1:])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no cases"),
        ('{"case": "a"}', "wrong here: query, document"),
        ('{"case": "a", "query": "q", "document": "d", "rubric": 3}', "wrong here: rubric"),
        ("[]", "a JSON object"),
        ("\n".join(['{"case": "a", "query": "q", "document": "d", "rubric": "r"}'] * 2), "stands twice"),
    ],
)
def test_other_files_are_no_samples(tmp_path, text, message):
    (tmp_path / "s.jsonl").write_text(text)
    with pytest.raises(InvalidData, match=message):
        read_cases(tmp_path / "s.jsonl")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 2}', '{"schema": 1, "entries": [{}]}'])
def test_other_files_are_no_keys(tmp_path, text):
    (tmp_path / "k.json").write_text(text)
    with pytest.raises(InvalidData, match=r"key"):
        read_key(tmp_path / "k.json")
    with pytest.raises(InvalidData, match="no such file"):
        read_key(tmp_path / "absent.json")
