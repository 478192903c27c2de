"""kill -9 at any moment, the same call again: the same batches, and the same weights to the last bit."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relgrade.records import Pair
from relgrade.settings import StudentSettings, TrainingSettings
from relgrade.student import build_student, fit
from relgrade.student.checkpoints import checkpoint_folder, discard_torn, is_whole, prune, seal, whole_steps
from relgrade.student.cross_encoder import CrossEncoderStudent
from relgrade.student.validation import best_index, is_exhausted

WORDS = ["red", "green", "blue", "apple", "pear", "dog", "lake", "sand"]
PAIRS = [
    Pair(
        query_id=str(i // 4),
        query=WORDS[i // 4 % 8],
        doc_id=str(i),
        document=" ".join(WORDS[(i * k) % 8] for k in range(1, 2 + i % 7)),
        label=float(i % 4 == 0),
    )
    for i in range(100)
]
TRAIN, VALIDATION = PAIRS[:80], PAIRS[80:]
# Three epochs of five steps of two passes: 4 falls inside an epoch, 10 on the border of one.
SETTINGS = TrainingSettings(
    learning_rate=3e-3, batch_pairs=8, accumulation=2, epochs=3.0, checkpoint_steps=2, patience=50, bf16="off"
)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny matrices gain nothing from threads, which on a busy machine wait for each other."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture
def make_student(tiny_bert_folder):
    # With dropout, so that the state of the random generator counts.
    settings = StudentSettings(base=str(tiny_bert_folder), max_tokens=32, max_query_tokens=8, dropout=0.3)
    return lambda: build_student(settings, seed=0)


class Killed(BaseException):
    """Stands for the death of the process."""


def run(student, output, settings=SETTINGS, *, kill_at=None, validation=VALIDATION):
    """Fit, note the batches that were read and, if asked, die before pass number `kill_at` of this call."""
    batches = []
    collate = student.collate

    def noting_collate(pairs):
        ids = [pair.doc_id for pair in pairs]
        if all(int(i) < len(TRAIN) for i in ids):
            if len(batches) == kill_at:
                raise Killed
            batches.append(ids)
        return collate(pairs)

    student.collate = noting_collate
    report = None
    with contextlib.suppress(Killed):
        report = fit(student, TRAIN, validation, settings, output=output, seed=3)
    return batches, report, {name: weight.clone() for name, weight in student.state_dict().items()}


def is_same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def timeless(history):
    return [{name: value for name, value in row.items() if name != "tokens_per_s"} for row in history]


@pytest.fixture(scope="module")
def uninterrupted(tiny_bert_folder, tmp_path_factory):
    settings = StudentSettings(base=str(tiny_bert_folder), max_tokens=32, max_query_tokens=8, dropout=0.3)
    return run(build_student(settings, seed=0), tmp_path_factory.mktemp("uninterrupted"))


@pytest.mark.parametrize("kill_at", [1, 10, 20, 29])
def test_resumes_bit_for_bit(make_student, uninterrupted, tmp_path, kill_at):
    batches, report, weights = uninterrupted
    assert (report.steps, len(batches)) == (15, 30)
    read, nothing, _ = run(make_student(), tmp_path, kill_at=kill_at)
    assert nothing is None
    steps = whole_steps(tmp_path)
    resumed, again, found = run(make_student(), tmp_path)
    start = 2 * (steps[-1] if steps else 0)
    assert read == batches[:kill_at]
    assert resumed == batches[start:]
    assert is_same(found, weights)
    assert timeless(again.history) == timeless(report.history)
    assert (again.steps, again.best_step, again.best_metric) == (15, report.best_step, report.best_metric)
    journal = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert timeless(journal) == timeless(report.history)


def test_resumes_twice_and_without_validation(make_student, tmp_path):
    _, _, weights = run(make_student(), tmp_path / "whole", validation=[])
    for kill_at in (9, 6):
        run(make_student(), tmp_path / "torn", validation=[], kill_at=kill_at)
    _, report, found = run(make_student(), tmp_path / "torn", validation=[])
    assert report.steps == 15
    assert is_same(found, weights)


def test_listwise_resumes(make_student, tmp_path):
    settings = replace(SETTINGS, loss="listwise", accumulation=1)
    batches, report, weights = run(make_student(), tmp_path / "whole", settings)
    for query in range(20):  # a query's four documents are always in one batch
        ids = {str(4 * query + d) for d in range(4)}
        assert sum(ids <= set(batch) for batch in batches) == 3
    run(make_student(), tmp_path / "torn", settings, kill_at=11)
    _, again, found = run(make_student(), tmp_path / "torn", settings)
    assert is_same(found, weights)
    assert again.steps == report.steps


def test_early_stopping_resumes(make_student, tmp_path):
    """Killed after the validation that ends training and before its end: nothing more is trained."""
    settings = replace(SETTINGS, learning_rate=1e-12, patience=2)
    batches, report, _ = run(make_student(), tmp_path / "whole", settings)
    assert report.steps == 6
    run(make_student(), tmp_path / "torn", settings, kill_at=9)
    resumed, again, _ = run(make_student(), tmp_path / "torn", settings)
    assert resumed == batches[8:]
    assert again.steps == 6
    assert run(make_student(), tmp_path / "torn", settings)[0] == []


@pytest.mark.parametrize("damage", ["unsealed", "cut", "bad seal"])
def test_torn_checkpoint_is_skipped(make_student, uninterrupted, tmp_path, damage):
    batches, report, weights = uninterrupted
    run(make_student(), tmp_path, kill_at=13)
    last = checkpoint_folder(tmp_path, 6)
    assert whole_steps(tmp_path)[-1] == 6
    if damage == "unsealed":
        (last / "seal.json").unlink()
    elif damage == "cut":
        with (last / "optimizer.pt").open("r+b") as file:
            file.truncate(100)
    else:
        (last / "seal.json").write_text("{")
    assert whole_steps(tmp_path)[-1] == 4
    resumed, _, found = run(make_student(), tmp_path)
    assert resumed == batches[8:]
    assert is_same(found, weights)
    journal = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert timeless(journal) == timeless(report.history)


KILLED = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_training_resume import *
settings = StudentSettings(base={base!r}, max_tokens=32, max_query_tokens=8, dropout=0.3)
student = build_student(settings, seed=0)
collate = student.collate
def slow_collate(pairs):
    time.sleep(0.05)  # leaves time to be killed
    return collate(pairs)
student.collate = slow_collate
fit(student, TRAIN, VALIDATION, SETTINGS, output=Path({output!r}), seed=3)
student.save(Path({output!r}) / "student")
"""


