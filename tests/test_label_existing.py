import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relgrade.errors import InvalidData
from relgrade.label.existing import parse_word, read_label_studio, read_worded


@pytest.fixture
def problems():
    return []


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("yes", 1),
        ("No.", 0),
        ("PASS", 1),
        ("Not relevant", 0),
        (True, 1),
        (0, 0),
        (0.25, 0.25),
        ("1", 1),
        ('{"binary_score": "yes"}', 1),
        ({"score": "no"}, 0),
        ({"binary_score": {"a": 1}}, None),
        ("maybe", None),
        ("", None),
        (None, None),
        (2, None),
        ("yes and no", None),
        ([1], None),
    ],
)
def test_words_for_labels(value, number):
    assert parse_word(value) == number


@given(st.text())
def test_any_text_is_yes_no_a_share_or_nothing(text):
    found = parse_word(text)
    assert found is None or 0.0 <= found <= 1.0


def test_a_table_with_words(tmp_path, problems):
    path = tmp_path / "t.csv"
    path.write_text("query,document,relevance\nwhat,one,yes\nwhat,two,no\nwhat,three,hm\nwhat,four,\n")
    pairs = list(read_worded(path, on_problem=problems.append))
    assert [(pair.document, pair.label) for pair in pairs] == [("one", 1), ("two", 0)]
    assert [problem.line for problem in problems] == [4, 5]


def test_a_log_of_a_yes_no_grader(tmp_path, problems):
    rows = [
        {"question": "what", "document": {"page_content": "one", "metadata": {"page": 3}}, "binary_score": "yes"},
        {"question": "what", "context": "two", "score": {"binary_score": "no"}, "run": 7},
        {"question": "what", "document": "three", "grade": "I think so"},
        {"document": "no question", "grade": "yes"},
    ]
    pairs = list(read_worded(write_jsonl(tmp_path / "log.jsonl", rows), on_problem=problems.append))
    assert [(pair.query, pair.document, pair.label) for pair in pairs] == [("what", "one", 1), ("what", "two", 0)]
    assert pairs[0].fields["document_fields"] == {"page": 3}
    assert pairs[1].fields["run"] == 7
    assert len(problems) == 2


def test_several_answers_become_their_mean(tmp_path, problems):
    rows = [{"query": "q", "document": "d", "label": word} for word in ("yes", "yes", "no", "?")]
    (pair,) = read_worded(write_jsonl(tmp_path / "l.jsonl", rows), on_problem=problems.append)
    assert (pair.label, pair.fields["n_samples"]) == (2 / 3, 3)
    assert pair.fields["disagreement"] == pytest.approx(2 / 3)


def task(document, *choices, **data):
    annotations = [
        {
            "result": [{"from_name": "relevance", "type": "choices", "value": {"choices": [choice]}}],
            "was_cancelled": False,
        }
        for choice in choices
    ]
    return {"id": 1, "data": {"query": "what", "document": document, **data}, "annotations": annotations}


def test_a_label_studio_export(tmp_path, problems):
    cancelled = task("three", "Relevant")
    cancelled["annotations"][0]["was_cancelled"] = True
    tasks = [
        task("one", "Relevant", "Not relevant", doc_id="d1"),
        task("two", "Relevant"),
        task("four", "Perhaps"),
        cancelled,
    ]
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks))
    pairs = list(read_label_studio(path, on_problem=problems.append))
    assert [(pair.document, pair.label) for pair in pairs] == [("one", 0.5), ("two", 1)]
    assert (pairs[0].doc_id, pairs[0].fields["disagreement"]) == ("d1", 1.0)
    assert [problem.line for problem in problems] == [3, 4]


def test_a_label_studio_export_in_short_form(tmp_path, problems):
    path = tmp_path / "min.json"
    path.write_text(
        json.dumps([{"query": "what", "document": "one", "relevance": "Relevant", "annotator": 1, "id": 4}])
    )
    (pair,) = read_label_studio(path, on_problem=problems.append)
    assert (pair.label, pair.fields["annotator"], problems) == (1, 1, [])


@pytest.mark.parametrize("text", ["{", '{"a": 1}', ""])
def test_what_is_no_export(tmp_path, problems, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InvalidData):
        list(read_label_studio(path, on_problem=problems.append))


def test_odd_tasks_are_reported(tmp_path, problems):
    path = tmp_path / "x.json"
    path.write_text(json.dumps([1, {}, {"data": {}}, {"data": {"query": "q", "document": "d"}, "annotations": [{}]}]))
    assert list(read_label_studio(path, on_problem=problems.append)) == []
    assert problems
