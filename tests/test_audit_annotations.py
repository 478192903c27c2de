"""Answers survive kills, undo takes back one action, and the log replays to the same state."""

import json
import os
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit_case import labelled_pairs
from relgrade.audit.annotating import Annotating, StaleCase
from relgrade.audit.annotations import AnnotationLog, read_annotations
from relgrade.audit.cases import draw_sample
from relgrade.audit.guideline import guideline_for
from relgrade.cli import main
from relgrade.errors import InvalidData, InvalidInput, RelgradeError

CASES = draw_sample(labelled_pairs(), n=6, seed=0).cases


def at_work(log, *, annotators=("ann", "bob"), rubric="answer-bearing", cases=CASES):
    return Annotating(cases, guideline_for(rubric), log=log, annotators=annotators)


def answers_of(path):
    return {(each.annotator, each.case): each.answer for each in read_annotations(path)}


def test_answers_go_on_and_undo_goes_back(tmp_path):
    with AnnotationLog(tmp_path / "a.jsonl") as log:
        desk = at_work(log)
        first = desk.state("ann")
        assert (first.n_answered, first.n_cases, first.can_undo, first.case) == (0, 6, False, CASES[0])
        assert desk.answer("ann", CASES[0].case, value=1, seconds=2.0).case == CASES[1]
        assert desk.skip("ann", CASES[1].case).case == CASES[2]
        back = desk.undo("ann")
        assert (back.case, back.n_answered, back.n_skipped) == (CASES[1], 1, 0)
        assert desk.undo("ann").case == CASES[0]
        assert desk.undo("ann").case == CASES[0]
        assert desk.state("bob").n_answered == 0
        desk.answer("ann", CASES[0].case, value=0)
    assert answers_of(tmp_path / "a.jsonl") == {("ann", CASES[0].case): 0}
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 5  # nothing is rewritten


def test_a_csv_of_labels_says_what_makes_answers_of_it_and_that_does(tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "query_id,query,doc_id,document,label,grade,annotator\nq1,what,d1,a,1,3,ann\nq1,what,d2,b,0,,bob\n"
    )
    with pytest.raises(InvalidData, match=r"labels\.csv:1: not JSON.*`relgrade pairs convert` makes them of a csv"):
        read_annotations(labels)
    CliRunner().invoke(main, ["pairs", "convert", str(labels), str(tmp_path / "answers.jsonl")])
    found = [
        (each.query_id, each.doc_id, each.answer, each.scale, each.annotator)
        for each in read_annotations(tmp_path / "answers.jsonl")
    ]
    assert found == [("q1", "d1", 3, "graded", "ann"), ("q1", "d2", 0, "binary", "bob")]
    (tmp_path / "torn.jsonl").write_text("query_id\n")
    with pytest.raises(InvalidData, match=r"torn\.jsonl:1: not JSON: [^;]*$"):
        read_annotations(tmp_path / "torn.jsonl")


def test_skipped_cases_come_back_when_asked_for(tmp_path):
    with AnnotationLog(tmp_path / "a.jsonl") as log:
        desk = at_work(log)
        for i, case in enumerate(CASES):
            state = desk.skip("ann", case.case) if i in (1, 4) else desk.answer("ann", case.case, value=1)
        assert (state.case, state.n_skipped) == (None, 2)
        state = desk.revisit("ann")
        assert (state.case, state.n_skipped, state.n_answered) == (CASES[1], 0, 4)
        desk.answer("ann", CASES[1].case, value=0)
        assert desk.answer("ann", CASES[4].case, value=0).case is None
        for _ in range(2):
            desk.undo("ann")
        assert desk.undo("ann").n_skipped == 2  # the second look itself is taken back


def test_a_key_pressed_twice_answers_one_case(tmp_path):
    with AnnotationLog(tmp_path / "a.jsonl") as log:
        desk = at_work(log)
        desk.answer("ann", CASES[0].case, value=1)
        with pytest.raises(StaleCase):
            desk.answer("ann", CASES[0].case, value=1)
        with pytest.raises(StaleCase):
            desk.skip("ann", "nonsense")
    assert len(answers_of(tmp_path / "a.jsonl")) == 1


def test_the_time_left_is_at_the_persons_own_pace(tmp_path):
    with AnnotationLog(tmp_path / "a.jsonl") as log:
        desk = at_work(log)
        for case in CASES[:5]:
            state = desk.answer("ann", case.case, value=1, seconds=8.0)
        assert state.seconds_left == 8.0
        assert desk.state("bob").seconds_left is None


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=st.lists(st.sampled_from(["0", "1", "skip", "undo", "revisit", "reopen"]), max_size=25))
def test_any_history_replays_to_the_same_state(tmp_path, actions):
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl"
    log = AnnotationLog(path)
    desk = at_work(log)
    for action in actions:
        state = desk.state("ann")
        if action in ("0", "1") and state.case:
            desk.answer("ann", state.case.case, value=int(action))
        elif action == "skip" and state.case:
            desk.skip("ann", state.case.case)
        elif action == "undo":
            desk.undo("ann")
        elif action == "revisit":
            desk.revisit("ann")
        before = desk.state("ann")
        if action == "reopen":
            log.close()
            log = AnnotationLog(path)
            desk = at_work(log)
            assert desk.state("ann") == before
        assert before.n_answered + before.n_skipped + (before.case is not None) <= len(CASES)
    log.close()
    assert len(read_annotations(path)) == desk.state("ann").n_answered


