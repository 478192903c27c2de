"""Tables of true and pred: with query ids, and with blocks of rows in their place."""

import json

import numpy as np
import pytest
from benchmarks import paper_predictions
from click.testing import CliRunner

from relgrade import metrics
from relgrade.cli import main
from relgrade.errors import InvalidData
from relgrade.evaluate import build_report, read_predictions
from relgrade.evaluate.evaluation import evaluate_rows
from relgrade.evaluate.judgements import default_block_length
from relgrade.evaluate.rows import Rows
from relgrade.probability import sigmoid


def table(seed=0, n=400):
    generator = np.random.default_rng(seed)
    true = (generator.random(n) < 0.3).astype(int)
    return true, np.where(generator.random(n) < 0.15, 1 - true, true)


def write(path, true, pred, **more):
    names = ["true", "pred", *more]
    lines = [",".join(map(str, row)) for row in zip(true, pred, *more.values(), strict=True)]
    path.write_text("\n".join([",".join(names), *lines]) + "\n")
    return path


def test_values_are_those_of_the_measures(tmp_path):
    true, pred = table()
    found = read_predictions(write(tmp_path / "t.csv", true, pred))
    report = build_report(found.judgements, [found.contender]).to_json()
    evaluation = report["contenders"][0]["evaluation"]
    for name in ("precision", "recall", "f1", "accuracy", "mcc"):
        assert evaluation[name]["value"] == pytest.approx(getattr(metrics, name)(pred, true))
        assert evaluation[name]["low"] < evaluation[name]["value"] < evaluation[name]["high"]
    assert evaluation["kappa"]["value"] == pytest.approx(metrics.cohen_kappa(pred, true))
    assert report["method"]["unit"] == "block of rows"
    assert (report["method"]["block_length"], report["method"]["n_units"]) == (20, 20)
    for name in ("losing_all", "false_keep", "ndcg_at_10"):
        assert evaluation[name]["value"] is None
    assert evaluation["losing_all"]["reason"] == "the rows carry no query ids"


def test_query_ids_and_probabilities_are_used_where_they_stand(tmp_path):
    true, pred = table()
    ids = [f"q{row // 8}" for row in range(true.size)]
    p = np.where(pred == 1, 0.8, 0.1)
    found = read_predictions(write(tmp_path / "t.csv", true, pred, query_id=ids, probability=p))
    report = build_report(found.judgements, [found.contender])
    assert report.data["n_queries"] == 50
    assert report.grader.evaluation.auroc.value == pytest.approx(metrics.auroc(p, true))
    assert report.grader.evaluation.losing_all.value is not None
    assert report.reliability is not None


def test_blocks_are_as_wide_as_the_rows_err_together():
    """Rows of one list err together: rows as units are too sure, blocks longer than the lists are not."""
    true_recall, n_lists, length = [], 300, 20
    for seed in range(40):
        draw = np.random.default_rng(seed)
        effect = np.repeat(draw.normal(scale=1.5, size=n_lists), length)
        labels = draw.random(effect.size) < 0.3
        kept = draw.random(effect.size) < sigmoid(effect + np.where(labels, 1.0, -2.0))
        true_recall.append(metrics.recall(kept, labels))
    spread = np.std(true_recall)
    widths = {}
    for block in (1, default_block_length(labels.size)):
        rows = Rows.check_blocks(labels, block_length=block)
        found = evaluate_rows(rows, scores=None, probabilities=None, is_kept=kept, n_draws=400).recall
        widths[block] = (found.high - found.low) / (2 * 1.96)
    assert widths[1] < 0.75 * spread
    assert 0.75 * spread < widths[78] < 1.4 * spread


def test_the_last_block_may_be_shorter():
    rows = Rows.check_blocks([0, 1, 0, 1, 1], block_length=2)
    assert rows.query.tolist() == [0, 0, 1, 1, 2]
    assert not rows.is_by_query


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "need the columns `true` and `pred`"),
        ("true,pred\n", "no predictions below"),
        ("true,predicted\n1,0\n", "the header has true, predicted"),
        ("true,pred\n1,2\n", ":2: `pred` must be 0 or 1, got '2'"),
        ("true,pred\n1,\n", ":2: `pred` must be 0 or 1, got ''"),
        ("true,pred\n1,0\n1\n", ":3: `pred` must be 0 or 1, got None"),
        ("true,pred,query_id\n1,0,\n", ":2: `query_id` is empty"),
        ("true,pred,probability\n1,0,1.5\n", ":2: `probability` must lie in"),
        ("true,pred,probability\n1,0,nan\n", ":2: `probability` must lie in"),
        ('true,pred\n1,"0\n', "not a row"),
    ],
)
def test_bad_tables_are_refused(tmp_path, text, message):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(InvalidData, match=r"bad\.csv") as caught:
        read_predictions(path)
    assert message in str(caught.value)


def test_words_and_spaces_are_read(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xef\xbb\xbftrue, pred ,other\r\nTrue,false,x\r\n0, 1,y\r\n")
    found = read_predictions(path, name="n")
    assert found.judgements.labels.tolist() == [1.0, 0.0]
    assert found.contender.is_kept.tolist() == [0.0, 1.0]
    assert found.contender.name == "n"


def test_the_command_prints_and_writes(tmp_path):
    true, pred = table()
    path = write(tmp_path / "t.csv", true, pred)
    arguments = ["evaluate", "--predictions", str(path), "--draws", "20", "--block-length", "10"]
    result = CliRunner().invoke(
        main, [*arguments, "--json", str(tmp_path / "r.json"), "--html", str(tmp_path / "r.html")]
    )
    assert result.exit_code == 0, result.output
    assert "blocks of 10 rows" in result.output
    assert json.loads((tmp_path / "r.json").read_text())["method"]["block_length"] == 10


def test_the_benchmark_commits_numbers_only(tmp_path, capsys):
    true, pred = table()
    path, output = write(tmp_path / "t.csv", true, pred), tmp_path / "result.json"
    paper_predictions.main(["--file", str(path), "--output", str(output), "--draws", "20"])
    result = json.loads(output.read_text())
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["f1"] == round(metrics.f1(pred, true), 4)
    assert str(tmp_path) not in output.read_text()
    assert result["counts"] == {
        "true_positives": int((true & pred).sum()),
        "false_positives": int(((1 - true) & pred).sum()),
        "false_negatives": int((true & (1 - pred)).sum()),
        "true_negatives": int(((1 - true) & (1 - pred)).sum()),
    }
    assert [each["block_length"] for each in result["by_block_length"]] == [1, 20, 50, 100, 200]
