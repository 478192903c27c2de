"""`relgrade paper` from the command line: a row run, run again, and printed; what cannot work says what to do."""

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


def test_no_access_to_the_base_gives_three_ways_out(call, tmp_path):
    found = call("run", "--config", tmp_path / "tiny.toml", "-o", tmp_path / "run", "--base-folder", "not a/model id")
    assert found.exit_code == 2
    assert "accept its licence" in found.stderr
    assert "local folder" in found.stderr
    assert "another base" in found.stderr
