"""Tables of the paper: every one that ships can be read, and what cannot be run is refused at once."""

import re
import shutil
from pathlib import Path

import pytest

from relgrade.errors import InvalidSettings
from relgrade.label.rubric import read_rubric
from relgrade.paper.job import row_training
from relgrade.paper.settings import PaperSettings, RowSettings

FOLDER = Path(__file__).parent.parent / "recipes"
PATHS = sorted(FOLDER.glob("*-paper.toml"))


def test_the_presets_are_there():
    names = {path.name for path in PATHS}
    assert names >= {
        "gemma-3-270m-paper.toml",
        "llama-3.2-1b-24gb-paper.toml",
        "llama-3.2-1b-multi-gpu-paper.toml",
        "llama-3.2-1b-paper.toml",
        "minilm-paper.toml",
    }


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_a_table_that_ships(path, tmp_path):
    table = PaperSettings.read(path, data_folder=tmp_path)
    assert Path(table.train).parent == tmp_path
    assert {test.name for test in table.tests} == {"multihop_rag", "multihop_rag_top20"}
    assert table.student.n_labels == 2
    for row in table.rows:
        row_training(row, table.training)  # refuses what does not go together
        assert row.method not in ("A", "stock") or table.student.template == "pass-fail"


@pytest.mark.parametrize("name", ["gemma-3-270m-paper.toml", "llama-3.2-1b-paper.toml"])
def test_the_judge_that_a_table_offers_can_be_asked(name, tmp_path):
    text = (FOLDER / name).read_text(encoding="utf-8")
    active = re.sub(r"(?m)^# (\[\[rows\]\]|[a-z_]+ = )", r"\1", text)  # what is commented out, but for its prose
    (tmp_path / name).write_text(active, encoding="utf-8")
    shutil.copytree(FOLDER / "rubrics", tmp_path / "rubrics")
    (judge,) = (row for row in PaperSettings.read(tmp_path / name).rows if row.method == "judge")
    rubric = read_rubric(judge.rubric)
    assert rubric.words == ("PASS", "FAIL")  # what the paper's readings count
    assert rubric.methods == ("text",)


@pytest.mark.parametrize("path", [path for path in PATHS if path.name.startswith("llama")], ids=lambda path: path.name)
def test_the_llama_tables_have_the_papers_settings(path):
    table = PaperSettings.read(path)
    training, student = table.training, table.student
    n_gpus = 4 if "multi-gpu" in path.name else 1
    assert student.base == "meta-llama/Llama-3.2-1B-Instruct"
    assert (student.template, student.max_tokens, student.n_labels) == ("pass-fail", 512, 2)
    assert training.batch_pairs * training.accumulation * n_gpus == 40
    assert training.batch_tokens >= training.batch_pairs * student.max_tokens  # no batch is cut below 40 pairs
    assert (training.learning_rate, training.floor, training.epochs, training.bf16) == (2e-5, 0.1, 3, "on")


def test_the_llama_table_has_every_configuration_of_the_paper():
    rows = PaperSettings.read(FOLDER / "llama-3.2-1b-paper.toml").rows
    assert {row.method for row in rows} == {"stock", "A", "B", "C", "lora"}
    assert {row.rank for row in rows if row.method == "lora"} == {4, 16, 64}
    assert {row.loss for row in rows if row.method == "C"} == {
        "cross-entropy",
        "contrastive",
        "focal",
        "class-weighted",
    }
    assert {row.negatives_per_positive for row in rows} == {None, 1.0, 2.0, 4.0}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"name": "J", "method": "judge"}, "lower-case"),
        ({"name": "j", "method": "judge"}, "needs url and model"),
        ({"name": "a", "method": "A", "loss": "focal"}, "trained on words by cross-entropy"),
        ({"name": "c", "method": "C", "learning_rate": 0.0}, "must be > 0"),
        ({"name": "l", "method": "lora", "rank": 0}, "must be >= 1"),
        ({"name": "c", "method": "C", "epochs": float("inf")}, "must be > 0, got inf"),
        ({"name": "c", "method": "C", "pairs": 1}, r"rows\.pairs of c must be >= 2, one of either kind, got 1"),
        ({"name": "c", "method": "C", "seed": -1}, r"rows\.seed of c must be >= 0 and below 2\*\*32, got -1"),
        ({"name": "c", "method": "C", "seed": 2**32}, r"must be >= 0 and below 2\*\*32"),
        ({"name": "b", "method": "B", "epochs": 2.0}, "fitted to the end unless learning_rate is set, and epochs"),
        ({"name": "b", "method": "B", "loss": "contrastive"}, "set learning_rate"),
        ({"name": "b", "method": "B", "head_learning_rate": 1e-3}, "and head_learning_rate would not be read"),
        ({"name": "a", "method": "A", "head_learning_rate": 1e-3}, "does not read head_learning_rate; .* B, C, lora"),
        ({"name": "c", "method": "C", "pooling": "mean"}, "row c: method C does not read pooling; .* does: B"),
        ({"name": "b", "method": "B", "alpha": 8.0}, "method B does not read alpha; .* does: lora"),
        ({"name": "c", "method": "C", "rank": 8}, "method C does not read rank"),
        ({"name": "stock", "method": "stock", "pairs": 40}, "method stock does not read pairs; .* A, B, C, lora"),
        ({"name": "c", "method": "C", "url": "http://localhost"}, "method C does not read url; .* does: judge"),
    ],
)
def test_a_row_that_makes_no_sense(row, message):
    with pytest.raises(InvalidSettings, match=message):
        RowSettings(**row)


@pytest.mark.parametrize(
    "row",
    [
        {"method": "B", "epochs": 2.0, "learning_rate": 1e-3, "head_learning_rate": 1e-2, "pooling": "mean", "seed": 0},
        {"method": "B", "loss": "contrastive", "learning_rate": 1e-3},
        {"method": "lora", "alpha": 8.0, "rank": 4, "head_learning_rate": 1e-3, "pairs": 2},
        {"method": "C", "rank": 16, "pooling": "model", "seed": 2**32 - 1},  # defaults, which cannot be told from none
    ],
)
def test_a_row_that_makes_sense(row):
    assert RowSettings(name="x", **row).method == row["method"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("seed = -1", r"tiny\.toml: seed must be >= 0 and below 2\*\*32, got -1"),
        ("n_draws = 0", "n_draws must be >= 1"),
    ],
)
def test_a_table_that_makes_no_sense(tmp_path, line, message):
    text = (FOLDER / "minilm-paper.toml").read_text(encoding="utf-8").replace("seed = 0\n", "")
    path = tmp_path / "tiny.toml"
    path.write_text(f"{line}\n{text}", encoding="utf-8")
    with pytest.raises(InvalidSettings, match=message):
        PaperSettings.read(path)


def test_an_unknown_key_names_the_file_and_what_was_meant(tmp_path):
    path = tmp_path / "x-paper.toml"
    path.write_text('name = "x"\ntrain = "t.jsonl"\nrow = []\n', encoding="utf-8")
    with pytest.raises(InvalidSettings, match=r"x-paper\.toml: unknown setting row; did you mean rows"):
        PaperSettings.read(path)


def test_two_rows_of_one_name(tmp_path):
    text = (FOLDER / "minilm-paper.toml").read_text(encoding="utf-8")
    path = tmp_path / "twice.toml"
    path.write_text(text + '\n[[rows]]\nname = "c"\nmethod = "C"\n', encoding="utf-8")
    with pytest.raises(InvalidSettings, match="two rows have one name"):
        PaperSettings.read(path)
