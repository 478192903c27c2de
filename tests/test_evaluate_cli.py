"""`relgrade evaluate` on small files, with a grader that has no model."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from relgrade.bundle import CALIBRATION_QUERIES_NAME, prints_to_bytes
from relgrade.cli import evaluate as command
from relgrade.cli import main
from relgrade.probability import calibrated_probability
from relgrade.records import Calibration, CollectionPoints, Collections, Grade, ListCalibration, OperatingPoint

jsonschema = pytest.importorskip("jsonschema")
CALIBRATION = Calibration(method="platt", slope=2.0, intercept=-1.0)
WORDS = ["apple", "pear", "plum", "fig", "grape", "melon", "lemon", "peach"]


class FakeGrader:
    """Logit: how often the document has the query's first word, minus one."""

    def __init__(self, *, name="fake", threshold=0.5, sign=1.0, collections=None, any_relevant=None, calibrated_on=()):
        manifest = SimpleNamespace(
            name=name,
            calibration=CALIBRATION,
            architecture="cross-encoder",
            provenance={},
            collections=collections,
            any_relevant=any_relevant,
            files={CALIBRATION_QUERIES_NAME: "present"} if calibrated_on else {},
        )
        self.bundle = SimpleNamespace(
            hash=(name * 64)[:64], manifest=manifest, read_bytes=lambda _: prints_to_bytes(calibrated_on)
        )
        self.operating_point = OperatingPoint("balanced", threshold)
        self.sign = sign

    def grade_pairs(self, pairs):
        for index, pair in enumerate(pairs):
            logit = self.sign * (pair.document.split().count(pair.query.split()[0]) - 1.0)
            p = float(calibrated_probability(CALIBRATION, [logit])[0])
            kept = p >= self.operating_point.threshold
            yield Grade(index, logit, p, kept, "balanced", False, 1)


@pytest.fixture(autouse=True)
def graders(monkeypatch):
    """Bundles by name; `asked` says which point was wanted."""
    known = {None: FakeGrader(), "old": FakeGrader(name="old", sign=-1.0), "same": FakeGrader()}
    asked = []

    def load(bundle, *, operating_point, revision, threads):
        asked.append((bundle, operating_point))
        return known[bundle]

    monkeypatch.setattr(command, "load_grader", load)
    return SimpleNamespace(known=known, asked=asked)


def pair_rows(seed=0, n_queries=24, prefix="q"):
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(n_queries):
        word = WORDS[number % len(WORDS)]
        for position in range(4):
            label = int(position == 0 and number % 6 != 5)
            n_hits = int(generator.integers(1, 4)) if label else int(generator.integers(0, 2))
            filler = " ".join(generator.choice([each for each in WORDS if each != word], 4))
            rows.append(
                {
                    "query_id": f"{prefix}{number}",
                    "query": f"{word} {prefix} {number}",
                    "doc_id": f"{prefix}{number}-{position}",
                    "document": f"{word} " * n_hits + filler,
                    "label": label,
                    "domain": "fruit" if number % 2 else "<b>trees</b>",
                }
            )
    return rows


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def pairs(tmp_path):
    return write(tmp_path / "test.jsonl", pair_rows())


def run(*arguments, code=0):
    result = CliRunner().invoke(main, ["evaluate", "--draws", "20", *map(str, arguments)])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def read_report(tmp_path, *arguments):
    run(*arguments, "--json", tmp_path / "report.json")
    return json.loads((tmp_path / "report.json").read_text())


def score_rows(rows, **more):
    grader = FakeGrader()
    found = []
    for row in rows:
        grade = next(grader.grade_pairs([SimpleNamespace(**row)]))
        found.append(
            {"query_id": row["query_id"], "doc_id": row["doc_id"], "label": row["label"], "logit": grade.logit}
        )
        found[-1] |= {name: function(grade) for name, function in more.items()}
    return found


