"""What training takes is told before it starts: measured on short sequences, extended to the batch."""

from dataclasses import replace

import pytest
import torch

from paper_case import job_of, settings_of, write_data
from relgrade.errors import TrainingError
from relgrade.paper import memory, trained
from relgrade.paper.memory import MemoryEstimate, available_memory, require_memory

ROWS = [{"name": "c", "method": "C"}, {"name": "lora", "method": "lora", "rank": 2}]


@pytest.fixture(scope="module")
def table(tmp_path_factory, tiny_bert_folder):
    return settings_of(write_data(tmp_path_factory.mktemp("data")), tiny_bert_folder, ROWS)


def test_memory_is_estimated_by_what_is_trained(table, monkeypatch):
    c, lora = (trained._student(job_of(table, name)) for name in ("c", "lora"))
    estimates = [memory.estimate_memory(student, table.training) for student in (c, lora)]
    states = {name: value.clone() for name, value in c.state_dict().items()}
    assert estimates[0].training_mb == pytest.approx(3 * estimates[0].weights_mb)
    assert estimates[1].training_mb < estimates[0].training_mb
    assert all(torch.equal(value, states[name]) for name, value in c.state_dict().items())
    twice = memory.estimate_memory(c, replace(table.training, batch_pairs=16, batch_tokens=2048))
    assert twice.activations_mb > 1.7 * estimates[0].activations_mb
    monkeypatch.setenv("WORLD_SIZE", "4")
    sharded = memory.estimate_memory(trained._student(job_of(table, "c")), replace(table.training, sharded=True))
    assert sharded.weights_mb == pytest.approx(estimates[0].weights_mb / 4)
    assert sharded.training_mb == pytest.approx(estimates[0].training_mb / 4)
    require_memory(estimates[0], available_mb=None)
    require_memory(MemoryEstimate(1.0, 1.0, 1.0, 1.0), available_mb=6.0)
    with pytest.raises(TrainingError, match="about 6 MB"):
        require_memory(MemoryEstimate(1.0, 1.0, 1.0, 1.0), available_mb=5.9)
    assert available_memory() is None or available_memory() > 0


def test_what_a_pass_keeps_is_extended_to_longer_ones(table):
    student = trained._student(job_of(table, "c"))  # attention with its scores: it grows with the square of the length
    kept = [memory._kept_bytes(student, n, has_bf16=False) for n in (16, 32, 64, 48)]
    slopes = (kept[1] - kept[0]) / 16, (kept[2] - kept[1]) / 32
    square = (slopes[1] - slopes[0]) / 48
    expected = kept[0] + slopes[0] * 32 + square * (48 - 16) * (48 - 32)
    assert kept[3] == pytest.approx(expected, rel=1e-3)
    estimate = memory.estimate_memory(student, replace(table.training, batch_pairs=1, bf16="off"))
    assert estimate.activations_mb * memory.MB >= kept[2]


def test_layers_that_are_computed_twice_keep_less(table):
    dear, cheap = (
        memory.estimate_memory(
            trained._student(job_of(replace(table, student=replace(table.student, gradient_checkpointing=flag)), "c")),
            table.training,
        )
        for flag in (False, True)
    )
    assert cheap.activations_mb < dear.activations_mb
