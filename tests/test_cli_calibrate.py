"""`relgrade calibrate`: pairs or scores in, a bundle or a file out, and a clear end where nothing can be promised."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from fake_runtime import fake_bundle, fake_logit
from relgrade.bundle import CALIBRATION_QUERIES_NAME, load_bundle, prints_from_bytes, query_print
from relgrade.calibrate import selection
from relgrade.cli import main
from relgrade.errors import BundleCorrupt
from relgrade.grade.grader import Grader
from relgrade.grade.runtimes import RUNTIMES
from relgrade.probability import sigmoid


def make_rows(n_queries=150, *, per_query=5, seed=0):
    """Labels that the fake model's logits know well, but not surely."""
    generator = np.random.default_rng(seed)
    rows = []
    for i in range(n_queries):
        for j in range(per_query):
            query, document = f"question {seed}-{i}", f"passage {j} of {i}"
            label = int(generator.random() < sigmoid(1.6 * fake_logit(query, document) - 1.0))
            row = {"query_id": f"q{i}", "query": query, "doc_id": f"{i}-{j}", "document": document, "label": label}
            rows.append({**row, "source": "wiki" if i % 3 else "news", "kind": "x"})
    return rows


def write(path, rows):
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def scores(rows):
    return [
        {
            "logit": fake_logit(row["query"], row["document"]),
            **{key: row[key] for key in ("query_id", "doc_id", "label")},
        }
        for row in rows
    ]