def test_a_report_and_a_page_are_written(tmp_path, pairs):
    page = tmp_path / "new" / "report.html"
    result = run("--pairs", pairs, "--by", "domain", "--html", page, "--json", tmp_path / "r.json")
    report = json.loads((tmp_path / "r.json").read_text())
    names = [each["name"] for each in report["contenders"]]
    assert names == ["fake", "keep everything", "BM25"]
    assert report["data"] | {"n_pairs": 96, "n_queries": 24, "n_unanswerable": 4} == report["data"]
    assert "&lt;b&gt;trees&lt;/b&gt;" in page.read_text()
    assert "<b>trees" not in page.read_text()
    assert "bootstrap draws of 24 queries" in result.output
    assert {member["value"] for member in report["slices"][0]["members"]} == {"fruit", "<b>trees</b>"}
    kept = [row for row in pair_rows() if row["document"].split().count(row["query"].split()[0]) >= 1.5]
    expected = np.mean([row["label"] for row in kept])
    assert report["contenders"][0]["evaluation"]["precision"]["value"] == pytest.approx(expected)


def test_a_baseline_has_no_threshold_without_calibration_pairs(tmp_path, pairs):
    alone = read_report(tmp_path, "--pairs", pairs)["contenders"][2]
    assert alone["evaluation"]["average_precision"]["value"] is not None
    assert alone["evaluation"]["precision"]["reason"] == "no threshold was chosen for it"
    assert "--calibration-pairs" in alone["note"]
    others = write(tmp_path / "other.jsonl", pair_rows(1, prefix="c"))
    calibrated = read_report(tmp_path, "--pairs", pairs, "--calibration-pairs", others)["contenders"][2]
    assert calibrated["evaluation"]["threshold"] is not None
    assert calibrated["evaluation"]["precision"]["value"] is not None
    assert "24 calibration queries" in calibrated["note"]


def test_a_baseline_that_ranks_the_wrong_way_has_no_probability(tmp_path, pairs):
    rows = pair_rows(1, prefix="c")
    for row in rows:  # on these pairs the document without the query's word is the relevant one
        row["document"] = "only other things" if row["label"] else row["document"] + row["query"]
    others = write(tmp_path / "other.jsonl", rows)
    found = read_report(tmp_path, "--pairs", pairs, "--calibration-pairs", others)["contenders"][2]
    assert "No probability could be fitted" in found["note"]
    assert found["evaluation"]["brier"] is None
    assert found["evaluation"]["precision"]["value"] is not None


def test_queries_shared_with_the_calibration_pairs_are_refused(tmp_path, pairs, graders):
    shared = pair_rows(1, prefix="c")
    for row in shared[:4]:
        row["query"] = "  APPLE q 0? "
    others = write(tmp_path / "other.jsonl", shared)
    result = run("--pairs", pairs, "--calibration-pairs", others, code=2)
    assert "1 queries stand in the test and in the calibration pairs" in result.output
    assert not graders.asked  # before any model is loaded


def test_queries_that_calibrated_the_grader_are_refused(pairs, graders):
    graders.known["mine"] = FakeGrader(calibrated_on=["Pear q 1?", "something else"])
    result = run("--pairs", pairs, "--bundle", "mine", "--no-baselines", code=2)
    assert "1 of the test queries calibrated the grader 'fake', the first 'pear q 1'" in result.output
    graders.known["mine"] = FakeGrader(calibrated_on=["something else"])
    run("--pairs", pairs, "--bundle", "mine", "--no-baselines")


def test_against_another_grader(tmp_path, pairs):
    report = read_report(tmp_path, "--pairs", pairs, "--against", "old", "--point", "balanced")
    assert report["against"]["name"] == "old"
    assert report["against"]["n_flipped"] > 0
    same = read_report(tmp_path, "--pairs", pairs, "--against", "same")["against"]
    assert same["n_flipped"] == 0
    assert same["name"] != "fake"  # of one name, told apart by their hash


