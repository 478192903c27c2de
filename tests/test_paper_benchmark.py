"""Tables and figures of the paper's page, from results made up here."""

import json
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

from benchmarks.paper import figures, row_tables, tables

from relgrade.paper.samples import pair_key
from relgrade.records import Pair


def measure(value):
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "reason": None}


def reading(test, rule, value):
    names = ("precision", "recall", "f1", "average_precision", "accuracy", "kappa", "brier", "ece")
    return {"test": test, "rule": rule, "n_pairs": 40, "n_relevant": 8, **{name: measure(value) for name in names}}


def row(name, value, *, method="C", shift=0.0):
    rules = [row_tables.ARGMAX, row_tables.BEST, row_tables.BASE_RATE, *([row_tables.PRIOR] if shift else [])]
    cost = {"n_parameters": 2_000_000, "n_parameters_trained": 1_500, "peak_memory_mb": 900.0}
    return {
        "table": "tiny",
        "row": {"name": name, "method": method},
        "data": {"n_train": 1_000, "n_judged": 50},
        "cost": {**cost, "cpu_seconds_training": 20.0, "cpu_seconds_scoring": 2.0},
        "prior_shift": shift,
        "readings": [reading(test, rule, value) for test in row_tables.TESTS for rule in rules],
    }


@pytest.fixture
def results(tmp_path):
    rows = [row("c", 0.5), row("c-1to1", 0.4, shift=0.87), row("b", 0.25, method="B")]
    rows += [row("a", 0.3, method="A"), row("lora-4", 0.3, method="lora")]
    for each in rows:
        (tmp_path / f"tiny.{each['row']['name']}.json").write_text(json.dumps(each))
    (tmp_path / "questions.size.json").write_text("{}")  # no row
    return tmp_path


def test_every_table_has_its_rows(results):
    rows = row_tables.load_rows(results)
    assert [each["row"]["name"] for each in rows] == ["b", "lora-4", "a", "c", "c-1to1"]  # not as their files lie
    told = dict(row_tables.reports(rows))
    line = "| tiny c | 1,000 | 40 (0.200) | 0.500 | 0.500 | 0.500 | 0.500 | 0.500 | 0.500 | 0.500 [0.400, 0.600] |"
    assert line in told["rows on multihop_rag_top20"]
    assert "| tiny c-1to1 | +0.87 | argmax, prior corrected | 0.400 |" in told["balance"]
    assert "c-1to1" not in told["head and pooling"]
    assert "| tiny c | 0.500 [0.400, 0.600] | 1,500 | 20 | 40 | 8 | 900 |" in told["cost"]
    assert "| tiny b | 0.250 [0.150, 0.350] | 1,500 | 20 | - | 8 | 900 |" in told["cost"]  # features are shared


def test_the_command_prints_what_there_is(results, monkeypatch, capsys):
    (results / "questions.size.json").unlink()
    monkeypatch.setattr("sys.argv", ["tables", str(results)])
    tables.main()
    said = capsys.readouterr().out
    assert "## cost" in said
    assert "## transfer" not in said


def test_figures_are_the_same_bytes_each_time(results, tmp_path, monkeypatch):
    for name in ("one", "two"):
        monkeypatch.setattr("sys.argv", ["figures", str(results), str(tmp_path / name)])
        figures.main()
    first, second = (sorted((tmp_path / name).iterdir()) for name in ("one", "two"))
    assert [path.name for path in first] == ["cost.svg", "rows.svg"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert "tiny c-1to1" in first[1].read_text()


def test_a_threshold_is_chosen_on_the_sample_and_measured_on_the_others():
    from benchmarks.paper.more_queries import _chosen

    def pairs_of(first, labels):
        return [
            Pair(query_id=f"q{first + i}", query=f"{first + i}", doc_id="d", document="x", label=label)
            for i, label in enumerate(labels)
        ]

    sample, tested = pairs_of(0, [1, 1, 0, 0]), pairs_of(10, [1, 1, 0, 0])
    logits = dict(zip(map(pair_key, [*sample, *tested]), [3.0, 1.0, 0.5, -2.0, 3.0, 0.0, -1.0, -2.0], strict=True))
    found = _chosen(sample, tested, logits, SimpleNamespace(min_precision=0.775, n_draws=10))
    chosen = found["best F1 on 4 other queries"]
    assert (chosen["precision"]["value"], chosen["recall"]["value"]) == (1.0, 0.5)  # 0.0 lies below the sample's choice
    assert found["precision 0.775 on 4 other queries"]["recall"]["value"] == 0.5
    assert found["precision 0.775, known afterwards"]["recall"]["value"] == 1.0
    assert _chosen([], tested, logits, SimpleNamespace()) == {}
