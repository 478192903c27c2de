import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from benchmarks import label_faults

from fake_teacher import FakeTeacher, Judge, Reply, completion
from relgrade.errors import InvalidData, OutputError
from relgrade.formats import read_pairs
from relgrade.label import journal as journal_module
from relgrade.label.estimating import estimate
from relgrade.label.journal import Journal
from relgrade.label.journal_schema import Answer, Exported, Totals
from relgrade.label.labelling import label_pairs
from relgrade.label.limits import Limits
from relgrade.label.output import errors_path_for, write_labels
from relgrade.label.plan import Plan
from relgrade.label.rubric import read_rubric
from relgrade.label.teacher import Price, Teacher
from relgrade.records import Pair

PAID = Totals(requests=1, input_tokens=10, output_tokens=1, cost=0.5)


def answer(key, **values):
    return Answer(**{"key": key, "about": "a", "probability": 0.5, "method": "text", **values})


def make_pairs(n):
    return [Pair(query_id="q", query="what", doc_id=f"d{i}", document=f"t{i} {'answer' * (i % 2)}") for i in range(n)]


def make_plan(url, **limits):
    return Plan(read_rubric("answer-bearing"), (Teacher(url=url, model="m"),), limits=Limits(**limits))


# --- claims


def test_a_key_is_claimed_once(tmp_path):
    with Journal(tmp_path / "j") as one, Journal(tmp_path / "j") as two:
        assert one.claim(["a", "b"]).mine == {"a", "b"}
        found = two.claim(["b", "c"])
        assert (found.mine, found.elsewhere) == ({"c"}, {"b"})
        one.release(["b"])
        assert two.claim(["b"]).mine == {"b"}
        one.commit(answer("a"), spent=PAID)
        assert two.claim(["a"]).done == {"a"}


def test_claims_of_a_closed_journal_are_free(tmp_path):
    with Journal(tmp_path / "j") as one:
        one.claim(["a"])
    with Journal(tmp_path / "j") as two:
        assert two.claim(["a"]).mine == {"a"}


