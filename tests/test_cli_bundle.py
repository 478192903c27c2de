from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from fake_grader import FakeGrader
from relgrade.cli import main
from relgrade.cli.bundle import describe
from relgrade.errors import BundleCorrupt, BundleIncomplete, BundleTooNew, GradingError, ParityError, UnsafeBundle
from relgrade.grade.grader import GoldenReport
from relgrade.records import Calibration, OperatingPoint

REPORT = GoldenReport(n_pairs=16, largest_difference=0.002, worst=3)


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """Runs `relgrade bundle`; `outcome` is what loading or verifying does."""
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "bundle.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)

    def run(*arguments, error=None, at="verify", answer=REPORT, manifest=None):
        def load(path, **_options):
            if error and at == "load":
                raise error
            grader = FakeGrader()
            grader.bundle = SimpleNamespace(hash="a" * 64, manifest=manifest)
            grader.verify_goldens = verify
            return grader

        def verify():
            if error:
                raise error
            return answer

        monkeypatch.setattr("relgrade.cli.bundle.load_grader", load)
        return CliRunner().invoke(main, ["bundle", *arguments])

    return run


@pytest.mark.parametrize("arguments", [["verify", "b"], ["verify"]])
def test_a_whole_bundle_is_code_0(cli, arguments):
    result = cli(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "16 golden pairs are as they were made, largest logit difference 0.002" in result.stdout


@pytest.mark.parametrize(
    ("error", "at", "code"),
    [
        (BundleCorrupt("model.onnx: other bytes"), "load", 1),
        (BundleIncomplete("model.onnx: not there"), "load", 1),
        (UnsafeBundle("weights.pkl: pickle"), "load", 1),
        (ParityError("golden 3: off by 0.2"), "verify", 1),
        (GradingError("golden 3: nan", index=3), "verify", 1),
        (BundleTooNew("schema 9"), "load", 2),
    ],
)
def test_what_differs_is_one_line_and_code_1(cli, error, at, code):
    result = cli("verify", "b", error=error, at=at)
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", f"relgrade: {error}\n")


def test_an_answer_that_is_not_understood_does_not_pass(cli):
    assert cli("verify", "b", answer=0.7).exit_code == 3


@pytest.mark.parametrize("command", ["show", "verify"])
@pytest.mark.parametrize("path", ["nowhere", "empty", "nanoo", "org/name", "a" * 300])
def test_no_bundle_is_bad_input(cli, command, path):
    result = cli(command, path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no bundle here" in result.stderr
    assert "the name of an embedded one (default, nano)" in result.stderr
    assert ("Hub id" in result.stderr) == ("/" in path)


def test_show_prints_the_manifest_and_nothing_that_drives_the_terminal(cli):
    manifest = {
        "name": "evil \x1b[31m",
        "licence": None,
        "calibration": Calibration("platt", 2.0, 0.5, {"n_queries": 30}),
        "operating_points": (OperatingPoint("balanced", 0.4), OperatingPoint("strict", 0.8)),
        "template": {"prefix": list(range(20))},
    }
    result = cli("show", "b", manifest=manifest)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"hash: {'a' * 64}",
        "name: evil \\x1b[31m",
        "licence: -",
        "calibration:",
        "  method: platt",
        "  slope: 2.0",
        "  intercept: 0.5",
        "  evidence:",
        "    n_queries: 30",
        "  knots:",
        "  prevalence: -",
        "operating_points:",
        "  - name: balanced",
        "    threshold: 0.4",
        "    evidence:",
        "    promise: -",
        "  - name: strict",
        "    threshold: 0.8",
        "    evidence:",
        "    promise: -",
        "template:",
        "  prefix: 0, 1, 2, 3, 4, 5, 6, 7 ... (20 in all)",
    ]


def test_lists_of_nothing_are_shown_as_nothing():
    assert list(describe({"a": [], "b": [{}]})) == ["a:", "b:"]