def test_scores_of_a_bundle_give_the_report_of_its_pairs(tmp_path, pairs):
    scores = write(tmp_path / "scores.jsonl", score_rows(pair_rows()))
    direct = read_report(tmp_path, "--pairs", pairs)["contenders"][0]["evaluation"]
    graders_view = {
        "bundle": ("--scores", scores, "--bundle", "same"),
        "joined": ("--scores", scores, "--pairs", pairs),
    }
    assert read_report(tmp_path, *graders_view["bundle"])["contenders"][0]["evaluation"] == direct
    joined = read_report(tmp_path, *graders_view["joined"], "--bundle", "same")
    assert joined["contenders"][0]["evaluation"] == direct
    assert [each["name"] for each in joined["contenders"]] == ["fake", "keep everything", "BM25"]


def test_graded_rows_carry_their_verdicts(tmp_path):
    rows = score_rows(pair_rows(), probability=lambda grade: grade.probability, relevant=lambda grade: grade.relevant)
    report = read_report(tmp_path, "--scores", write(tmp_path / "graded.jsonl", rows))
    assert report["contenders"][0]["evaluation"]["threshold"] is None
    assert report["contenders"][0]["evaluation"]["precision"]["value"] is not None
    assert "no texts" in " ".join(report["notes"])
    cut = read_report(tmp_path, "--scores", tmp_path / "graded.jsonl", "--threshold", "0.5")
    for name in ("precision", "recall"):
        first, second = (each["contenders"][0]["evaluation"][name] for each in (report, cut))
        assert first == second


def test_thresholds_by_collection_hold_for_scores(tmp_path, graders):
    own = CollectionPoints("strict", CALIBRATION, (OperatingPoint("balanced", 1.0),))
    graders.known["same"] = FakeGrader(collections=Collections("source", (own,)))
    rows = score_rows(pair_rows())
    for row in rows[:48]:
        row["source"] = "strict"
    report = read_report(tmp_path, "--scores", write(tmp_path / "s.jsonl", rows), "--bundle", "same", "--by", "source")
    members = {each["value"]: each for each in report["slices"][0]["members"]}
    assert members["strict"]["recall"]["value"] == 0.0
    assert members["(none)"]["recall"]["value"] > 0.0
    assert "thresholds of their own" in report["contenders"][0]["note"]


def test_the_list_calibration_scores_the_twins(tmp_path, pairs, graders):
    graders.known[None] = FakeGrader(any_relevant=ListCalibration(best=1.0))
    report = read_report(tmp_path, "--pairs", pairs)
    assert report["contenders"][0]["twins"]["scored_by"] == "P(any relevant)"
    assert report["contenders"][2]["twins"]["scored_by"] == "top score"


def test_graded_labels_need_a_cut(tmp_path):
    rows = pair_rows()
    for row in rows:
        row["grade"] = 2 if row["label"] else int(row["doc_id"].endswith("1"))
        row["label"] = row["grade"] / 2
    path = write(tmp_path / "graded.jsonl", rows)
    assert "neither 0 nor 1" in run("--pairs", path, code=2).output
    assert read_report(tmp_path, "--pairs", path, "--cut", "2")["data"]["n_relevant"] == 20
    report = read_report(tmp_path, "--pairs", path, "--cut", "1")
    assert report["data"]["n_relevant"] == 20 + 24
    # Grades are the gains of nDCG.
    assert report["contenders"][1]["evaluation"]["ndcg_at_10"]["value"] < 1.0


def changed(index, **fields):
    rows = pair_rows()
    rows[index] |= fields
    return rows


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no pairs to evaluate"),
        (changed(3, label=None), "1 of 96 rows have no label"),
        (changed(3, label=0.4), "neither 0 nor 1"),
        (changed(3, label=7), "must be 0, 1"),
        (changed(1, doc_id="q0-0"), "has another text on line 1"),
        (changed(1, **pair_rows()[0]), "repeats line 1"),
        (changed(1, **pair_rows()[0], copy=1), "only training rows are ever balanced"),
    ],
)
def test_bad_pairs_are_refused(tmp_path, rows, message):
    assert message in run("--pairs", write(tmp_path / "bad.jsonl", rows), code=2).output