@pytest.fixture
def cli(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(selection, "N_DRAWS", 10)
    monkeypatch.setitem(RUNTIMES, "cross-encoder", ("fake_runtime", "FakeRuntime"))
    fake_bundle(tmp_path / "old", provenance={"metrics": {"ap": 0.5}, "seed": 3})
    write("pairs.jsonl", make_rows())

    def run(*arguments, code=0):
        result = CliRunner().invoke(main, ["calibrate", *map(str, arguments)])
        assert result.exit_code == code, result.output
        return result.stdout if code == 0 else result.stderr

    return run


def test_pairs_become_a_bundle_with_points(cli):
    text = cli(
        "--bundle", "old", "--pairs", "pairs.jsonl", "-o", "new", "--by", "source", "--label-source", "two people"
    )
    assert "high-precision: threshold" in text
    assert "precision >= 0.8 at delta 0.1" in text
    grader = Grader.load("new", operating_point="high-precision")
    manifest = grader.bundle.manifest
    assert [point.name for point in manifest.operating_points] == ["balanced", "high-precision", "high-recall"]
    assert grader.operating_point.promise.target == 0.8
    assert grader.operating_point.evidence["label_source"] == "two people"
    assert manifest.provenance["recalibrated"]["from"] == load_bundle("old").hash
    assert (manifest.provenance["seed"], "metrics" in manifest.provenance) == (3, False)
    assert {member.value for member in manifest.collections.members} == {"wiki", "news"}
    assert grader.verify_goldens().n_pairs == 2
    assert "of the documents kept, at least 80 % are relevant" in Path("new/README.md").read_text()
    graded = grader.grade("question 0-1", [{"text": "passage 0 of 1", "source": "news"}])
    assert graded[0].collection == "news"
    assert graded.any_relevant_probability is not None
    prints = prints_from_bytes(Path("new", CALIBRATION_QUERIES_NAME).read_bytes())
    assert len(prints) == 150
    assert query_print("Question 0-7?") in prints


def test_pairs_and_their_scores_give_the_same(cli):
    cli("--bundle", "old", "--pairs", "pairs.jsonl", "-o", "one")
    rows = make_rows()
    write("scores.jsonl", [{**scored, "source": row["source"]} for scored, row in zip(scores(rows), rows, strict=True)])
    cli("--bundle", "old", "--scores", "scores.jsonl", "-o", "two")
    one, two = load_bundle("one").manifest, load_bundle("two").manifest
    assert one.calibration == two.calibration
    assert one.operating_points == two.operating_points
    assert CALIBRATION_QUERIES_NAME not in two.files  # a file of scores has no queries in it
    cli("scores.jsonl", "-o", "calibration.json")
    assert json.loads(Path("calibration.json").read_text())["operating_points"][0]["name"] == "balanced"


def test_a_query_counts_for_as_many_documents_as_asked(cli):
    cli("--bundle", "old", "--pairs", "pairs.jsonl", "-o", "new", "--max-per-query", "2")
    for point in load_bundle("new").manifest.operating_points:
        expected = 2 if point.promise else None
        assert point.evidence.get("max_per_query") == expected


def test_without_output_nothing_is_written(cli, tmp_path):
    before = sorted(tmp_path.iterdir())
    assert "balanced: threshold" in cli("--bundle", "old", "--pairs", "pairs.jsonl")
    assert sorted(tmp_path.iterdir()) == before


def test_another_bundle_is_replaced_only_when_asked(cli):
    hash_before = load_bundle("old").hash
    error = cli("--bundle", "old", "--pairs", "pairs.jsonl", "-o", "old", code=2)
    assert "holds another bundle" in error
    assert load_bundle("old").hash == hash_before
    cli("--bundle", "old", "--pairs", "pairs.jsonl", "-o", "old", "--overwrite")
    assert load_bundle("old").manifest.provenance["recalibrated"]["from"] == hash_before


def test_a_promise_that_cannot_be_kept_ends_with_what_would_help(cli):
    arguments = ["--bundle", "old", "--pairs", "pairs.jsonl", "-o", "new", "--precision", "0.999"]
    error = cli(*arguments, code=1)
    assert "no point high-precision: no threshold is known to keep precision >= 0.999" in error
    assert "label about" in error or "ask for" in error
    assert "nothing is written" in error
    assert not Path("new").exists()
    cli(*arguments, "--leave-out")
    manifest = load_bundle("new").manifest
    assert [point.name for point in manifest.operating_points] == ["balanced", "high-recall"]
    assert manifest.left_out_points[0]["name"] == "high-precision"
    assert "There is no point high\\-precision" in Path("new/README.md").read_text()


def test_options_add_points_and_change_targets(cli):
    cli(
        "--bundle", "old", "--pairs", "pairs.jsonl", "-o", "new", "--recall", 0.8, "--lost-queries", 0.3, "--delta", 0.2
    )
    promises = {point.name: point.promise for point in load_bundle("new").manifest.operating_points}
    assert promises["balanced"] is None
    assert (promises["high-recall"].target, promises["high-recall"].delta) == (0.8, 0.2)
    assert (promises["few-lost"].kind, promises["few-lost"].target) == ("lost-queries", 0.3)


def test_a_recipe_names_other_points(cli):
    Path("recipe.toml").write_text('[[points]]\nname = "mine"\nkind = "recall"\ntarget = 0.7\n')
    cli("--bundle", "old", "--pairs", "pairs.jsonl", "-o", "new", "--config", "recipe.toml")
    manifest = load_bundle("new").manifest
    assert [point.name for point in manifest.operating_points] == ["mine"]
    assert manifest.default_point == "mine"
    Path("recipe.toml").write_text('[[points]]\nname = "high-recall"\nkind = "precision"\ntarget = 0.7\n')
    error = cli("--pairs", "pairs.jsonl", "--bundle", "old", "--config", "recipe.toml", "--recall", 0.5, code=2)
    assert "the point high-recall of the recipe is precision, not recall" in error


def test_graded_labels_need_a_cut(cli):
    rows = [{**row, "label": row["label"] * 0.7} for row in make_rows()]
    write("soft.jsonl", rows)
    assert "say from which label on" in cli("--bundle", "old", "--pairs", "soft.jsonl", code=2)
    assert "balanced" in cli("--bundle", "old", "--pairs", "soft.jsonl", "--cut", 0.5)
    write("graded.jsonl", [{**row, "label": None, "grade": 3 * row["label"]} for row in make_rows()])
    cli("--bundle", "old", "--pairs", "graded.jsonl", "--cut", 2, "-o", "graded")
    cli("--bundle", "old", "--pairs", "pairs.jsonl", "-o", "plain")
    assert load_bundle("graded").manifest.operating_points == load_bundle("plain").manifest.operating_points


def test_a_base_rate_moves_the_probabilities(cli):
    cli("--bundle", "old", "--pairs", "pairs.jsonl", "-o", "new", "--base-rate", 0.02)
    assert load_bundle("new").manifest.calibration.prevalence == 0.02


def test_queries_of_the_test_are_refused(cli):
    write("test.jsonl", [{**row, "query": row["query"].upper() + "?"} for row in make_rows()[:5]])
    error = cli("--bundle", "old", "--pairs", "pairs.jsonl", "-o", "new", "--apart-from", "test.jsonl", code=2)
    assert "1 calibration queries stand in test.jsonl too" in error
    assert not Path("new").exists()
    write("test.jsonl", make_rows(seed=1)[:5])
    cli("--bundle", "old", "--pairs", "pairs.jsonl", "-o", "new", "--apart-from", "test.jsonl")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one of them; got 0"),
        (["scores.jsonl", "--pairs", "pairs.jsonl"], "one of them; got 2"),
        (["scores.jsonl", "--apart-from", "pairs.jsonl"], "--apart-from needs --pairs"),
        (["scores.jsonl", "--by", "kind"], "a file of scores has no field 'kind'"),
        (["--pairs", "pairs.jsonl", "--bundle", "nowhere"], "no bundle here; a folder with a bundle.json was expected"),
        (["--pairs", "pairs.jsonl", "--bundle", "org/name"], "a Hub id cannot stand here"),
        (["--pairs", "pairs.jsonl", "--bundle", "old", "--by", "colour"], "no pair has a field 'colour'"),
        (["--pairs", "one.jsonl", "--bundle", "old"], "have the label 1"),
        (["--pairs", "few.jsonl", "--bundle", "old"], "at least 50 labelled pairs of 20 queries"),
        (["missing.jsonl"], "missing.jsonl:2: `logit` must be a number"),
        (["scores.jsonl", "--precision", "1"], "--precision"),
    ],
)
def test_bad_input_is_one_line(cli, arguments, message):
    rows = make_rows(60)
    write("scores.jsonl", scores(rows))
    write("missing.jsonl", [scores(rows)[0], {**scores(rows)[1], "logit": None}])
    write("one.jsonl", [{**row, "label": 1} for row in rows])
    write("few.jsonl", rows[:40])
    error = cli(*arguments, code=2)
    assert message in error
    assert "Traceback" not in error


def test_fingerprints_are_checked():
    with pytest.raises(BundleCorrupt, match=r"calibration-queries\.txt:2: 16 hexadecimal digits"):
        prints_from_bytes(b"0123456789abcdef\nthe query itself\n")
    assert prints_from_bytes(b"") == frozenset()