WRITER = """
import sys
from relgrade.audit.annotations import AnnotationLog
from relgrade.audit.cases import Case
with AnnotationLog(sys.argv[1]) as log:
    for i in range(100_000):
        case = Case(case=f"c{i}", query="q", document="d", rubric="r", sample="s" * 200)
        log.append("ann", "answer", case=case, answer=i % 2)
        print(i, flush=True)
"""


def test_kill_9_loses_no_answer_that_was_acknowledged(tmp_path):
    path = tmp_path / "a.jsonl"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    told = [process.stdout.readline() for _ in range(20)]
    os.kill(process.pid, signal.SIGKILL)
    told += process.stdout.readlines()
    process.wait()
    process.stdout.close()
    acknowledged = [int(line) for line in told if line.endswith("\n")]
    answers = read_annotations(path)
    assert len(answers) >= len(acknowledged) >= 20
    assert [each.answer for each in answers] == [i % 2 for i in range(len(answers))]


def test_a_torn_last_line_is_passed_over_and_cut_when_work_goes_on(tmp_path):
    path = tmp_path / "a.jsonl"
    with AnnotationLog(path) as log:
        at_work(log).answer("ann", CASES[0].case, value=1)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"id": 1, "annotator": "ann", "act')
    assert len(read_annotations(path)) == 1
    with AnnotationLog(path) as log:
        assert path.read_bytes() == whole
        at_work(log).answer("ann", CASES[1].case, value=1)
    assert len(read_annotations(path)) == 2


def test_two_commands_cannot_write_one_file(tmp_path):
    with AnnotationLog(tmp_path / "a.jsonl"), pytest.raises(RelgradeError, match=r"another process|in use|lock"):
        AnnotationLog(tmp_path / "a.jsonl")


def test_labels_that_people_gave_elsewhere_are_answers_too(tmp_path):
    path = tmp_path / "gold.jsonl"
    rows = [
        {"query_id": "1", "doc_id": "a", "label": 1},
        {"query_id": "1", "doc_id": "b", "label": 0, "annotator": "eve", "source": "web"},
        {"query_id": "2", "doc_id": "a", "label": 1, "grade": 3},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    one, three, two = read_annotations(path)
    assert (one.annotator, one.answer, one.scale, one.case) == ("people", 1, "binary", None)
    assert (two.annotator, two.answer, two.source) == ("eve", 0, "web")
    assert (three.answer, three.scale) == (3, "graded")


@pytest.mark.parametrize(
    "row",
    [
        "[]",
        '{"action": "answer", "annotator": "", "case": "c", "answer": 1}',
        '{"action": "shrug", "annotator": "a", "case": "c"}',
        '{"action": "answer", "annotator": "a", "case": "c", "answer": 2}',
        '{"action": "answer", "annotator": "a", "case": "c", "answer": true}',
        '{"action": "answer", "annotator": "a", "case": "c", "answer": 4, "scale": "graded"}',
        '{"action": "answer", "annotator": "a", "answer": 1}',
        '{"query_id": "1", "doc_id": "a", "label": 0.5}',
        '{"query_id": "1", "label": 1}',
        "nonsense",
    ],
)
def test_lines_that_are_no_actions_are_named(tmp_path, row):
    path = tmp_path / "a.jsonl"
    path.write_text('{"action": "undo", "annotator": "a"}\n' + row + "\n")
    with pytest.raises(InvalidData) as caught:
        read_annotations(path)
    assert caught.value.line == 2


def test_who_answers_and_on_what_scale_is_checked(tmp_path):
    with AnnotationLog(tmp_path / "a.jsonl") as log:
        for names in ((), ("ann", " ")):
            with pytest.raises(InvalidInput, match="need names"):
                at_work(log, annotators=names)
        desk = at_work(log)
        with pytest.raises(InvalidInput, match="nobody called"):
            desk.state("eve")
        with pytest.raises(InvalidInput, match="no answer on the binary scale"):
            desk.answer("ann", CASES[0].case, value=2)
        desk.answer("ann", CASES[0].case, value=1)
        with pytest.raises(InvalidInput, match="binary answers"):
            at_work(log, rubric="graded-0-3")


def test_a_rubric_without_a_guideline_asks_for_one():
    with pytest.raises(InvalidInput, match="no guideline is known"):
        guideline_for("house-rules")
    assert guideline_for("house-rules", text="Relevant: yes.").scale == "binary"
    assert guideline_for("graded-0-3@2").scale == "graded"
    with pytest.raises(InvalidInput, match="blank"):
        guideline_for("topical", text=" ")


def test_a_full_disk_is_told_and_counts_nothing(tmp_path, monkeypatch):
    with AnnotationLog(tmp_path / "a.jsonl") as log:
        desk = at_work(log)

        def full(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(RelgradeError, match="no space left"):
            desk.answer("ann", CASES[0].case, value=1)
        assert desk.state("ann").n_answered == 0
        monkeypatch.undo()
