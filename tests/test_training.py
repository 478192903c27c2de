"""fit: it learns, keeps the best weights, stops in time, and says what is wrong."""

import json
import math
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from relgrade.errors import InvalidInput, InvalidSettings, TrainingError
from relgrade.metrics import average_precision
from relgrade.records import Pair
from relgrade.settings import StudentSettings, TrainingSettings
from relgrade.student import build_student, fit
from relgrade.student import losses as losses_module
from relgrade.student import trainer as trainer_module

WORDS = ["red", "green", "blue", "apple", "pear", "dog", "lake", "sand"]
SETTINGS = TrainingSettings(learning_rate=1e-3, batch_pairs=8, checkpoint_steps=5, max_steps=15, patience=50)


def make_pairs(n_queries, *, seed, n_words=2):
    """Four documents a query; the first holds the query's word, the others do not."""
    draw = random.Random(seed)
    pairs = []
    for q in range(n_queries):
        word = draw.choice(WORDS)
        for d in range(4):
            words = draw.choices([other for other in WORDS if other != word], k=n_words)
            if d == 0:
                words[draw.randrange(n_words)] = word
            source = "odd" if q % 2 else "even"
            pairs.append(
                Pair(
                    query_id=f"{seed}-{q}",
                    query=word,
                    doc_id=f"{seed}-{q}-{d}",
                    document=" ".join(words),
                    label=float(d == 0),
                    source=source,
                )
            )
    return pairs


TRAIN = make_pairs(24, seed=1)
VALIDATION = make_pairs(8, seed=2)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny matrices gain nothing from threads, which on a busy machine wait for each other."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture
def make_student(tiny_bert_folder):
    def make(**changes):
        settings = StudentSettings(base=str(tiny_bert_folder), max_tokens=32, max_query_tokens=8, **changes)
        return build_student(settings, seed=0)

    return make


def weights_of(student):
    return {name: weight.detach().clone() for name, weight in student.state_dict().items()}


def is_same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def without_dropout(student):
    for module in student.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return student


@pytest.mark.parametrize(("loss", "wanted"), [("binary-cross-entropy", 0.9), ("listwise", 0.8)])
def test_learns_to_match_words(make_student, tmp_path, loss, wanted):
    student = without_dropout(make_student())
    random_state = torch.Generator().manual_seed(0)
    with torch.no_grad():  # words far apart, as in a pretrained model; near zero, the rule takes minutes to find
        for name, weight in student.named_parameters():
            if weight.ndim == 2:
                weight.normal_(std=1.0 if "word_embeddings" in name else 0.5, generator=random_state)
            if "position" in name:
                weight.zero_()
    validation = make_pairs(60, seed=2)
    labels = [pair.label for pair in validation]
    before = average_precision(student.score(validation), labels)
    settings = replace(SETTINGS, loss=loss, learning_rate=3e-3, batch_pairs=32, max_steps=-1, checkpoint_steps=75)
    report = fit(student, make_pairs(1500, seed=1), validation, replace(settings, epochs=1.6), output=tmp_path, seed=0)
    after = average_precision(student.score(validation), labels)
    assert before < 0.45
    assert after > wanted
    assert report.best_metric == pytest.approx(after, abs=0.05)


def test_report_and_journal(make_student, tmp_path):
    student = make_student()
    report = fit(student, TRAIN, VALIDATION, SETTINGS, output=tmp_path, seed=0)
    rows = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert list(report.history) == rows
    assert report.steps == 15
    assert report.n_parameters_trained == sum(weight.numel() for weight in student.parameters())
    assert report.seconds > 0
    training = {row["step"]: row for row in rows if "loss" in row}
    validation = {row["step"]: row for row in rows if "average_precision" in row}
    assert list(training) == list(validation) == [5, 10, 15]
    assert report.best_metric == max(row["average_precision"] for row in validation.values())
    assert validation[report.best_step]["average_precision"] == report.best_metric
    assert set(training[5]) == {
        "step",
        "epoch",
        "loss",
        "constant_loss",
        "gradient_norm",
        "learning_rate",
        "head_learning_rate",
        "tokens_per_s",
    }
    assert training[15]["tokens_per_s"] > 0
    for row in validation.values():
        assert set(row["sources"]) == {"even", "odd"}
        assert row["average_precision"] == pytest.approx(sum(row["sources"].values()) / 2)


def test_student_ends_with_the_best_weights(make_student, tmp_path, monkeypatch):
    values = iter([0.3, 0.8, 0.5])
    monkeypatch.setattr(trainer_module, "macro", lambda measured: next(values))
    seen = []
    score = type(make_student()).score

    def noting_score(student, pairs, **options):
        seen.append(weights_of(student))
        return score(student, pairs, **options)

    monkeypatch.setattr(type(make_student()), "score", noting_score)
    student = make_student()
    report = fit(student, TRAIN, VALIDATION, replace(SETTINGS, keep_checkpoints=1), output=tmp_path, seed=0)
    assert (report.best_step, report.best_metric) == (10, 0.8)
    assert is_same(weights_of(student), seen[1])
    assert not is_same(seen[1], seen[2])
    assert not student.training
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-10", "checkpoint-15"]


