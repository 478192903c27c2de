import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_teacher import completion
from relgrade.label.combining import combine
from relgrade.label.journal_schema import Answer
from relgrade.label.replies import UnusableReply, read_json, read_logprobs, read_text, read_usage
from relgrade.label.requests import read_reply
from relgrade.label.rubric import read_rubric
from relgrade.records import Pair

BINARY, GRADED, PASS_FAIL = read_rubric("answer-bearing"), read_rubric("graded-0-3"), read_rubric("pass-fail")
PAIR = Pair(query_id="q", query="what", doc_id="d", document="text")
JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)

# --- logprobs


def test_spellings_of_an_answer_are_summed():
    body = completion(
        "Yes", logprobs={"Yes": math.log(0.4), " yes": math.log(0.2), "YES": math.log(0.1), "No": math.log(0.2)}
    )
    reading = read_logprobs(body, BINARY)
    assert reading.probability == pytest.approx(0.7 / 0.9)
    assert reading.label_mass == pytest.approx(0.9)


def test_the_first_token_that_is_not_blank_counts():
    body = completion("\nYes", logprobs={"x": 0.0})
    blank = {"token": "\n", "top_logprobs": [{"token": "No", "logprob": 0.0}]}
    answer = {
        "token": "Yes",
        "top_logprobs": [{"token": "Yes", "logprob": math.log(0.9)}, {"token": "No", "logprob": math.log(0.1)}],
    }
    body["choices"][0]["logprobs"]["content"] = [blank, answer]
    assert read_logprobs(body, BINARY).probability == pytest.approx(0.9)


def test_grades_by_logprobs():
    body = completion("2", logprobs={"0": math.log(0.1), "1": math.log(0.2), "2": math.log(0.3), "3": math.log(0.4)})
    reading = read_logprobs(body, GRADED)
    assert (reading.grade, reading.probability) == (pytest.approx(2.0), pytest.approx(0.7))


def test_other_words_are_no_answers():
    body = completion("Not", logprobs={"Not": -0.1, "None": -3.0, "Yesterday": -4.0})
    with pytest.raises(UnusableReply) as caught:
        read_logprobs(body, BINARY)
    assert caught.value.kind == "low-mass"


@given(st.lists(st.floats(-20, 0), min_size=2, max_size=2))
def test_the_probability_is_a_softmax_over_the_answers(logprobs):
    yes, no = logprobs
    body = completion("Yes", logprobs={"Yes": yes, "No": no})
    if math.exp(yes) + math.exp(no) < 0.1:
        with pytest.raises(UnusableReply):
            read_logprobs(body, BINARY)
    else:
        assert read_logprobs(body, BINARY).probability == pytest.approx(1 / (1 + math.exp(no - yes)))


# --- words and JSON


@pytest.mark.parametrize(
    ("text", "probability"),
    [
        ("Yes", 1),
        ("no.", 0),
        ("**Yes**", 1),
        ("Yes, the document states it. It does.", 1),
        ("The document does not say.\n\nNo", 0),
        ("Answer: No", 0),
        ("<think>Yes? No? Yes!</think>\nNo", 0),
        ("I would say the answer is yes", 1),
        ("Yes and no", None),
        ("Not at all", None),
        ("The document is good", None),
        ("<think>Yes", None),
        ("", None),
    ],
)
def test_answers_in_words(text, probability):
    if probability is None:
        with pytest.raises(UnusableReply):
            read_text(completion(text), BINARY)
    else:
        assert read_text(completion(text), BINARY).probability == probability


@pytest.mark.parametrize(
    ("text", "probability"),
    [
        ("It says Output: PASS in the text.\nFAIL", 0),
        ("Because of this.\n**PASS**", 1),
        ("PASS", 1),
        ("PASS\nBecause it does", None),
        ("PASS or FAIL", None),
    ],
)
def test_the_verdict_of_the_paper_stands_on_the_last_line(text, probability):
    if probability is None:  # the paper counts such a reply as FAIL
        with pytest.raises(UnusableReply):
            read_text(completion(text), PASS_FAIL)
    else:
        assert read_text(completion(text), PASS_FAIL).probability == probability


@pytest.mark.parametrize(
    ("text", "probability"),
    [
        ('{"answer": "Yes"}', 1),
        ('```json\n{"answer": "no"}\n```', 0),
        ('{"Answer": true}', 1),
        ('{"answer": 0}', 0),
        ("Yes", 1),
        ('{"answer": "maybe"}', None),
        ('{"verdict": "Yes"}', None),
        ('{"answer": "Yes"', 1),
        ('{"answer": ', None),
        ("[1]", None),
    ],
)
def test_answers_in_json(text, probability):
    if probability is None:
        with pytest.raises(UnusableReply):
            read_json(completion(text), BINARY)
    else:
        assert read_json(completion(text), BINARY).probability == probability


