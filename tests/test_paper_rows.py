"""Rows end to end on a tiny BERT: trained, killed, resumed, refused."""

import json
import mmap
from dataclasses import replace

import pytest

from paper_case import settings_of, write_data
from relgrade.errors import InvalidInput, TrainingError
from relgrade.paper import scoring, trained
from relgrade.paper.memory import peak_memory
from relgrade.paper.results import read_results, render_table
from relgrade.paper.samples import pair_key, read_samples
from relgrade.paper.table import row_key, run_rows
from relgrade.student import load_student

ROWS = [
    {"name": "c", "method": "C"},
    {"name": "c-contrastive", "method": "C", "loss": "contrastive", "negatives_per_positive": 1},
    {"name": "lora", "method": "lora", "rank": 2},
    {"name": "b", "method": "B", "loss": "class-weighted"},
    {"name": "b-recipe", "method": "B", "learning_rate": 1e-2},
    {"name": "b-mean", "method": "B", "pooling": "mean"},
]


@pytest.fixture(scope="module")
def table(tmp_path_factory, tiny_bert_folder):
    return settings_of(write_data(tmp_path_factory.mktemp("data")), tiny_bert_folder, ROWS)


@pytest.fixture(scope="module")
def done(table, tmp_path_factory):
    """All rows, run once."""
    folder = tmp_path_factory.mktemp("runs")
    paths = run_rows(table, output=folder, results=folder / "results")
    return folder, paths


def test_every_row_has_its_numbers(table, done):
    _, paths = done
    rows = {row["row"]["name"]: row for row in read_results(paths)}
    assert set(rows) == {row["name"] for row in ROWS}
    measures = {"accuracy", "precision", "recall", "f1", "average_precision", "kappa", "brier", "ece"}
    for row in rows.values():
        assert row["data"]["n_train"] == 40
        assert row["cost"]["peak_memory_mb"] > 10
        assert row["cost"]["cpu_seconds_training"] >= 0
        assert row["cost"]["cpu_seconds_scoring"] >= 0
        assert all(measures <= set(reading) for reading in row["readings"])
    assert rows["c"]["cost"]["n_parameters_trained"] == rows["c"]["cost"]["n_parameters"]
    assert rows["b"]["cost"]["n_parameters_trained"] == 2 * (16 + 1)
    assert rows["b"]["cost"]["n_parameters_trained"] < rows["lora"]["cost"]["n_parameters_trained"]
    assert rows["c-contrastive"]["data"]["n_train_relevant"] == 20
    assert rows["c-contrastive"]["prior_shift"] > 0
    assert rows["b"]["prior_shift"] > 0  # the weight counts as so many more pairs


def test_a_row_that_is_done_is_not_run_again(table, done, monkeypatch):
    folder, paths = done

    def refuse(*args, **kwargs):
        raise AssertionError("a finished row was run again")

    monkeypatch.setattr("relgrade.paper.table.run_row", refuse)
    states = []
    assert (
        run_rows(table, output=folder, results=folder / "results", on_row=lambda name, state: states.append(state))
        == paths
    )
    assert states == ["unchanged"] * len(ROWS)
    changed = replace(table, rows=(replace(table.rows[0], epochs=2.0),))
    with pytest.raises(AssertionError, match="run again"):
        run_rows(changed, output=folder, results=folder / "results")


def test_what_decides_a_row_and_what_does_not(table):
    row = table.rows[0]
    key = row_key(row, table, {})
    assert row_key(row, replace(table, rows=table.rows[:1]), {}) == key
    assert row_key(row, replace(table, pairs=41), {}) != key
    assert row_key(replace(row, seed=3), table, {}) != key
    assert row_key(row, replace(table, training=replace(table.training, sharded=True)), {}) == key
    assert row_key(row, table, {table.train: "other bytes"}) != key


