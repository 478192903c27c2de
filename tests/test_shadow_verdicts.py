import json

import pytest

from relgrade.errors import InvalidData, InvalidSettings
from relgrade.shadow import LogSettings, parse_verdict, read_log

PROMPT = "Retrieved document: \n\n {} \n\n User question: {}"  # of the published corrective graph
AGENTIC = (
    "You are a grader assessing relevance.\n Here is the retrieved document: \n\n {} \n\n"
    "Here is the user question: {} \nIf the document contains keyword(s), grade it as relevant. Give 'yes' or 'no'."
)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path, **settings):
    return list(read_log(path, LogSettings(**settings)))


# --- what a verdict is


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        *[(value, True) for value in (True, 1, 1.0, "yes", " Yes. ", "**YES**", "relevant", '{"binary_score": "yes"}')],
        *[(value, False) for value in (False, 0, "no", "NOT RELEVANT", "irrelevant", {"binary_score": "no"}, "fail")],
        ({"output": {"grade": {"score": "yes"}}}, True),
        ("The document names the slot. Answer: yes", True),
        ("It is not relevant to the question.", False),
        ("Yes, it mentions disks, but it does not answer.\nFinal: no", False),
        ('Here it is: {"binary_score": "no"} as asked', False),
        *[(value, None) for value in (None, "", "perhaps", 2, 0.7, [], {}, "yes and no", {"text": "yes"}, "{")],
    ],
)
def test_verdicts_are_read_in_their_many_forms(value, verdict):
    assert parse_verdict(value) is verdict


def test_nesting_without_end_is_no_verdict():
    value = "yes"
    for _ in range(50):
        value = {"output": value}
    assert parse_verdict(value) is None


# --- tables