def test_claims_of_a_process_that_was_killed_are_free_at_once(tmp_path):
    code = f"""
import os, signal
from relgrade.label.journal import Journal
Journal({str(tmp_path / "j")!r}).claim(["a"])
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    with Journal(tmp_path / "j") as mine:
        assert mine.claim(["a"]).mine == {"a"}


def test_claims_of_another_machine_are_free_after_its_silence(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module.socket, "gethostname", lambda: "elsewhere")
    far = Journal(tmp_path / "j")
    far.claim(["a"])
    monkeypatch.undo()
    with Journal(tmp_path / "j") as mine:
        assert mine.claim(["a"]).elsewhere == {"a"}
        monkeypatch.setattr(journal_module, "STALE_S", 0.05)
        time.sleep(0.1)
        assert mine.claim(["a"]).mine == {"a"}
        # It lives after all, and answers: the first answer stands.
        assert mine.commit(answer("a", probability=0.9), spent=PAID)
        assert not far.commit(answer("a", probability=0.1), spent=PAID)
        assert mine.answers(["a"])["a"].probability == 0.9
        assert mine.totals().requests == 2, "both were paid"
    far.close()


def test_a_heartbeat_keeps_claims(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "STALE_S", 0.3)
    with Journal(tmp_path / "j") as one, Journal(tmp_path / "j") as two:
        one.claim(["a"])
        for _ in range(4):
            time.sleep(0.1)
            one.beat()
        assert two.claim(["a"]).elsewhere == {"a"}


def test_failures_are_asked_again_and_forgotten_with_an_answer(tmp_path):
    with Journal(tmp_path / "j") as book:
        book.claim(["a"])
        book.fail("a", "timeout")
        assert book.failures(["a"]) == {"a": "timeout"}
        assert book.claim(["a"]).mine == {"a"}
        book.commit(answer("a"), spent=PAID)
        assert book.failures(["a"]) == {}


def test_totals_add_up_over_runs(tmp_path):
    for _ in range(3):
        with Journal(tmp_path / "j") as book:
            book.spend(PAID)
    with Journal(tmp_path / "j") as book:
        assert book.totals() == Totals(requests=3, input_tokens=30, output_tokens=3, cost=1.5)


def test_many_keys_at_once(tmp_path):
    keys = [f"k{i}" for i in range(2500)]
    with Journal(tmp_path / "j") as book:
        assert len(book.claim(keys).mine) == 2500
        book.export([Exported(key, "a", "text", "f") for key in keys[:700]])
        assert len(book.claim(keys).exported) == 700


def test_what_is_no_journal_is_refused(tmp_path):
    (tmp_path / "j").write_text("a line of text that is longer than the head of a database file\n" * 50)
    with pytest.raises(InvalidData, match="not a journal"):
        Journal(tmp_path / "j")
    with Journal(tmp_path / "new"):
        pass
    with sqlite3.connect(tmp_path / "new") as db:
        db.execute("update meta set value = '99' where name = 'schema'")
    db.close()
    with pytest.raises(InvalidData, match="schema 99"):
        Journal(tmp_path / "new")


# --- runs


def test_a_second_run_asks_nothing(tmp_path):
    pairs = make_pairs(30)
    with FakeTeacher() as server:
        label_pairs(lambda: pairs, make_plan(server.url), journal=tmp_path / "j")
        n_requests = len(server.requests)
        done = label_pairs(lambda: pairs, make_plan(server.url), journal=tmp_path / "j")
        assert len(server.requests) == n_requests == 30
    assert (done.n_found, done.n_answered) == (30, 0)


def test_the_same_texts_under_other_ids_are_paid_once(tmp_path):
    pairs = [Pair(query_id=f"q{i}", query="what", doc_id=f"d{i}", document="the answer") for i in range(100)]
    with FakeTeacher() as server:
        plan = make_plan(server.url)
        label_pairs(lambda: pairs, plan, journal=tmp_path / "j")
        assert server.n_paid == 1
    written = write_labels(lambda: pairs, plan, journal=tmp_path / "j", output=tmp_path / "l.jsonl")
    assert written.n_labels == 100


def test_two_processes_share_a_journal_and_pay_for_each_pair_once(tmp_path):
    pairs = make_pairs(120)

    def slow(request, path):
        reply = Judge()(request, path)
        reply.delay_s = 0.01
        return reply

    results = []
    both_have_started = threading.Barrier(2)

    def work(plan):
        def wait_for_the_other(progress):
            if progress.n_answered == 1:
                both_have_started.wait(15)

        results.append(label_pairs(lambda: pairs, plan, journal=tmp_path / "j", on_progress=wait_for_the_other))

    with FakeTeacher(slow) as server:
        plan = make_plan(server.url, concurrency=4)
        threads = [threading.Thread(target=work, args=(plan,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert server.n_paid == 120
        assert set(server.paid.values()) == {1}
    assert sum(done.n_answered for done in results) == 120
    assert min(done.n_answered for done in results) > 0, "one did all the work"
    assert write_labels(lambda: pairs, plan, journal=tmp_path / "j", output=tmp_path / "l.jsonl").n_labels == 120


def test_a_new_journal_is_opened_by_several_at_once(tmp_path):
    errors = []

    def open_one(path, start):
        start.wait(15)
        try:
            Journal(path).close()
        except OutputError as error:
            errors.append(error)

    for attempt in range(40):
        start = threading.Barrier(4)
        threads = [threading.Thread(target=open_one, args=(tmp_path / f"j{attempt}", start)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert not errors


def test_killed_three_times_each_pair_is_labelled_and_paid_once():
    found = label_faults.run(150, n_kills=3, seed=1)  # asserts what it promises
    assert found["n_labels"] == 150
    assert found["n_paid_requests"] == 150 + sum(found["in_flight_and_paid_at_each_kill"])


def test_an_interrupt_keeps_what_came(tmp_path):
    pairs = make_pairs(200)

    def count(progress):
        if progress.n_answered == 50:
            os.kill(os.getpid(), signal.SIGINT)  # as Ctrl-C does

    with FakeTeacher() as server:
        with pytest.raises(KeyboardInterrupt):
            label_pairs(lambda: pairs, make_plan(server.url), journal=tmp_path / "j", on_progress=count)
        n_paid = server.n_paid
        label_pairs(lambda: pairs, make_plan(server.url), journal=tmp_path / "j")
        assert 200 <= server.n_paid <= 200 + 16
        assert n_paid < 200


def test_retry_errors_pays_again_and_only_then(tmp_path):
    pairs = make_pairs(3)
    with FakeTeacher([Reply(body=completion("", refusal="no"))]) as server:
        plan = make_plan(server.url)
        label_pairs(lambda: pairs, plan, journal=tmp_path / "j")
        server.script = Judge()
        assert label_pairs(lambda: pairs, plan, journal=tmp_path / "j").n_found == 3
        assert label_pairs(lambda: pairs, plan, journal=tmp_path / "j", retry_errors=True).n_answered == 3


def test_the_estimate_counts_what_is_left(tmp_path):
    pairs = make_pairs(10)
    with FakeTeacher() as server:
        teacher = Teacher(url=server.url, model="m", price=Price(input=1.0, output=10.0))
        plan = Plan(read_rubric("answer-bearing"), (teacher,))
        before = estimate(lambda: pairs, plan, journal=tmp_path / "j")
        assert not (tmp_path / "j").exists()
        label_pairs(lambda: pairs[:6], plan, journal=tmp_path / "j")
        after = estimate(lambda: pairs, plan, journal=tmp_path / "j")
    assert (before.n_requests, after.n_requests, after.n_found) == (10, 4, 6)
    assert 100 < before.input_tokens / 10 < 500
    assert before.cost == pytest.approx((before.input_tokens + 10 * before.output_tokens) / 1e6)


# --- output


def test_labels_are_pairs_and_errors_stand_beside_them(tmp_path):
    pairs = [
        Pair(query_id="q", query="what", doc_id="a", document="answer", label=0.0, source="s", fields={"rank": 3}),
        Pair(query_id="q", query="what", doc_id="b", document="other"),
        Pair(query_id="q", query="what", doc_id="c", document="bad"),
    ]

    def script(request, path):
        if "bad" in request["messages"][1]["content"]:
            return Reply(body=completion("hm", refusal="I will not"))
        return Judge()(request, path)

    output = tmp_path / "labels.jsonl"
    with FakeTeacher(script) as server:
        plan = make_plan(server.url)
        label_pairs(lambda: pairs, plan, journal=tmp_path / "j")
    written = write_labels(lambda: pairs, plan, journal=tmp_path / "j", output=output)
    assert (written.n_labels, written.n_errors) == (2, 1)
    first, second = read_pairs(output)
    assert first.label == pytest.approx(0.9168, abs=1e-4)
    assert (first.source, first.fields["rank"], first.fields["previous_label"]) == ("s", 3, 0)
    assert (first.fields["rubric"], first.fields["majority"], second.fields["majority"]) == ("answer-bearing@1", 1, 0)
    assert "previous_label" not in second.fields
    (error,) = [json.loads(line) for line in errors_path_for(output).read_text().splitlines()]
    assert (error["doc_id"], error["reply"]) == ("c", "I will not")
    assert error["error"].startswith("refusal: ")
    assert "label" not in error


def test_a_stale_file_of_errors_goes(tmp_path):
    output = tmp_path / "labels.jsonl"
    errors_path_for(output).write_text("old\n")
    with FakeTeacher() as server:
        plan = make_plan(server.url)
        label_pairs(lambda: make_pairs(2), plan, journal=tmp_path / "j")
    write_labels(lambda: make_pairs(2), plan, journal=tmp_path / "j", output=output)
    assert not errors_path_for(output).exists()


def test_labelling_its_own_output_again_keeps_one_set_of_fields(tmp_path):
    output = tmp_path / "labels.jsonl"
    with FakeTeacher() as server:
        plan = make_plan(server.url)
        label_pairs(lambda: make_pairs(2), plan, journal=tmp_path / "j")
        write_labels(lambda: make_pairs(2), plan, journal=tmp_path / "j", output=output)
        first = list(read_pairs(output))
        write_labels(lambda: first, plan, journal=tmp_path / "j", output=output)
        assert server.n_paid == 2
    again = list(read_pairs(output))
    assert [pair.label for pair in again] == [pair.label for pair in first]
    assert again[0].fields["previous_label"] == first[0].label