def test_early_stopping(make_student, tmp_path):
    settings = replace(SETTINGS, learning_rate=1e-12, max_steps=200, patience=2)
    report = fit(make_student(), TRAIN, VALIDATION, settings, output=tmp_path, seed=0)
    assert report.steps == 15  # the first validation is the best, the second and third bring nothing
    assert report.best_step == 5
    assert fit(make_student(), TRAIN, VALIDATION, settings, output=tmp_path, seed=0).steps == 15


def test_without_validation_the_last_weights_count(make_student, tmp_path):
    student = make_student()
    report = fit(student, TRAIN, [], replace(SETTINGS, max_steps=7), output=tmp_path, seed=0)
    assert (report.steps, report.best_metric, report.best_step) == (7, None, None)
    again = make_student()
    fit(again, TRAIN, [], replace(SETTINGS, max_steps=7), output=tmp_path, seed=0)
    assert is_same(weights_of(again), weights_of(student))


def test_learning_rates(make_student, tmp_path):
    settings = replace(
        SETTINGS, learning_rate=1e-3, head_learning_rate=4e-3, floor=0.25, warmup=0.2, max_steps=20, checkpoint_steps=1
    )
    report = fit(make_student(), TRAIN, [], settings, output=tmp_path, seed=0)
    rates = {row["step"]: row["learning_rate"] for row in report.history}
    assert all(row["head_learning_rate"] == pytest.approx(4 * row["learning_rate"]) for row in report.history)
    assert [rates[step] for step in (1, 2, 3, 4, 5)] == pytest.approx([0.0, 2.5e-4, 5e-4, 7.5e-4, 1e-3])
    for step in range(5, 21):  # the step number `step` is made at position step - 1 of the schedule
        cosine = (1 + math.cos(math.pi * (step - 1 - 4) / 16)) / 2
        assert rates[step] == pytest.approx(1e-3 * (0.25 + 0.75 * cosine))


def test_groups_learn_at_their_own_rates(make_student, tmp_path):
    student = make_student()
    before = weights_of(student)
    settings = replace(SETTINGS, learning_rate=1e-9, head_learning_rate=1e-2, max_steps=5, weight_decay=0.0)
    fit(student, TRAIN, [], settings, output=tmp_path, seed=0)
    moved = {name: float((after - before[name]).abs().max()) for name, after in weights_of(student).items()}
    assert moved["backbone.classifier.weight"] > 1e-3
    assert max(value for name, value in moved.items() if "encoder.layer" in name) < 1e-6


def test_frozen_encoder_stays(make_student, tmp_path):
    student = make_student(train_encoder=False)
    before = weights_of(student)
    report = fit(student, TRAIN, VALIDATION, SETTINGS, output=tmp_path, seed=0)
    moved = {name for name, after in weights_of(student).items() if not torch.equal(after, before[name])}
    assert moved == {"backbone.classifier.weight", "backbone.classifier.bias"}
    assert report.n_parameters_trained == 17


def test_accumulation_weighs_pairs_alike(make_student, tmp_path):
    """One step over eight pairs, at once or in passes of 3, 3 and 2, is the same step."""
    ends = []
    for n_passes, batch_pairs in ((1, 8), (3, 3)):
        student = without_dropout(make_student())
        settings = replace(SETTINGS, accumulation=n_passes, batch_pairs=batch_pairs, max_steps=2, warmup=0.5)
        fit(student, TRAIN[:8], [], settings, output=tmp_path / str(n_passes), seed=0)
        ends.append(weights_of(student))
    for name, weight in ends[0].items():
        assert torch.allclose(weight, ends[1][name], atol=1e-5), name


def test_loss_that_is_not_finite(make_student, tmp_path, monkeypatch):
    n_calls = iter(range(1000))
    plain = losses_module.BinaryCrossEntropy.__call__

    def failing(loss, *arguments):
        return plain(loss, *arguments) * (math.nan if next(n_calls) >= 12 else 1.0)

    monkeypatch.setattr(losses_module.BinaryCrossEntropy, "__call__", failing)
    with pytest.raises(TrainingError, match=r"loss is nan at step 13; the last good checkpoint is .*checkpoint-10\."):
        fit(make_student(), TRAIN, VALIDATION, SETTINGS, output=tmp_path, seed=0)


def test_gradient_that_is_not_finite(make_student, tmp_path):
    student = make_student()
    student.backbone.classifier.bias.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(TrainingError, match=r"gradient is not finite at step 1; there is no checkpoint"):
        fit(student, TRAIN, VALIDATION, SETTINGS, output=tmp_path, seed=0)
    assert all(torch.isfinite(weight).all() for weight in student.parameters())