def test_a_killed_row_goes_on_from_its_checkpoint_and_its_scores(table, done, tmp_path, monkeypatch):
    only = replace(table, rows=table.rows[:1])
    real = scoring.score_in_pieces

    def killed(pairs, path, score, **options):
        real(pairs[:8], path, score)
        raise KeyboardInterrupt

    monkeypatch.setattr(scoring, "score_in_pieces", killed)
    with pytest.raises(KeyboardInterrupt):
        run_rows(only, output=tmp_path, results=tmp_path / "results")
    monkeypatch.setattr(scoring, "score_in_pieces", real)
    scored = []
    (path,) = run_rows(
        only, output=tmp_path, results=tmp_path / "results", on_piece=lambda what, done, total: scored.append(done)
    )
    again, whole = json.loads(path.read_text()), json.loads(done[1][0].read_text())
    assert again["readings"] == whole["readings"]
    assert again["cost"]["steps"] == whole["cost"]["steps"]
    assert (whole["cost"]["starts"], again["cost"]["starts"]) == (1, 2)
    assert scored[0] > 8  # the first eight were not scored twice


@pytest.mark.parametrize("name", ["c", "lora", "b", "b-recipe"])
def test_a_kept_student_gives_the_scores_of_its_row(table, done, tmp_path, name):
    (row,) = (row for row in table.rows if row.name == name)
    samples, ignored = read_samples(table), lambda what, done, total: None
    made = trained.train_and_score(row, table, samples, folder=tmp_path, shared=tmp_path, on_piece=ignored)
    pairs = samples.judged()
    expected = [made.logits[pair_key(pair)] for pair in pairs]
    close = 1e-3 * (max(expected) - min(expected))  # so tiny a model says almost the same of all pairs
    (run,) = (done[0] / "rows").glob(f"{name}-????????")
    for folder in (tmp_path, run):
        assert load_student(folder / "student").score(pairs) == pytest.approx(expected, abs=close, rel=0.0)


def test_the_table_names_rule_and_test(done):
    _, paths = done
    rows = read_results([paths[0].parent])
    text = render_table(rows, test="test", rule="argmax")
    assert text.count("\n") == 1 + len(ROWS)
    assert "| tiny | c | argmax |" in text
    with pytest.raises(InvalidInput, match=r"no reading of 'other'.*tests: \['test'\]"):
        render_table(rows, test="other")


def test_a_row_that_is_not_there(table, tmp_path):
    with pytest.raises(InvalidInput, match="has no row d; it has c, c-contrastive"):
        run_rows(table, output=tmp_path, results=tmp_path, only=["d"])


def test_a_diverged_run_stops_and_names_its_last_checkpoint(table, tmp_path):
    training = replace(table.training, learning_rate=1e12, max_steps=12, max_gradient_norm=1e9, checkpoint_steps=1)
    wild = replace(table, rows=table.rows[:1], training=training)
    with pytest.raises(TrainingError, match=r"not finite|is nan|is inf") as caught:
        run_rows(wild, output=tmp_path, results=tmp_path / "results")
    assert "the last good checkpoint is" in str(caught.value)
    assert list(tmp_path.glob("rows/*/fit/checkpoint-*/seal.json"))
    assert not list((tmp_path / "results").glob("*.json"))


@pytest.mark.parametrize(
    ("name", "remedy"), [("lora", "Adapters want a higher rate"), ("c", "Raise the learning rate")]
)
def test_a_row_that_learned_nothing_says_so(table, tmp_path, name, remedy):
    training = replace(table.training, learning_rate=1e-9, max_steps=12)
    timid = replace(table, training=training)
    told = []
    (path,) = run_rows(
        timid, output=tmp_path, results=tmp_path, only=[name], on_row=lambda name, state: told.append((name, state))
    )
    (sentence,) = json.loads(path.read_text())["diagnoses"]
    assert sentence.startswith("little or nothing learned: the loss ends at")
    assert remedy in sentence
    assert told == [(name, "running"), (name, "done"), (name, sentence)]


def test_too_little_memory_is_told_before_training(table, tmp_path, monkeypatch):
    monkeypatch.setattr(trained, "available_memory", lambda: 0.5)
    monkeypatch.setattr(trained, "fit", lambda *args, **options: pytest.fail("training started"))
    with pytest.raises(
        TrainingError, match=r"weights .* gradients .* activations .* free\. Lower training\.batch_tokens"
    ):
        run_rows(table, output=tmp_path, results=tmp_path, only=["c"])


def test_the_peak_of_a_block_is_its_own():
    # Not from the heap, which keeps what is freed; and written to, so that it is resident and not only promised.
    with peak_memory() as first, mmap.mmap(-1, 64 * 2**20) as big:
        big.write(b"\1" * len(big))
    with peak_memory() as second:
        pass
    assert first.mb >= 64
    if first.of == "process":
        assert first.mb - second.mb > 48
