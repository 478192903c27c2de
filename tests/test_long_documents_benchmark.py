import gzip
import json
import math

import numpy as np
import pytest
from benchmarks import long_documents
from benchmarks.long_documents import Logits, fit_correction, make_report, put_in

from fake_runtime import FakeRuntime, fake_bundle
from relgrade.grade.long_documents import LongDocumentRuntime, PartsCorrection
from relgrade.grade.runtime import Room, RuntimeOutput


class Reader(FakeRuntime):
    """Finds the query's last word wherever it stands; other texts are as irrelevant as their length says."""

    def room(self, query):
        return Room(40, 10_000)

    def score(self, pairs):
        logits = [5.0 if query.split()[-1] in text else -4.0 - len(text) % 7 for query, text in pairs]
        return RuntimeOutput(np.array(logits), np.zeros(len(pairs), bool), np.ones(len(pairs), int))


def runtime():
    return LongDocumentRuntime(Reader(), correction=PartsCorrection(0.5))


def logits(*, inflation, n=400, seed=0):
    """Passages whose parts are independent draws: the best of them rises by itself, `inflation` times."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) // 2 % 2
    within = rng.normal(np.where(labels == 1, 1.5, -3), 1)
    others = np.full((n, 32), -9.0)
    others[:, 0] = rng.normal(-4, 1, n)
    for i in range(1, 32):  # log2 of the parts raises the best one
        others[:, i] = others[:, 0] + inflation * math.log2(i + 1)
    within = np.maximum(within, -20)
    return Logits(labels, within, within, others)


def test_no_inflation_needs_no_correction(tmp_path):
    bundle = fake_bundle(tmp_path / "b")
    everything = np.ones(400, bool)
    assert fit_correction(logits(inflation=0.0), bundle, everything) < 0.1
    assert fit_correction(logits(inflation=1.0), bundle, everything) > 0.3


def test_the_correction_takes_the_inflation_away(tmp_path):
    report = make_report(logits(inflation=1.0), fake_bundle(tmp_path / "b"), shipped=0.5, seed=0)
    first, last = report["rows"][0], report["rows"][-1]
    assert last["irrelevant"]["before"]["kept"] > first["irrelevant"]["before"]["kept"] + 0.1
    assert last["irrelevant"]["after"]["kept"] < last["irrelevant"]["before"]["kept"] - 0.1
    assert report["per_doubling"] > 0.3
    assert first["relevant"]["before"] == first["relevant"]["after"]


@pytest.fixture
def data(tmp_path):
    for name in long_documents.FILES:
        rows = []
        for i in range(300):
            split = "test" if i < 12 else "train"
            body = " ".join(f"{name} {i} stone wall {j}." for j in range(3))
            for label in (0, 1) if i < 12 else (0,):
                word = f"needle{name}{i}x" if label else "stone"
                rows.append(
                    {
                        "query": f"where is needle{name}{i}x",
                        "document": f"title: {name} {i} {label}\n{word} {body}",
                        "label": label,
                        "split": split,
                    }
                )
        with gzip.open(tmp_path / f"{name}.jsonl.gz", "wt") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return tmp_path


def test_the_report_of_a_run(data, tmp_path, capsys):
    output = tmp_path / "long.json"
    arguments = ["--data", str(data), "--passages", "8", "--documents", "1", "--output", str(output)]
    assert long_documents.main(arguments, bundle=fake_bundle(tmp_path / "b"), runtime=runtime()) == 0
    report = json.loads(output.read_text())
    assert [row["parts"] for row in report["rows"]] == list(long_documents.N_PARTS)
    assert report["kept_alone"]["relevant"] == 1.0
    assert 4 <= sum(report["n_passages"].values()) <= 16, "those whose answer is among the fillers are left out"
    for row in report["rows"]:
        assert row["relevant"]["before"]["kept"] == 1.0
        assert row["irrelevant"]["before"]["kept"] == 0.0
        assert row["relevant"]["first_part_only"] == pytest.approx(1 / row["parts"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["per_doubling_shipped"] == 0.5


def test_a_passage_is_put_in_whole_and_fits():
    host = "\n\n".join(f"stone {i} wall" for i in range(13))
    for seed in range(20):
        text = put_in("the needle lies here", host, 40, runtime(), np.random.default_rng(seed))
        assert "the needle lies here" in text.split("\n\n")
        assert len(text.split()) <= 40
