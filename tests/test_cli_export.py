"""`relgrade export` and `relgrade parity` hand on what the library found, with exit codes; the models are stand-ins."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from relgrade.cli.export import export, parity
from relgrade.cli.main import LazyCommand, LazyGroup
from relgrade.errors import ParityError
from relgrade.export import measure_parity
from relgrade.formats.rows import pair_from_row
from relgrade.settings import StudentSettings
from relgrade.student import build_student

group = LazyGroup(
    "relgrade",
    lazy={name: LazyCommand(f"relgrade.cli.export:{name}", "", extra="train") for name in ("export", "parity")},
)
LOGITS = np.linspace(-3.0, 3.0, 200)


@pytest.fixture
def cli(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("student").mkdir()
    Path("graphs").mkdir()
    rows = [{"query": f"q{i}", "document": f"SECRET {i}", "split": "test" if i % 2 else "train"} for i in range(200)]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return lambda *arguments: CliRunner().invoke(group, arguments)


@pytest.fixture
def measured(monkeypatch):
    """What `parity` measured with; `int8` may be changed before the call."""
    seen = SimpleNamespace(int8=LOGITS.copy())

    def measure(student_folder, graphs_folder, pairs, *, threshold):
        seen.pairs, seen.folders, seen.threshold = pairs, (student_folder, graphs_folder), threshold
        n = len(pairs)
        int8 = None if seen.int8 is None else lambda i: seen.int8[list(i)]
        return measure_parity(LOGITS[:n], lambda i: LOGITS[list(i)], int8, lengths=[8] * n, threshold=threshold)

    monkeypatch.setattr("relgrade.pipeline.exporting.measure_graphs", measure)
    return seen


def test_parity_prints_a_table(cli, measured):
    result = cli("parity", "student", "graphs", "pairs.jsonl", "--threshold", "0.5")
    assert result.exit_code == 0, result.output
    assert measured.threshold == 0.5
    assert measured.folders == (Path("student"), Path("graphs"))
    for name in ("alone", "sorted-8", "sorted-32", "long-neighbour"):
        assert name in result.stdout
    assert "200 pairs, relevant from logit 0.5 on" in result.stdout


def test_parity_past_the_limit_still_prints_the_report(cli, measured):
    measured.int8[:] *= -1
    result = cli("parity", "student", "graphs", "pairs.jsonl", "--format", "json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["verdict_flips"] > 0.9
    assert "verdicts flip" in result.stderr
    assert "SECRET" not in result.output


def test_limit_of_flips_can_be_set(cli, measured):
    measured.int8[:] *= -1
    assert cli("parity", "student", "graphs", "pairs.jsonl", "--max-verdict-flips", "1").exit_code == 0


def test_report_with_an_infinite_difference_is_json(cli, measured):
    measured.int8[3] = np.nan
    result = cli("parity", "student", "graphs", "pairs.jsonl", "--format", "json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["compositions"][0]["int8"]["max"] is None
    assert cli("parity", "student", "graphs", "pairs.jsonl").exit_code == 1


def test_parity_without_int8(cli, measured):
    measured.int8 = None
    result = cli("parity", "student", "graphs", "pairs.jsonl")
    assert result.exit_code == 0, result.output
    assert "int8" not in result.stdout


def test_pairs_are_chosen_by_split_and_number(cli, measured):
    assert cli("parity", "student", "graphs", "pairs.jsonl", "--split", "test", "--max-pairs", "7").exit_code == 0
    assert [pair.query for pair in measured.pairs] == [f"q{i}" for i in range(1, 15, 2)]


def test_bad_pairs_are_bad_input(cli, measured):
    assert cli("parity", "student", "graphs", "none.jsonl").exit_code == 2
    Path("empty.jsonl").write_text("")
    result = cli("parity", "student", "graphs", "empty.jsonl")
    assert result.exit_code == 2
    assert "empty.jsonl" in result.stderr


def test_unfaithful_export_is_exit_code_1(cli, monkeypatch):
    def fail(student, folder, settings):
        raise ParityError("differs by 0.3")

    monkeypatch.setattr("relgrade.pipeline.exporting.export_student", fail)
    result = cli("export", "student", "out")
    assert result.exit_code == 1
    assert "differs by 0.3" in result.stderr


def test_student_that_is_not_there():
    result = CliRunner().invoke(group, ["export", "none", "out"])
    assert result.exit_code == 2
    assert "none: a trained student was expected" in result.stderr


@pytest.mark.parametrize("architecture", ["cross-encoder", "interaction"])
@pytest.mark.parametrize("int8", [True, False])
def test_real_student_is_exported_and_measured(tmp_path, tiny_bert_folder, architecture, int8):
    settings = StudentSettings(
        architecture=architecture, base=str(tiny_bert_folder), max_tokens=64, max_query_tokens=8, train_encoder=False
    )
    student = build_student(settings, seed=0)
    rows = [{"query": "what is red", "document": text} for text in ("a red apple", "the cat", "plum and fig")]
    student.prepare([pair_from_row(row) for row in rows], cache_folder=tmp_path / "cache")
    student.save(tmp_path / "student")
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    folders = [str(tmp_path / name) for name in ("student", "graphs")]
    result = CliRunner().invoke(group, ["export", *folders, *([] if int8 else ["--no-int8"])])
    assert result.exit_code == 0, result.output
    assert "fused: Attention 2" in result.stdout
    assert ("int8.onnx" in result.stdout) == int8
    result = CliRunner().invoke(group, ["parity", *folders, str(tmp_path / "pairs.jsonl"), "--threshold", "-9"])
    assert result.exit_code == 0, result.output
    assert "3 pairs" in result.stdout
    assert ("int8" in result.stdout) == int8


@pytest.mark.parametrize("command", [export, parity])
def test_help_lists_exit_codes(command):
    assert "Exit codes" in CliRunner().invoke(command, ["--help"]).stdout
