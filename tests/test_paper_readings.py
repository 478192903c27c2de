"""What a row's logits and replies are read as: every rule by hand, on pairs whose numbers are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paper_case import settings_of, write_data
from relgrade.paper import readings
from relgrade.paper.prompted import read_reply
from relgrade.paper.readings import Reply, lowest_threshold, replied_readings, trained_readings
from relgrade.paper.samples import is_relevant, pair_key, read_samples


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    data = write_data(tmp_path_factory.mktemp("data"))
    return settings_of(data, "unused", [{"name": "c", "method": "C"}])


@pytest.fixture(scope="module")
def samples(table):
    return read_samples(table)


def logits_for(samples, right, wrong):
    """`right` for relevant pairs, `wrong` for the others, a little apart."""
    judged = samples.judged()
    values = np.where(is_relevant(judged), right, wrong) + np.linspace(-0.1, 0.1, len(judged))
    return dict(zip(map(pair_key, judged), values.tolist(), strict=True))


def by_rule(found):
    return {each["rule"]: each for each in found}


def test_a_shift_of_training_hides_what_is_known_until_it_is_taken_off(samples, table):
    found = by_rule(trained_readings(samples, logits_for(samples, 3.0, 1.0), table, prior_shift=2.0))
    assert found[readings.ARGMAX]["recall"]["value"] == 1.0
    assert found[readings.ARGMAX]["precision"]["value"] == pytest.approx(12 / 40)
    for rule in (readings.PRIOR, readings.BEST_F1):
        assert found[rule]["f1"]["value"] == 1.0
    assert found[readings.PRIOR]["brier"]["value"] < found[readings.ARGMAX]["brier"]["value"]
    assert found[readings.BASE_RATE]["precision"]["value"] == 1.0


def test_without_a_shift_there_is_nothing_to_correct(samples, table):
    found = by_rule(trained_readings(samples, logits_for(samples, 2.0, -2.0), table, prior_shift=0.0))
    assert readings.PRIOR not in found
    assert {"accuracy", "precision", "recall", "f1", "average_precision", "kappa", "brier", "ece"} <= set(
        found[readings.ARGMAX]
    )
    assert found[readings.ARGMAX]["kappa"] == {"value": 1.0, "low": 1.0, "high": 1.0, "reason": None}


def test_a_model_that_knows_nothing_is_measured_too(samples, table):
    found = by_rule(
        trained_readings(samples, dict.fromkeys(map(pair_key, samples.judged()), 0.0), table, prior_shift=0.0)
    )
    assert found[readings.PRECISION]["precision"]["value"] is None
    assert found[readings.ARGMAX]["average_precision"]["value"] == pytest.approx(12 / 40)


def test_replies_that_do_not_parse_are_a_third_state_and_a_second_column(samples, table):
    replies = {}
    for number, pair in enumerate(samples.tested()):
        said = None if number % 4 == 0 else bool(pair.label)
        replies[pair_key(pair)] = Reply(said, "", 0.5)
    found = by_rule(replied_readings(samples, replies, table, has_probabilities=True))
    n_hidden = sum(int(pair.label) for pair in samples.tested()[::4])
    assert found[readings.PARSED]["f1"]["value"] == 1.0
    assert found[readings.PARSED]["n_pairs"] == 30
    assert found[readings.AS_FAIL]["n_unparsed"] == 10
    assert found[readings.AS_FAIL]["recall"]["value"] == pytest.approx(1 - n_hidden / 12, abs=1e-4)
    assert found[readings.AS_FAIL]["average_precision"] is None
    assert found[readings.ARGMAX]["recall"]["value"] == 1.0


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("PASS", True),
        (" **fail**.", False),
        ("Fail: it says nothing", False),
        ("PASS or FAIL", None),
        ("", None),
        ("PASSED", None),
        ("The answer", None),
    ],
)
def test_a_reply_parses_when_one_of_the_words_stands_in_it(text, verdict):
    assert read_reply({"text": text, "logit": 0.0}).verdict is verdict


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=40), st.floats(0.1, 0.95))
def test_the_lowest_threshold_keeps_its_precision_and_none_lower_does(rows, target):
    p, labels = np.array([value / 5 for value, _ in rows]), np.array([label for _, label in rows])
    found = lowest_threshold(p, labels, min_precision=target)
    good = [t for t in np.unique(p) if labels[p >= t].any() and labels[p >= t].mean() >= target - 1e-12]
    assert found == (min(good) if good else None)