@pytest.mark.parametrize(
    ("text", "grade"), [("2", 2), ("Grade: 3", 3), ('{"answer": "1"}', 1), ("7", None), ("2 or 3", None)]
)
def test_grades_in_words(text, grade):
    if grade is None:
        with pytest.raises(UnusableReply):
            read_json(completion(text), GRADED)
    else:
        reading = read_json(completion(text), GRADED)
        assert (reading.grade, reading.probability) == (grade, float(grade >= 2))


def test_why_there_is_no_answer():
    def kind(**values):
        with pytest.raises(UnusableReply) as caught:
            read_text(completion(**values), BINARY)
        return caught.value.kind, str(caught.value)

    assert kind(text="", refusal="no")[0] == "refusal"
    assert kind(text="Yes", finish_reason="content_filter")[0] == "refusal"
    assert "raise max_tokens" in kind(text="", finish_reason="length")[1]


@given(JSON)
def test_whatever_a_server_sends_is_an_answer_or_an_error_that_says_so(value):
    bodies = [value if isinstance(value, dict) else {"choices": value}, {"choices": [value]}, {"answers": value}]
    bodies += [{"choices": [{"message": value}]}, {"choices": [{"message": {"content": value}, "logprobs": value}]}]
    bodies += [{"choices": [{"message": {"content": "Yes"}, "logprobs": {"content": [value]}}]}, {"answers": [value]}]
    bodies += [{"answers": {"relevant": value}}, {"choices": [{"message": {"content": json.dumps(value)}}]}]
    for body in bodies:
        for api, method in [
            ("chat", "logprobs"),
            ("chat", "json_schema"),
            ("chat", "text"),
            ("systemone", "text"),
            ("decisions", "text"),
        ]:
            for rubric in (BINARY, GRADED):
                try:
                    reading = read_reply(body, rubric, api=api, method=method)
                except UnusableReply:
                    continue
                assert 0.0 <= reading.probability <= 1.0
        read_usage({"usage": value})


def test_usage_under_either_name():
    assert read_usage({"usage": {"prompt_tokens": 3, "completion_tokens": 2}}).output_tokens == 2
    assert read_usage({"usage": {"input_tokens": 3}}).input_tokens == 3
    assert read_usage({"usage": {"prompt_tokens": "3"}}) is None
    assert read_usage({}) is None


# --- several answers


def label_of(*probabilities, n_asked=None, rubric=BINARY, grades=(), errors=()):
    answers = [
        Answer(key=str(i), about="a", probability=value, grade=grades[i] if grades else None, label_mass=0.9 - i / 10)
        for i, value in enumerate(probabilities)
    ]
    answers += [Answer(key=f"e{text}", about="a", error=text, kind="refusal") for text in errors]
    return combine(PAIR, answers, rubric=rubric, model="m", n_asked=n_asked or len(answers))


@pytest.mark.parametrize(
    ("probabilities", "label", "disagreement"),
    [
        ((0.9,), 1, None),
        ((0.9, 0.8, 0.1), 1, pytest.approx(2 / 3)),
        ((0.9, 0.2), 1, 1.0),
        ((0.6, 0.1), 0, 1.0),
        ((0.75, 0.25), None, 1.0),
        ((0.5,), 1, None),
        ((0.1, 0.2, 0.3, 0.4), 0, 0.0),
    ],
)
def test_majority_mean_and_disagreement(probabilities, label, disagreement):
    found = label_of(*probabilities)
    assert (found.label, found.disagreement) == (label, disagreement)
    assert found.probability == pytest.approx(sum(probabilities) / len(probabilities))


def test_grades_that_lie_apart_are_a_disagreement_though_the_votes_agree():
    found = label_of(0.0, 0.0, rubric=GRADED, grades=(0.0, 1.0))
    assert (found.disagreement, found.grade) == (pytest.approx(1 / 3), 0.5)


def test_half_of_the_answers_must_be_there():
    assert label_of(0.9, errors=["x"]).error is None
    found = label_of(0.9, errors=["x", "y"])
    assert (found.label, found.probability) == (None, None)
    assert found.error == "1 of 3 answers came; refusal: x"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9), st.randoms())
def test_the_order_of_answers_does_not_matter(probabilities, chance):
    shuffled = list(probabilities)
    chance.shuffle(shuffled)
    first, second = label_of(*probabilities), label_of(*shuffled)
    assert (first.label, first.probability, first.disagreement) == (
        second.label,
        second.probability,
        second.disagreement,
    )
