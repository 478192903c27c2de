import gzip
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from relgrade import metrics
from relgrade.errors import InvalidData, MissingExtra
from relgrade.records import Calibration, OperatingPoint

pytest.importorskip("bm25s")
from benchmarks import labelled, quality, scorers

NOUNS = ["heron", "kettle", "granite", "violin", "harbour", "lantern", "orchard", "compass"]


class FakeGrader:
    """Grades by whether the document says "answer", and counts what it was asked."""

    def __init__(self, bundle_hash="abc", flipped=False):
        weights = SimpleNamespace(sha256="flipped" if flipped else "straight")
        manifest = SimpleNamespace(
            calibration=Calibration("platt", 2.0, 0.0),
            architecture="interaction",
            template={},
            options={},
            graphs={"head": "head.onnx"},
            files={"head.onnx": weights, "tokenizer.json": weights},
        )
        self.bundle = SimpleNamespace(hash=bundle_hash, manifest=manifest)
        self.operating_point = OperatingPoint("balanced", 0.5)
        self.flipped = flipped
        self.n_graded = 0

    def grade_pairs(self, pairs):
        self.n_graded += len(pairs)
        return (SimpleNamespace(logit=3.0 if ("answer" in text) != self.flipped else -3.0) for _, text in pairs)


def rows_of(split, n_queries, *, seed, unanswerable=()):
    generator = np.random.default_rng(seed)
    rows = []
    for query in range(n_queries):
        noun = NOUNS[query % len(NOUNS)]
        for place in range(4):
            is_relevant = place == 0 and query not in unanswerable
            word = "answer" if is_relevant else "nothing"
            other = noun if is_relevant or generator.random() < 0.4 else NOUNS[(query + place + 1) % len(NOUNS)]
            document = f"title: {split} {query}.{place}\nthe {other} has {word} number{seed}{query}{place}"
            row = {
                "query_id": f"{split}{query}",
                "query": f"what of the {noun} in {split} {query}",
                "doc_id": f"{query}.{place}",
            }
            rows.append({**row, "document": document, "label": int(is_relevant), "split": split})
    rows[1]["ambiguous"] = True
    return rows


@pytest.fixture
def folder(tmp_path):
    sources = {
        "first": rows_of("train", 60, seed=0) + rows_of("test", 24, seed=1, unanswerable={2, 3}),
        "second": rows_of("train", 60, seed=2) + rows_of("test", 24, seed=3),
        "climate_fever": rows_of("train", 20, seed=4) + rows_of("test", 24, seed=5),
    }
    for name, rows in sources.items():
        with gzip.open(tmp_path / f"{name}.jsonl.gz", "wt") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return tmp_path


def run(folder, capsys, *more, grader=None):
    places = f"--data {folder} --cache {folder}/cache --output {folder}/out.json --draws 50 --quiet"
    assert quality.main([*places.split(), *more], load_grader=lambda bundle: grader or FakeGrader()) == 0
    printed = capsys.readouterr().out
    return printed, json.loads(printed.splitlines()[-1]), json.loads((folder / "out.json").read_text())


def test_table_json_line_and_report_agree(folder, capsys):
    printed, summary, report = run(folder, capsys, "--paired")
    assert summary == report["summary"]
    assert summary["macro_ap"]["grader"] == 1.0
    assert summary["margin"] == pytest.approx(1.0 - summary["macro_ap"]["bm25"], abs=1e-3)
    assert (summary["n_collections"], summary["bundle_hash"]) == (3, "abc")
    assert (summary["margin_ok"], summary["worst_ok"]) == (None, None)  # no cosine
    for text in ("AP ", "AUROC", "queries losing all", "false keep", "Brier", "ECE", "AP, grader - bm25", "macro"):
        assert text in printed
    first = report["collections"]["first"]["grader"]
    assert (first["n_pairs"], first["n_queries"], first["n_unanswerable"]) == (24 * 4 - 1, 24, 2)
    assert (first["recall"]["value"], first["losing_all"]["value"], first["false_keep"]["value"]) == (1.0, 0.0, 0.0)
    assert f"{report['macro']['bm25']['value']:.3f}" in printed
    assert report["environment"]["pairs_scored"]["grader"] == 3 * (24 * 4 - 1)


def test_thresholds_of_baselines_come_from_train_rows_that_may_be_used(folder, capsys):
    _, _, report = run(folder, capsys)
    evidence = report["contenders"]["bm25"]["point"]["evidence"]
    assert set(evidence["by_source"]) == {"first", "second"}
    assert 0 < evidence["n_queries"] < 120
    data = labelled.read_labelled(folder)
    held_out = {pair.query_id for pairs in data.chosen_on.values() for pair in pairs}
    assert all(query.startswith("train") for query in held_out)
    assert all(pair.split == "test" for each in data.tests for pair in each.pairs)


