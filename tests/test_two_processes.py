"""`torchrun` with two processes on the CPU: a recipe and a row of the paper's table come to one result."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from paper_case import write_data
from pipeline_case import write_pairs_file
from relgrade.pipeline.processes import is_main_process, n_processes

RECIPE = """
seed = 3
[[sources]]
name = "colours"
path = "pairs.jsonl"
licence = "CC0-1.0"
[splits]
validation = 0.2
calibration = 0.4
test = 0.1
[student]
architecture = "cross-encoder"
base = "{base}"
max_tokens = 32
max_query_tokens = 8
[training]
max_steps = 4
batch_pairs = 8
learning_rate = 1e-3
checkpoint_steps = 4
[export]
max_verdict_flips = 1.0
[bundle]
name = "colours"
licence = "CC0-1.0"
n_golden = 5
"""
TABLE = """
name = "tiny"
train = "pairs.jsonl.gz"
pairs = 40
calibration_pairs = 30
n_draws = 20
[[tests]]
name = "test"
path = "pairs.jsonl.gz"
[student]
base = "{base}"
max_tokens = 64
max_query_tokens = 16
n_labels = 2
[training]
batch_pairs = 4
learning_rate = 1e-3
checkpoint_steps = 2
max_steps = 4
[[rows]]
name = "b"
method = "B"
[[rows]]
name = "c"
method = "C"
[[rows]]
name = "lora"
method = "lora"
rank = 2
"""


def relgrade(*arguments, cwd):
    """The command in two processes; its output, of both."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "relgrade"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_recipe(tmp_path: Path, tiny_bert_folder):
    write_pairs_file(tmp_path / "pairs.jsonl")
    (tmp_path / "recipe.toml").write_text(RECIPE.format(base=tiny_bert_folder))
    said = relgrade("train", "--config", "recipe.toml", cwd=tmp_path)
    assert said.count("fit: ") == 1  # the second process is silent
    assert said.count("load it with Grader.load(") == 1
    run = tmp_path / "runs" / "recipe"
    assert json.loads((run / "fit" / "run.json").read_text())["processes"] == 2
    assert (run / "bundle" / "bundle.json").is_file()
    again = relgrade("train", "--config", "recipe.toml", cwd=tmp_path)  # nothing is left to help with
    assert "fit: (unchanged)" in again
    assert again.count("load it with Grader.load(") == 1


def test_rows_of_the_paper(tmp_path: Path, tiny_bert_folder):
    write_data(tmp_path)
    (tmp_path / "table.toml").write_text(TABLE.format(base=tiny_bert_folder))
    relgrade("paper", "run", "--config", "table.toml", "-o", "run", "--results", "results", cwd=tmp_path)
    rows = {name: json.loads((tmp_path / "results" / f"tiny.{name}.json").read_text()) for name in ("b", "c", "lora")}
    assert [row["cost"].get("steps") for row in rows.values()] == [None, 4, 4]
    assert all(row["readings"] for row in rows.values())
    relgrade("paper", "run", "--config", "table.toml", "-o", "run", "--results", "results", cwd=tmp_path)


@pytest.mark.parametrize(
    ("given", "is_main", "n"),
    [
        ({}, True, 1),
        ({"RANK": "1"}, True, 1),
        ({"RANK": "", "WORLD_SIZE": ""}, True, 1),
        ({"RANK": "1", "WORLD_SIZE": "2"}, False, 2),
        ({"RANK": "0", "WORLD_SIZE": "2"}, True, 2),
    ],
)
def test_one_process_is_the_first_whatever_its_rank_says(given, is_main, n, monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert (is_main_process(), n_processes()) == (is_main, n)
