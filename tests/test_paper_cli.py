"""`relgrade paper` from the command line: a row run, run again, and printed; what cannot work says what to do."""

import json

import pytest
from click.testing import CliRunner

from paper_case import write_data
from relgrade.cli.main import main

CONFIG = """
name = "tiny"
train = "pairs.jsonl.gz"
pairs = 16
calibration_pairs = 30
n_draws = 10
[[tests]]
name = "test"
path = "pairs.jsonl.gz"
[student]
base = "someone/tiny"
max_tokens = 64
max_query_tokens = 16
n_labels = 2
[[rows]]
name = "b"
method = "B"
"""


@pytest.fixture
def call(tmp_path):
    write_data(tmp_path)
    (tmp_path / "tiny.toml").write_text(CONFIG, encoding="utf-8")

    def run(*arguments):
        return CliRunner().invoke(main, ["paper", *map(str, arguments)])

    return run


def test_a_table_is_run_once_and_printed(call, tmp_path, tiny_bert_folder):
    arguments = ["run", "--config", tmp_path / "tiny.toml", "-o", tmp_path / "run", "--base-folder", tiny_bert_folder]
    first = call(*arguments)
    assert first.exit_code == 0, first.output
    assert "b: done" in first.stdout
    assert "b: unchanged" in call(*arguments).stdout
    printed = call("table", tmp_path / "run" / "results", "--test", "test", "--rule", "argmax")
    assert printed.exit_code == 0
    assert "| tiny | b | argmax |" in printed.stdout
    assert printed.stdout.endswith("|\n")  # nothing failed
    path = tmp_path / "run" / "results" / "tiny.b.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "diagnoses": ["nothing learned: why"]}))
    printed = call("table", path, "--test", "test", "--rule", "argmax")
    assert printed.stdout.endswith("|\n\n- tiny b: nothing learned: why\n")
    text = (tmp_path / "run" / "results" / "tiny.b.json").read_text()
    assert '"base": "someone/tiny"' in text
    assert str(tiny_bert_folder) not in text  # the record names the model, not where a copy lay


def test_options_change_the_table(call, tmp_path, tiny_bert_folder):
    done = call(
        *("run", "--config", tmp_path / "tiny.toml", "-o", tmp_path / "run", "--base-folder", tiny_bert_folder),
        *("--pairs", "8", "--test-queries", "2", "--row", "b", "--seed", "3", "--results", tmp_path / "results"),
    )
    assert done.exit_code == 0, done.output
    text = (tmp_path / "results" / "tiny.b.json").read_text()
    assert '"n_train": 8' in text
    assert '"test": 10' in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--config", "missing.toml"], "no such settings file"),
        (["table", "nowhere", "--test", "x"], "the JSON of a row was expected"),
    ],
)
def test_bad_input(call, arguments, message):
    found = call(*arguments)
    assert found.exit_code == 2
    assert message in found.stderr


def test_a_seed_below_zero(call, tmp_path):
    found = call("run", "--config", tmp_path / "tiny.toml", "--seed", "-1", "-o", tmp_path / "run")
    assert found.exit_code == 2
    assert "seed must be >= 0" in found.stderr
    assert not (tmp_path / "run").exists()


ROW = {
    "table": "tiny",
    "row": {"name": "b"},
    "cost": {"seconds_training": 1.0, "seconds_scoring": 1.0, "n_parameters_trained": 1, "peak_memory_mb": 1.0},
    "data": {"tests": {"test": 2}},
    "readings": [{"test": "test", "rule": "argmax", "f1": {"value": 0.5, "low": None, "high": None}}],
}


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"cost": None}, "cost.seconds_training"),
        ({"cost": {"seconds_training": 1.0}}, "cost.seconds_scoring"),
        ({"readings": None}, "readings"),
        ({"readings": [{"test": "test"}]}, "test and rule in readings[0]"),
        ({"readings": [{"test": "other", "rule": "argmax"}]}, "data.tests.other"),
        ({"readings": [{"test": "test", "rule": "argmax", "f1": 0.5}]}, "value and interval in readings[0].f1"),
        ({"row": {}}, "row.name"),
    ],
)
def test_half_a_row_is_named(call, tmp_path, change, missing):
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "a.json").write_text(json.dumps(ROW), encoding="utf-8")
    (folder / "summary.json").write_text('{"what": "something else"}', encoding="utf-8")
    (folder / "list.json").write_text("[]", encoding="utf-8")
    assert "| tiny | b | argmax |" in call("table", folder, "--test", "test").stdout
    for name in ("summary.json", "list.json"):  # passed over in a folder, and no row when it is asked for
        found = call("table", folder / "a.json", folder / name, folder, "--test", "test")
        assert found.exit_code == 2
        assert f"{name}: the JSON of a row was expected" in found.stderr.replace("\n", "")
    left = {name: value for name, value in {**ROW, **change}.items() if value is not None}
    (folder / "b.json").write_text(json.dumps(left), encoding="utf-8")
    for place in (folder, folder / "b.json"):
        found = call("table", place, "--test", "test")
        assert found.exit_code == 2
        assert "b.json: the JSON of a row was expected" in found.stderr
        assert f"here is no {missing}" in found.stderr


def test_no_access_to_the_base_gives_three_ways_out(call, tmp_path):
    found = call("run", "--config", tmp_path / "tiny.toml", "-o", tmp_path / "run", "--base-folder", "not a/model id")
    assert found.exit_code == 2
    assert "accept its licence" in found.stderr
    assert "local folder" in found.stderr
    assert "another base" in found.stderr
