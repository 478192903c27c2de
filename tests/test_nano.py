"""The smaller embedded grader: whole, taken by name, and of the same verdicts where they are easy."""

import pytest
from click.testing import CliRunner

from relgrade import Grader
from relgrade.cli import main
from relgrade.grade.text_vectors import TextVectors

QUESTION = "When did Voyager 2 leave the heliosphere?"
PASSAGES = (
    "Voyager 2 left the heliosphere on 5 November 2018, six years after its twin.",
    "A drone takes 24 days from egg to emergence, three more than a worker.",
    "The recipe asks for two eggs, a pound of flour and a pinch of salt.",
)


@pytest.fixture(scope="module")
def nano():
    return Grader.load("nano", n_threads=1)


def test_it_grades_as_it_did_when_it_was_made(nano):
    report = nano.verify_goldens()
    assert report.n_pairs == 16
    assert report.largest_difference < 1e-3


def test_it_is_another_grader_with_the_points_of_the_default(nano):
    default = Grader.load()
    assert nano.bundle.hash != default.bundle.hash
    assert [point.name for point in nano.operating_points] == [point.name for point in default.operating_points]
    assert [grade.relevant for grade in nano.grade(QUESTION, PASSAGES)] == [True, False, False]


@pytest.mark.parametrize("command", [("bundle", "verify", "nano"), ("bundle", "show", "nano")])
def test_commands_take_its_name(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, list(command))
    assert done.exit_code == 0, done.output
    assert "nano" in done.output


def test_it_is_calibrated_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [f'{{"query": "colour {i}", "document": "{d}", "label": {y}}}' for i in range(30) for d, y in
            ((f"colour {i} is red", 1), ("a ship left the harbour", 0))]  # fmt: skip
    (tmp_path / "pairs.jsonl").write_text("\n".join(rows))
    done = CliRunner().invoke(
        main, ["calibrate", "--bundle", "nano", "--pairs", "pairs.jsonl", "-o", "mine", "--leave-out"]
    )
    assert "no bundle here" not in done.output
    assert (tmp_path / "mine" / "bundle.json").is_file(), done.output


def test_its_vectors_are_taken_by_name():
    assert TextVectors.load("nano", n_threads=1).name != TextVectors.load(n_threads=1).name
