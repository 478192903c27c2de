import json

import numpy as np
import pytest

pytest.importorskip("scipy")
from benchmarks import guarantee, real_splits
from benchmarks.cells import HOPELESS, run_cell, special_cells
from benchmarks.naive import by_documents, by_point
from benchmarks.simulation import LEVELS, LONGEST, SHORTEST, Cell, Drawn, levels_of, populate

from relgrade.calibrate.queries import LabelledQueries
from relgrade.errors import InvalidData
from relgrade.records import Promise


@pytest.fixture(scope="module")
def population():
    return populate(Cell(base_rate=0.2, seed=1), n_queries=400)


def flat(population, rows):
    """The same calibration queries, as pairs."""
    drawn_kept, drawn_found = population.kept[rows].astype(int), population.found[rows].astype(int)
    at = -np.diff(drawn_kept, append=0), -np.diff(drawn_found, append=0)
    query, level = np.nonzero(at[0])
    relevant = at[1][query, level]
    pairs = [
        (q, lev, int(i < r))
        for q, lev, r, n in zip(query, level, relevant, at[0][query, level], strict=True)
        for i in range(n)
    ]
    query, level, label = np.array(pairs).T
    return LabelledQueries(level / LEVELS, label.astype(bool), query, rows.size)


def test_a_population_is_as_ordered(population):
    lengths = population.kept[:, 0]
    assert (lengths.min(), lengths.max()) == (SHORTEST, LONGEST)
    assert population.found[:, 0].sum() / lengths.sum() == pytest.approx(0.2, abs=0.02)
    assert (population.found <= population.kept).all()
    precision = population.truth("precision")
    assert precision[0] == pytest.approx(0.2, abs=0.02)
    assert precision[LEVELS * 9 // 10] > 0.8
    assert (np.diff(population.truth("recall")) <= 0).all()
    assert (np.diff(population.truth("lost-queries")) >= 0).all()
    assert (np.diff(population.truth("false-keeps")) <= 0).all()


def test_what_is_drawn_answers_like_labelled_pairs(population):
    drawn = Drawn(population, np.random.default_rng(0).integers(0, 400, 50))
    pairs = flat(population, drawn.rows)
    thresholds = np.array([3, 100, 250, 380]) / LEVELS
    for first, second in zip(drawn.kept_at(thresholds), pairs.kept_at(thresholds), strict=True):
        assert (first == second).all()
    assert (drawn.relevant_probabilities == pairs.relevant_probabilities).all()
    assert (drawn.n_relevant_of == pairs.n_relevant_of).all()
    assert (drawn.n_queries, drawn.longest) == (pairs.n_queries, pairs.longest)
    for relevant_only in (True, False):
        best, expected = (each.best_of(relevant_only=relevant_only) for each in (drawn, pairs))
        assert (np.maximum(best, -1 / LEVELS) == np.maximum(expected, -1 / LEVELS)).all()


def test_naive_choices_are_what_they_say(population):
    drawn = Drawn(population, np.arange(60))
    kept, found = drawn.sums
    level = levels_of(by_point(drawn, Promise("precision", 0.8)))
    assert found[level] >= 0.8 * kept[level]
    assert (found[:level] < 0.8 * kept[:level]).all()
    level = levels_of(by_point(drawn, Promise("recall", 0.8)))
    assert found[level] >= 0.8 * found[0] > found[level + 1]
    stats = pytest.importorskip("scipy.stats")
    level = levels_of(by_documents(drawn, Promise("precision", 0.8, 0.1)))
    bound = stats.beta.ppf(0.1, found[level], kept[level] - found[level] + 1)
    assert 0.8 <= bound < 0.83


def test_a_cell_counts_what_was_broken():
    population = populate(special_cells(0)[HOPELESS], n_queries=400)
    rows = run_cell(HOPELESS, population, 60, 15, 0, lambda: None)
    assert {row["method"] for row in rows} == {"certify", "documents as units", "point estimate"}
    for row in rows:
        assert row["kind"] == "precision"
        assert row["broken"] <= row["returned"]
        if row["method"] == "certify":
            assert row["broken"] <= 2 / 15
    assert max(row["broken"] for row in rows) > 0.5  # the point estimate believes what it sees


def run(tmp_path, capsys, *more):
    places = f"--cache {tmp_path}/cache --output {tmp_path}/out.json --population 200 --draws 2 --power-draws 0 --quiet"
    assert guarantee.main([*places.split(), *more]) == 0
    printed = capsys.readouterr().out
    return printed, json.loads(printed.splitlines()[-1]), json.loads((tmp_path / "out.json").read_text())


def scores_file(path, n_queries=80):
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        for query in range(n_queries):
            for place in range(4):
                label = int(place == 0 and query % 4 > 0)
                row = {"query_id": f"q{query}", "source": "quiz", "label": label, "probability": 0.2 + 0.6 * label}
                row["probability"] += float(rng.uniform(0, 0.15))
                file.write(json.dumps(row) + "\n")
    return path


def test_tables_json_line_and_report_agree(tmp_path, capsys):
    printed, summary, report = run(
        tmp_path, capsys, "--scores", str(scores_file(tmp_path / "scores.jsonl")), "--splits", "3"
    )
    assert summary == report["summary"]
    assert summary["n_cells"] == sum(row["method"] == "certify" for row in report["simulation"])
    assert "broken promises" in printed
    assert "power at delta 0.1" in printed
    assert {row["source"] for row in report["real"]} == {"quiz"}
    point = next(row for row in report["real"] if row["kind"] == "lost-queries" and row["method"] == "certify")
    assert (point["returned"], point["falls_short"], point["n_queries"]) == (1.0, 0.0, 40)
    # Finished cells are read, not computed.
    for path in (tmp_path / "cache").glob("*.json"):
        rows = json.loads(path.read_text())
        path.write_text(json.dumps([{**row, "returned": 0.125} for row in rows]))
    assert {row["returned"] for row in run(tmp_path, capsys)[2]["simulation"]} == {0.125}


def test_shares_of_real_collections_are_those_of_the_definition(tmp_path):
    scored = real_splits.read_scores(scores_file(tmp_path / "scores.jsonl"))["quiz"]
    assert scored.share("precision", 0.5, limit=None) == 1.0
    assert scored.share("precision", 0.0, limit=None) == pytest.approx(60 / 320)
    assert scored.share("precision", 0.0, limit=1) == pytest.approx(60 / 320)  # lists are of one length
    assert scored.share("recall", 0.5, limit=None) == 1.0
    assert scored.share("lost-queries", 0.99, limit=None) == 1.0
    assert scored.share("false-keeps", 0.5, limit=None) == 0.0
    assert scored.share("precision", 0.99, limit=None) is None


@pytest.mark.parametrize("text", ["", '{"query_id": "a"}\n', "[]\n", "no\n"])
def test_files_that_hold_no_scores_are_refused(tmp_path, text):
    (tmp_path / "scores.jsonl").write_text(text)
    with pytest.raises(InvalidData):
        real_splits.read_scores(tmp_path / "scores.jsonl")