def changed_scores(**fields):
    rows = score_rows(pair_rows(), probability=lambda grade: grade.probability)
    for name, value in fields.items():
        if value is ...:
            del rows[5][name]
        else:
            rows[5][name] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no scores to evaluate"),
        (changed_scores(probability=1.2), "must lie in [0, 1]"),
        (changed_scores(probability="high"), "must be a finite number"),
        (changed_scores(probability=...), "1 of 96 rows have no `probability`"),
        (changed_scores(label=None), "have no label"),
        (changed_scores(doc_id=...), "needs `query_id` and `doc_id`"),
        (changed_scores(**score_rows(pair_rows())[0]), "repeats line 1"),
        (changed_scores(relevant="yes"), "must be true or false"),
        (changed_scores(), "name the --bundle they come from, or a --threshold"),
    ],
)
def test_bad_scores_are_refused(tmp_path, rows, message):
    assert message in run("--scores", write(tmp_path / "bad.jsonl", rows), code=2).output


def test_nan_in_a_file_of_scores_is_refused(tmp_path):
    path = tmp_path / "nan.jsonl"
    path.write_text('{"query_id": "a", "doc_id": "b", "label": 1, "logit": NaN}\n')
    assert "nan.jsonl:1" in run("--scores", path, "--bundle", "same", code=2).output


def test_a_pair_without_a_score_is_refused(tmp_path, pairs):
    scores = write(tmp_path / "scores.jsonl", score_rows(pair_rows())[:-2])
    result = run("--pairs", pairs, "--scores", scores, "--bundle", "same", code=2)
    assert "2 of 96 pairs have no score" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to measure"),
        (("--predictions", "x.csv", "--pairs", "y.jsonl"), "takes no --pairs"),
        (("--pairs", "x.jsonl", "--threshold", "0.5"), "--threshold is for --scores"),
        (("--scores", "x.jsonl", "--against", "old"), "--against needs --pairs"),
        (("--pairs", "x.jsonl", "--block-length", "3"), "--block-length is for"),
        (("--scores", "x.jsonl", "--split", "test"), "--split needs --pairs"),
        (("--pairs", "missing.jsonl"), "no such file"),
    ],
)
def test_options_that_do_not_go_together(arguments, message):
    assert message in run(*arguments, code=2).output


def test_calibration_pairs_need_texts_to_compare(tmp_path, pairs):
    scores = write(tmp_path / "s.jsonl", score_rows(pair_rows()))
    result = run("--scores", scores, "--bundle", "same", "--calibration-pairs", pairs, code=2)
    assert "--calibration-pairs needs --pairs" in result.output


def test_an_unknown_field_to_slice_by(pairs):
    assert "no row has the field 'colour'" in run("--pairs", pairs, "--by", "colour", code=2).output


def test_one_class_reports_what_is_defined(tmp_path):
    rows = [{**row, "label": 0} for row in pair_rows()]
    report = read_report(tmp_path, "--pairs", write(tmp_path / "none.jsonl", rows))
    evaluation = report["contenders"][0]["evaluation"]
    assert evaluation["recall"]["reason"] == "nothing is relevant"
    assert evaluation["false_keep"]["value"] is not None
    assert any("labelled irrelevant" in note for note in report["notes"])


def test_two_sources_may_use_one_query_id(tmp_path):
    rows = [{**row, "source": "one"} for row in pair_rows()] + [{**row, "source": "two"} for row in pair_rows()]
    assert read_report(tmp_path, "--pairs", write(tmp_path / "two.jsonl", rows))["data"]["n_queries"] == 48