def test_folder_of_another_run(make_student, tmp_path):
    settings = replace(SETTINGS, max_steps=2)
    fit(make_student(), TRAIN, VALIDATION, settings, output=tmp_path, seed=0)
    fit(make_student(), TRAIN, VALIDATION, replace(settings, patience=3), output=tmp_path, seed=0)
    with pytest.raises(TrainingError, match=r"differs in seed, training\.batch_pairs"):
        fit(make_student(), TRAIN, VALIDATION, replace(settings, batch_pairs=4), output=tmp_path, seed=1)
    with pytest.raises(TrainingError, match="differs in train;"):
        fit(make_student(), TRAIN[1:], VALIDATION, settings, output=tmp_path, seed=0)
    (tmp_path / "run.json").unlink()
    with pytest.raises(TrainingError, match=r"without run\.json"):
        fit(make_student(), TRAIN, VALIDATION, settings, output=tmp_path, seed=0)


def test_bad_input(make_student, tmp_path):
    student = make_student()
    unlabelled = replace(TRAIN[0], label=None)

    def run(train=TRAIN, validation=VALIDATION, settings=SETTINGS, **options):
        return fit(student, train, validation, settings, output=tmp_path, seed=0, **options)

    with pytest.raises(InvalidInput, match="no training pairs"):
        run(train=[])
    with pytest.raises(InvalidInput, match="label None"):
        run(train=[*TRAIN, unlabelled])
    with pytest.raises(InvalidInput, match="label nan"):
        run(train=[replace(TRAIN[0], label=math.nan)])
    with pytest.raises(InvalidInput, match="has no label"):
        run(validation=[*VALIDATION, unlabelled])
    with pytest.raises(InvalidInput, match="no source of the 8 validation pairs has both"):
        run(validation=[pair for pair in VALIDATION if pair.label])
    with pytest.raises(InvalidSettings, match=r"training\.metric must be one of auroc, average_precision"):
        run(settings=replace(SETTINGS, metric="accuracy"))
    with pytest.raises(InvalidInput, match="positive_weight"):
        run(positive_weight=0.0)
    for weight in student.parameters():
        weight.requires_grad_(False)
    with pytest.raises(TrainingError, match="no parameters to train"):
        run()
    assert not list(tmp_path.iterdir())


def test_leaves_no_trace(make_student, tmp_path, capfd):
    """Global random states, the student's forward, standard output and error are as before."""
    student = make_student()
    states = random.getstate(), str(np.random.get_state()), torch.random.get_rng_state()  # noqa: NPY002
    prepared = []
    capfd.readouterr()  # what building a student says is not what fitting says
    student.prepare = lambda pairs, *, cache_folder: prepared.append((len(pairs), cache_folder))
    fit(student, TRAIN, VALIDATION, replace(SETTINGS, bf16="on", max_steps=2), output=tmp_path, seed=0)
    assert random.getstate() == states[0]
    assert str(np.random.get_state()) == states[1]  # noqa: NPY002
    assert torch.equal(torch.random.get_rng_state(), states[2])
    assert "forward" not in vars(student)
    assert prepared == [(len(TRAIN) + len(VALIDATION), tmp_path / "cache")]
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.rglob("training_args.bin"))


@pytest.mark.parametrize("name", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_shards_of_a_launcher_are_refused(make_student, tmp_path, monkeypatch, name):
    monkeypatch.setenv(name, "true")
    with pytest.raises(TrainingError, match=rf"{name} asks for a model in shards.*training.sharded.*torchrun"):
        fit(make_student(), TRAIN, VALIDATION, SETTINGS, output=tmp_path / "run", seed=0)
    assert not (tmp_path / "run").exists()


TWO_PROCESSES = """
import json, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_training import TRAIN, VALIDATION, SETTINGS, replace
from relgrade.settings import StudentSettings
from relgrade.student import build_student, fit
output = Path({output!r})
student = build_student(StudentSettings(base={base!r}, max_tokens=32, max_query_tokens=8), seed=0)
settings = replace(SETTINGS, max_steps=12, checkpoint_steps=6)  # an epoch has six steps of two batches
report = fit(student, TRAIN, VALIDATION, settings, output=output, seed=0)
import torch.distributed as dist
constant_loss = next(row["constant_loss"] for row in report.history if "loss" in row)
found = [report.best_metric, report.steps, constant_loss, sum(float(w.double().sum()) for w in student.parameters())]
(output / f"report-{{dist.get_rank()}}.json").write_text(json.dumps(found))
dist.destroy_process_group()
"""


def test_two_processes_agree(tiny_bert_folder, tmp_path):
    script = tmp_path / "run.py"
    output = tmp_path / "output"
    text = TWO_PROCESSES.format(tests=str(Path(__file__).parent), output=str(output), base=str(tiny_bert_folder))
    script.write_text(text)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    for _ in range(2):  # the second time there is nothing left to do
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        first, second = (json.loads((output / f"report-{rank}.json").read_text()) for rank in (0, 1))
        assert first == second
        assert first[1] == 12
        # The entropy of one relevant document in four: the first line is of all pairs, of both processes.
        assert first[2] == pytest.approx(-0.25 * math.log(0.25) - 0.75 * math.log(0.75), rel=1e-5)
    steps = [json.loads(line)["step"] for line in (output / "journal.jsonl").read_text().splitlines()]
    assert steps == [6, 6, 10, 12, 12]