def test_kill_9(tiny_bert_folder, uninterrupted, tmp_path):
    _, report, weights = uninterrupted
    script = tmp_path / "run.py"
    output = tmp_path / "output"
    tests = str(Path(__file__).parent)
    script.write_text(KILLED.format(tests=tests, base=str(tiny_bert_folder), output=str(output)))
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}

    def start():
        return subprocess.Popen([sys.executable, str(script)], env=environment, stderr=subprocess.PIPE, text=True)

    process = start()
    deadline = time.monotonic() + 120
    while not checkpoint_folder(output, 4).exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)  # most likely while the checkpoint is being written
    process.communicate()
    assert not (output / "student").exists()
    process = start()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert is_same(CrossEncoderStudent.load(output / "student").state_dict(), weights)
    journal = [json.loads(line) for line in (output / "journal.jsonl").read_text().splitlines()]
    assert timeless(journal) == timeless(report.history)


def test_prune_keeps_the_last_and_the_best(tmp_path):
    for step in (2, 4, 6, 8, 10):
        folder = checkpoint_folder(tmp_path, step)
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"weights")
        seal(folder)
    (tmp_path / "checkpoint-notes").mkdir()
    prune(tmp_path, n_kept=2, best_step=4)
    assert whole_steps(tmp_path) == [4, 8, 10]
    (checkpoint_folder(tmp_path, 8) / "model.safetensors").write_bytes(b"w")
    assert not is_whole(checkpoint_folder(tmp_path, 8))
    discard_torn(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-4", "checkpoint-notes"]
    prune(tmp_path, n_kept=0, best_step=None)
    assert whole_steps(tmp_path) == [10]


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3]), max_size=12), st.integers(1, 5))
def test_patience(values, patience):
    is_stopped = is_exhausted(values, patience=patience)
    gains = [i for i, value in enumerate(values) if value > max(values[:i], default=-1.0)]
    assert is_stopped == (bool(values) and len(values) - 1 - gains[-1] >= patience)
    assert best_index(values) == (gains[-1] if values else None)