def test_a_table_of_csv(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(
        "query,document,llm,latency_ms,prompt_tokens,completion_tokens,cost\n"
        'red apple,"a red, ripe apple",yes,850,120,3,0.0001\nred apple,sea,0,,,,\n',
        encoding="utf-8",
    )
    first, second = read(path)
    assert (first.query, first.document, first.is_relevant) == ("red apple", "a red, ripe apple", True)
    assert (first.latency_s, first.input_tokens, first.output_tokens, first.cost) == (0.85, 120, 3, 0.0001)
    assert second.is_relevant is False
    assert (second.latency_s, second.input_tokens, second.cost) == (None, None, None)
    assert first.query_id == second.query_id
    assert first.doc_id != second.doc_id


def test_a_field_may_be_named_and_what_cannot_be_read_is_kept_as_such(tmp_path):
    rows = [{"question": "q", "text": "d", "id": 7, "mine": "dunno", "verdict": "yes"}]
    (found,) = read(write(tmp_path / "log.jsonl", rows), verdict_field="mine")
    assert (found.is_relevant, found.reply, found.doc_id) == (None, "dunno", "7")


def test_lines_without_a_pair_or_a_verdict_are_errors_that_name_their_line(tmp_path):
    path = write(
        tmp_path / "log.jsonl", [{"query": "q", "document": "d"}, {"query": "", "document": "d", "verdict": 1}]
    )
    path.write_text(path.read_text(encoding="utf-8") + "{torn\n", encoding="utf-8")
    found = read(path)
    assert [type(each) for each in found] == [InvalidData] * 3
    assert [each.line for each in found] == [1, 2, 3]
    assert "no verdict" in str(found[0])


# --- traces


def run(question, document, answer, **more):
    return {
        "id": more.pop("id", None),
        "run_type": "chain",
        "name": "RunnableSequence",
        "inputs": {"question": question, "document": document},
        "outputs": None if answer is None else {"binary_score": answer},
        "start_time": "2026-01-01T00:00:00.000000",
        "end_time": "2026-01-01T00:00:01.500000",
        **more,
    }


def test_traces_with_their_children_inside(tmp_path):
    serialised = {"lc": 1, "type": "constructor", "kwargs": {"page_content": "d2", "id": "two", "metadata": {}}}
    graded = [
        run("q", "d1", "yes", prompt_tokens=90, completion_tokens=5, total_cost=0.002),
        run("q", serialised, "no", extra={"metadata": {"ls_model_name": "m"}}),
        run("q", "d3", None, error="rate limit"),
    ]
    graded[0]["child_runs"] = [run("q", "d1", "yes")]  # the same call, one level down
    graded[1]["child_runs"] = [{"run_type": "prompt", "inputs": {"question": "q", "document": "d2"}, "outputs": {}}]
    root = {"run_type": "chain", "name": "LangGraph", "inputs": {"question": "q"}, "outputs": {}, "child_runs": graded}
    first, second, third = read(write(tmp_path / "runs.jsonl", [root]))
    assert (first.is_relevant, first.latency_s, first.input_tokens, first.cost) == (True, 1.5, 90, 0.002)
    assert (second.is_relevant, second.document, second.doc_id, second.model) == (False, "d2", "two", "m")
    assert (third.is_relevant, third.reply) == (None, "rate limit")


def test_traces_with_their_parents_named(tmp_path):
    rows = [
        run("q", "d1", "yes", id="child", parent_run_id="middle"),  # before its parents
        {"id": "middle", "parent_run_id": "outer", "run_type": "chain", "inputs": {}, "outputs": {}},
        run("q", "d1", "yes", id="outer", parent_run_id="root"),
        run("q", "d2", "no", id="other", parent_run_id="root"),
    ]
    assert [(each.document, each.is_relevant) for each in read(write(tmp_path / "runs.jsonl", rows))] == [
        ("d1", True),
        ("d2", False),
    ]


# --- chat logs


def reply(content=None, *, call=None):
    message = {"role": "assistant", "content": content}
    if call is not None:
        message["tool_calls"] = [{"type": "function", "function": {"name": "grade", "arguments": call}}]
    usage = {"prompt_tokens": 200, "completion_tokens": 4}
    return {"model": "m", "choices": [{"index": 0, "message": message}], "usage": usage}


def asked(text):
    return {"model": "m", "messages": [{"role": "system", "content": "Grade."}, {"role": "user", "content": text}]}


def test_requests_with_their_responses(tmp_path):
    rows = [
        {
            "request": asked(PROMPT.format("a red apple", "red apple?")),
            "response": reply('{"binary_score": "yes"}'),
            "latency_ms": 400,
        },
        {**asked(AGENTIC.format("the sea", "red apple?")), "response": reply(call='{"binary_score":"no"}')},
        {"input": asked("QUESTION: red apple?, DOCUMENTS: an apple\nred"), "output": reply("PASS")},
        {"request": asked(PROMPT.format("x", "red apple?")), "response": {"error": {"code": 429}}, "error": "busy"},
    ]
    found = read(write(tmp_path / "chats.jsonl", rows), kind="openai")
    assert [each.document for each in found] == ["a red apple", "the sea", "an apple\nred", "x"]
    assert {each.query for each in found} == {"red apple?"}
    assert [each.is_relevant for each in found] == [True, False, True, None]
    assert (found[0].latency_s, found[0].input_tokens, found[0].model) == (0.4, 200, "m")
    assert found[3].reply == "busy"


def test_a_batch_is_joined_to_its_input(tmp_path):
    requests = [{"custom_id": "a", "method": "POST", "body": asked(PROMPT.format("d", "q"))}]
    outputs = [
        {"custom_id": "a", "response": {"status_code": 200, "body": reply("no")}},
        {"custom_id": "lost", "response": {"status_code": 200, "body": reply("no")}},
    ]
    write(tmp_path / "in.jsonl", requests)
    found, lost = read(write(tmp_path / "out.jsonl", outputs), requests=tmp_path / "in.jsonl")
    assert (found.query, found.document, found.is_relevant) == ("q", "d", False)
    assert isinstance(lost, InvalidData)
    assert "batch input" in str(lost)


def test_a_prompt_of_ones_own_needs_a_pattern(tmp_path):
    path = write(tmp_path / "chats.jsonl", [{"request": asked("<d>sea</d><q>blue?</q>"), "response": reply("yes")}])
    assert "name a `pattern`" in str(read(path)[0])
    (found,) = read(path, pattern=r"(?s)<d>(?P<document>.*)</d><q>(?P<query>.*)</q>")
    assert (found.query, found.document) == ("blue?", "sea")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "xml"}, "kind is one of auto, table, langgraph, openai"),
        ({"pattern": "("}, "not a regular expression"),
        ({"pattern": "(?P<query>.*)"}, "the groups"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(InvalidSettings, match=message):
        LogSettings(**settings)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InvalidData, match="cannot be read"):
        read(tmp_path / "nowhere.jsonl")
