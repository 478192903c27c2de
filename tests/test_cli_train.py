"""`relgrade train` and the commands of single steps: the same grader either way, and one line for every mistake."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from click.testing import CliRunner

from pipeline_case import write_pairs_file
from relgrade import Grader
from relgrade.cli import main
from relgrade.errors import ParityError

STUDENT = """
[student]
architecture = "interaction"
base = "{base}"
max_tokens = 32
max_query_tokens = 8
hidden = 8
train_encoder = false
[training]
max_steps = 8
batch_pairs = 16
learning_rate = 1e-3
"""
RECIPE = """
[[sources]]
name = "colours"
path = "pairs.jsonl"
[splits]
validation = 0.2
calibration = 0.4
[export]
max_verdict_flips = 1.0
[bundle]
name = "colours"
golden_pairs = "golden.jsonl"
"""


@pytest.fixture
def cli(tmp_path, monkeypatch, tiny_bert_folder):
    """Runs a command in a folder with a recipe, its data and its golden pairs; output of stdout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RELGRADE_DATA", raising=False)
    Path("data").mkdir()
    rows = [json.loads(line) for line in write_pairs_file(Path("data/pairs.jsonl")).read_text().splitlines()]
    for row in rows:  # a tenth of so few queries is no calibration split
        row["split"] = ("train", "calibration", "validation")[int(row["query_id"][1:]) % 5 // 2]
    Path("data/divided.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("recipe.toml").write_text(RECIPE + STUDENT.format(base=tiny_bert_folder))
    Path("golden.jsonl").write_text('{"query": "what is red", "document": "the apple is red"}\n')

    def run(*arguments, code=0):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == code, result.output
        return result.stdout if code == 0 else result.stderr

    return run


def test_a_recipe_becomes_a_bundle(cli):
    text = cli("train", "--config", "recipe.toml", "--data-folder", "data")
    for step in ("read", "split", "balance", "fit", "export", "calibrate", "parity", "bundle"):
        assert f"\n{step}: " in f"\n{text}"
    assert text.splitlines()[-1] == "runs/recipe/bundle: load it with Grader.load('runs/recipe/bundle')"
    assert [golden.query for golden in Grader.load("runs/recipe/bundle").bundle.goldens] == ["what is red"]
    again = cli("train", "--config", "recipe.toml", "--data-folder", "data")
    assert again.count("(unchanged)") == 11
    shorter = cli("train", "--config", "recipe.toml", "--data-folder", "data", "--max-steps", "4", "--seed", "0")
    assert "(unchanged)" not in shorter.split("fit:")[1].split("export:")[0]
    assert json.loads(Path("runs/recipe/fit.json").read_text())["steps"] == 4


def test_pairs_and_options_become_a_bundle(cli, tiny_bert_folder):
    options = ["--base", tiny_bert_folder, "--architecture", "interaction", "--freeze-encoder", "--max-tokens", "32"]
    options += ["--learning-rate", "0.01", "--max-steps", "30", "--name", "mine", "--rubric", "topical", "--seed", "5"]
    cli("train", "data/divided.jsonl", "-o", "run", *options)
    manifest = Grader.load("run/bundle").bundle.manifest
    assert (manifest.name, manifest.rubric, manifest.architecture) == ("mine", "topical", "interaction")
    assert manifest.provenance["seed"] == 5
    assert [source["name"] for source in manifest.provenance["sources"]] == ["divided"]


def test_single_steps_make_a_grader(cli):
    cli("pairs", "split", "data/pairs.jsonl", "-o", "split.jsonl", "--validation", "0.2", "--calibration", "0.4")
    for split in ("train", "validation", "calibration"):
        cli("pairs", "convert", "split.jsonl", f"{split}.jsonl", "--split", split)
    text = cli("fit", "train.jsonl", "--validation", "validation.jsonl", "-o", "fitted", "--config", "recipe.toml")
    assert "8 steps" in text
    cli("export", "fitted/student", "graphs")
    cli("parity", "fitted/student", "graphs", "calibration.jsonl", "--max-verdict-flips", "1")
    cli("score", "graphs", "calibration.jsonl", "-o", "scores.jsonl")
    assert "threshold" in cli("calibrate", "scores.jsonl", "-o", "calibration.json", "--leave-out")
    options = ["--calibration", "calibration.json", "--goldens", "golden.jsonl", "--name", "single"]
    assert "hash" in cli("bundle", "make", "graphs", "-o", "bundle", *options)
    grader = Grader.load("bundle")
    assert grader.operating_point.name == "balanced"
    cli("score", "bundle", "calibration.jsonl", "-o", "again.jsonl")
    assert Path("again.jsonl").read_bytes() == Path("scores.jsonl").read_bytes()
    cli("bundle", "verify", "bundle")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to train on"),
        (["data/pairs.jsonl", "--config", "recipe.toml"], "not both"),
        (["--config", "none.toml"], "no such settings file"),
        (["--config", "bad.toml"], "bad.toml: not TOML: Expected '=' after a key"),
        (["--config", "bad.toml"], "; correct the file"),
        (["--config", "data.bin"], "data.bin: not TOML: 'utf-8' codec"),
        (["--config", "recipe.toml"], "no such file"),
        (["data/divided.jsonl", "--base", "data", "-o", "run"], "cannot be loaded"),
        (["data/pairs.jsonl", "-o", "run"], "50 of 20 are needed: raise splits.calibration"),
        (["data/pairs.jsonl", "--learning-rate", "-1"], "learning_rate must be > 0"),
    ],
)
def test_a_mistake_is_one_line(cli, arguments, message):
    Path("bad.toml").write_text("base: 3\n")
    Path("data.bin").write_bytes(b"\xff\xfe")
    error = cli("train", *arguments, code=2)
    assert message in error
    assert "Traceback" not in error


def test_graphs_that_judge_otherwise_are_exit_code_1(cli, monkeypatch):
    def fail(recipe, *, output, on_step):
        raise ParityError("3 of 4 verdicts flip")

    monkeypatch.setattr("relgrade.pipeline.run_recipe", fail)
    assert "verdicts flip" in cli("train", "--config", "recipe.toml", code=1)


def test_bad_scores_are_named_by_line(cli):
    Path("scores.jsonl").write_text('{"query_id": "q", "doc_id": "d", "logit": 1.0, "label": 1}\n{"query_id": "q"}\n')
    assert "scores.jsonl:2: `doc_id` must be a text" in cli("calibrate", "scores.jsonl", "-o", "c.json", code=2)
    assert "graphs.json" in cli("score", "data", "data/pairs.jsonl", "-o", "s.jsonl", code=2)