def test_a_query_tested_in_one_file_chooses_nothing_in_another(folder):
    before = labelled.read_labelled(folder).chosen_on["first"][0]
    row = {"query_id": "x", "query": before.query, "doc_id": "x", "document": "else", "label": 1, "split": "test"}
    with gzip.open(folder / "third.jsonl.gz", "wt") as file:
        file.write(json.dumps(row) + "\n")
    chosen_on = labelled.read_labelled(folder).chosen_on
    assert before.query not in {pair.query for pairs in chosen_on.values() for pair in pairs}


def test_a_rerun_scores_nothing_and_another_bundle_scores_all(folder, capsys):
    grader = FakeGrader()
    _, first, _ = run(folder, capsys, grader=grader)
    n_graded = grader.n_graded
    _, second, report = run(folder, capsys, grader=grader)
    assert first == second
    assert grader.n_graded == n_graded > 0
    assert report["environment"]["pairs_scored"] == {}
    _, third, _ = run(folder, capsys, grader=FakeGrader("other", flipped=True))
    assert third["macro_ap"]["grader"] < 0.3
    assert third["margin"] < 0


def test_a_quick_look_reads_fewer_queries(folder, capsys):
    _, summary, report = run(folder, capsys, "--files", "second", "--limit-queries", "5")
    assert summary["n_collections"] == 1
    assert report["collections"]["second"]["grader"]["n_queries"] == 5


def test_baselines_alone_need_no_grader(folder, capsys):
    _, summary, _ = run(folder, capsys, "--baselines-only")
    assert set(summary["macro_ap"]) == {"bm25"}
    assert "margin" not in summary


def test_the_checks_hold_a_grader_to_both_limits(folder, capsys, monkeypatch):
    class FakeCosine(scorers.BM25Scorer):
        name = "cosine"

        def __init__(self, folder, *, n_threads):
            self.key = "fake"

        def score(self, texts, corpus, advance):
            return -super().score(texts, corpus, advance)

    monkeypatch.setattr(quality, "CosineScorer", FakeCosine)
    printed, good, _ = run(folder, capsys, "--encoder", "unused")
    assert (good["margin_ok"], good["worst_ok"]) == (True, True)
    assert good["macro_ap"]["cosine"] < good["macro_ap"]["bm25"] == good["better_baseline_macro_ap"]
    printed, bad, _ = run(folder, capsys, "--encoder", "unused", grader=FakeGrader("bad", flipped=True))
    assert (bad["margin_ok"], bad["worst_ok"]) == (False, False)
    assert "NO" in printed


def test_unknown_files_and_broken_lines_are_named(folder, capsys):
    with pytest.raises(InvalidData, match="third"):
        run(folder, capsys, "--files", "third")
    with gzip.open(folder / "broken.jsonl.gz", "wt") as file:
        file.write('{"query_id": "1"}\n')
    with pytest.raises(InvalidData, match=r"broken\.jsonl\.gz:1"):
        run(folder, capsys)


def test_the_cosine_needs_an_encoder_and_the_extra(tmp_path, monkeypatch):
    from relgrade.errors import InvalidInput

    with pytest.raises(InvalidInput, match=r"model\.safetensors"):
        scorers.CosineScorer(tmp_path, n_threads=1)
    (tmp_path / "model.safetensors").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match="train"):
        scorers.CosineScorer(tmp_path, n_threads=1)


def test_a_real_grader_is_read_as_it_judges(folder, capsys, monkeypatch):
    from fake_runtime import fake_bundle
    from relgrade.grade.runtimes import RUNTIMES

    monkeypatch.setitem(RUNTIMES, "cross-encoder", ("fake_runtime", "FakeRuntime"))
    bundle = fake_bundle(folder / "bundle")
    places = f"--data {folder} --cache {folder}/cache --output {folder}/out.json --draws 50 --quiet"
    assert quality.main([*places.split(), "--bundle", str(folder / "bundle")]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["bundle_hash"] == bundle.hash
    report = json.loads((folder / "out.json").read_text())
    assert report["contenders"]["grader"]["calibration"]["slope"] == bundle.manifest.calibration.slope
    # The verdicts of the grader itself give the recall that is reported.
    (second,) = labelled.read_labelled(folder, names=["second"]).tests
    grader = quality._load_grader(str(folder / "bundle"))
    kept = [grade.relevant for grade in grader.grade_pairs(labelled.texts_of(second.pairs))]
    assert report["collections"]["second"]["grader"]["recall"]["value"] == metrics.recall(kept, second.labels)
