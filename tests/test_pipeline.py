"""A recipe end to end: what comes out grades, what is done is not done again, and what is killed goes on."""

import json
import multiprocessing
import os
import signal
import time
from dataclasses import replace

import pytest

pytest.importorskip("torch")

from pipeline_case import file_bytes, make_recipe, run_case, write_pairs_file
from relgrade import Grader
from relgrade.errors import InvalidInput, InvalidSettings, ParityError, SplitLeak
from relgrade.formats import read_pairs, write_pairs
from relgrade.pipeline import run_recipe
from relgrade.pipeline.bundling import licence_text
from relgrade.pipeline.calibrating import read_decision, threshold_logit
from relgrade.pipeline.graphs import open_runtime
from relgrade.pipeline.scoring import read_scores, score_pairs
from relgrade.records import Calibration, OperatingPoint, Pair
from relgrade.settings import BalanceSettings, BundleSettings, Recipe

ARCHITECTURES = ("cross-encoder", "interaction")
STEPS = [
    "read",
    "split",
    "balance",
    "fit",
    "export",
    "score validation",
    "score calibration",
    "score test",
    "calibrate",
    "parity",
    "bundle",
]


@pytest.fixture(scope="module")
def pairs_file(tmp_path_factory):
    return write_pairs_file(tmp_path_factory.mktemp("pairs") / "pairs.jsonl")


@pytest.fixture(scope="module")
def runs(tmp_path_factory, pairs_file, tiny_bert_folder):
    """Architecture -> folder of a run that went through, in a process of its own as the killed ones below."""
    folders = {}
    for architecture in ARCHITECTURES:
        folders[architecture] = tmp_path_factory.mktemp("run") / architecture
        assert finish(*start(pairs_file, tiny_bert_folder, architecture, folders[architecture])) == STEPS
    return folders


def start(*arguments):
    """A run in a fresh process; the libraries are imported once for all of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "transformers", "transformers.trainer", "onnxruntime"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=run_case, args=(*arguments, sender))
    process.start()
    sender.close()
    return process, receiver


def finish(process, receiver):
    """The steps of a run that ends well."""
    steps = []
    try:
        while True:
            steps.append(receiver.recv())
    except EOFError:
        process.join()
    assert process.exitcode == 0
    return steps


def rerun(recipe, output):
    """The steps that a run did, without those it skipped."""
    done = []
    run_recipe(recipe, output=output, on_step=lambda step: done.append(step))
    assert [step.name for step in done] == STEPS
    return [step.name for step in done if not step.is_skipped]


@pytest.fixture
def run_copy(runs, tmp_path):
    """A copy of a finished run, free to be changed."""
    import shutil

    return lambda architecture: shutil.copytree(runs[architecture], tmp_path / architecture)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_bundle_grades(runs, architecture):
    grader = Grader.load(runs[architecture] / "bundle")
    assert grader.verify_goldens().n_pairs == 5
    graded = grader.grade("red apple", ["cat red apple dog", "horse cow", ""])
    assert [grade.index for grade in graded] == [0, 1, 2]
    assert not graded[2].relevant


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_grade_is_the_score_that_calibrated_it(runs, architecture):
    run = runs[architecture]
    pairs = list(read_pairs(run / "splits" / "calibration.jsonl"))
    scores = read_scores(run / "scores" / "calibration.jsonl")
    grades = list(Grader.load(run / "bundle").grade_pairs(pairs))
    assert [grade.logit for grade in grades] == [score.logit for score in scores]
    decision = read_decision(run / "calibration.json")
    lowest = threshold_logit(decision.calibration, decision.operating_points[0])
    kept = [score.logit >= lowest for score in scores]
    assert [grade.relevant for grade in grades] == kept


def test_splits_share_no_query_and_only_train_is_balanced(runs):
    folder = runs["cross-encoder"] / "splits"
    queries = [{pair.query for pair in read_pairs(folder / f"{split}.jsonl")} for split in ("train", "calibration")]
    assert all(queries)
    assert not queries[0] & queries[1]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_bundle_names_its_making_and_no_machine(runs, architecture, pairs_file, tiny_bert_folder):
    folder = runs[architecture] / "bundle"
    provenance = json.loads((folder / "bundle.json").read_text())["provenance"]
    (source,) = provenance["sources"]
    assert (source["name"], source["licence"]) == ("colours", "CC0-1.0")
    assert sum(source[split]["pairs"] for split in ("train", "validation", "calibration", "test")) == 240
    assert set(provenance["base"]["sha256"]) == {"model.safetensors"}
    assert provenance["recipe"]["sources"][0]["path"] == "pairs.jsonl"
    assert provenance["metrics"]["colours (validation queries)"]["n_relevant"] == 10
    for name, content in file_bytes(folder).items():
        for place in (pairs_file.parent, tiny_bert_folder.parent, runs[architecture].parent):
            assert str(place).encode() not in content, name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_finished_run_does_nothing_again(runs, architecture, pairs_file, tiny_bert_folder):
    run = runs[architecture]
    before = file_bytes(run)
    assert rerun(make_recipe(pairs_file, tiny_bert_folder, architecture=architecture), run) == []
    assert file_bytes(run) == before


def test_a_changed_setting_does_again_what_depends_on_it(run_copy, pairs_file, tiny_bert_folder):
    run = run_copy("interaction")
    recipe = make_recipe(pairs_file, tiny_bert_folder, architecture="interaction")
    renamed = replace(recipe, bundle=replace(recipe.bundle, name="other"))
    assert rerun(renamed, run) == ["bundle"]
    assert Grader.load(run / "bundle").bundle.manifest.name == "other"
    trained = replace(recipe, training=replace(recipe.training, max_steps=6))
    assert rerun(trained, run)[:2] == ["fit", "export"]
    assert json.loads((run / "fit.json").read_text())["steps"] == 6
    balanced = replace(trained, balance=BalanceSettings(method="oversample"))
    assert rerun(balanced, run)[:2] == ["balance", "fit"]
    assert json.loads((run / "balanced" / "balance.json").read_text())["prior_shift"] == pytest.approx(1.0986, abs=1e-3)


def test_changed_pairs_and_damaged_files_are_noticed(run_copy, tmp_path, pairs_file, tiny_bert_folder):
    run = run_copy("interaction")
    moved = tmp_path / "elsewhere.jsonl"
    moved.write_bytes(pairs_file.read_bytes())
    recipe = make_recipe(moved, tiny_bert_folder, architecture="interaction")
    assert rerun(recipe, run) == ["bundle"]  # the same bytes elsewhere; the recipe in the bundle names the file
    (run / "scores" / "calibration.jsonl").write_text("")
    assert rerun(recipe, run) == ["score calibration"]
    with moved.open("a") as file:
        file.write(json.dumps({"query": "red melon", "document": "red melon cat", "label": 1}) + "\n")
    assert rerun(recipe, run)[0] == "read"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_killed_runs_end_in_the_same_bytes(runs, architecture, tmp_path, pairs_file, tiny_bert_folder):
    """Killed again and again, each time a little later, the run still ends, and ends as if nothing had happened."""
    output = tmp_path / "run"
    n_killed = 0
    for after in ("read", "balance", "checkpoint", "export", "score calibration", "parity"):
        process, receiver = start(pairs_file, tiny_bert_folder, architecture, output)
        wait_for(process, receiver, after, output)
        process.kill()
        process.join()
        receiver.close()
        n_killed += process.exitcode == -signal.SIGKILL
    assert n_killed >= 5, "most of the processes were to die in the middle"
    assert finish(*start(pairs_file, tiny_bert_folder, architecture, output)) == STEPS
    assert file_bytes(output / "bundle") == file_bytes(runs[architecture] / "bundle")


def wait_for(process, receiver, after, output):
    """Until a step is done, or training has written its first checkpoint."""
    if after == "checkpoint":
        while process.is_alive() and not list((output / "fit").glob("checkpoint-*/seal.json")):
            time.sleep(0.002)
        return
    while receiver.recv() != after:
        pass


@pytest.mark.skipif(os.name == "nt", reason="no flock")
def test_two_runs_do_not_share_a_folder(runs, pairs_file, tiny_bert_folder):
    import fcntl

    run = runs["interaction"]
    with (run / ".lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(InvalidInput, match="is writing this folder"):
            run_recipe(make_recipe(pairs_file, tiny_bert_folder, architecture="interaction"), output=run)


def test_golden_pairs_of_a_file(run_copy, tmp_path, pairs_file, tiny_bert_folder):
    golden = tmp_path / "golden.jsonl"
    golden.write_text('{"query": "what is red", "document": "the apple is red"}\n')
    recipe = make_recipe(pairs_file, tiny_bert_folder, architecture="interaction")
    run = run_copy("interaction")
    assert rerun(replace(recipe, bundle=replace(recipe.bundle, golden_pairs=str(golden))), run) == ["bundle"]
    (pair,) = Grader.load(run / "bundle").bundle.goldens
    assert pair.document == "the apple is red"


def test_leaks_are_reported_dropped_or_refused(tmp_path, tiny_bert_folder):
    words = "red green blue apple pear plum cat dog cow horse"
    rows = [
        Pair(query_id=str(i), query=f"q {i}", doc_id="d", document=words, label=float(i % 2), split=split)
        for i, split in enumerate(["train", "train", "calibration", "calibration"] * 2)
    ]
    rows += [replace(row, doc_id="e", document=f"{row.query} {row.query}", label=1.0 - row.label) for row in rows]
    path = tmp_path / "pairs.jsonl"
    write_pairs(path, rows)
    recipe = make_recipe(path, tiny_bert_folder)
    splits = replace(recipe.splits, validation=0.0, calibration=0.0, test=0.0, on_leak="raise")
    with pytest.raises(SplitLeak):
        run_recipe(replace(recipe, splits=splits), output=tmp_path / "run")
    for on_leak, n_left in (("report", 8), ("drop", 4)):
        recipe = replace(recipe, splits=replace(splits, on_leak=on_leak))
        told = []
        # Dropping leaves pairs of one class only where the documents decide; the step itself is what is looked at.
        from relgrade.pipeline.splits import split_pairs

        told = split_pairs(path, tmp_path / on_leak, recipe.splits, seed=0)
        assert len(list(read_pairs(tmp_path / on_leak / "train.jsonl"))) == n_left
        assert any(line.startswith("! ") and "documents of train" in line for line in told)
        assert json.loads((tmp_path / on_leak / "leaks.json").read_text())["leaks"]


def test_a_student_that_int8_breaks_ships_nothing(run_copy, pairs_file, tiny_bert_folder):
    run = run_copy("cross-encoder")
    recipe = make_recipe(pairs_file, tiny_bert_folder)
    strict = replace(recipe, export=replace(recipe.export, max_logit_error=1e-12))
    before = file_bytes(run / "bundle")
    with pytest.raises(ParityError):
        run_recipe(strict, output=run)
    assert file_bytes(run / "bundle") == before


def test_a_recipe_without_usable_pairs_says_so(tmp_path, tiny_bert_folder):
    with pytest.raises(InvalidSettings, match="no sources"):
        run_recipe(Recipe(), output=tmp_path / "run")
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"query": "red", "document": "apple"}\n')
    with pytest.raises(InvalidSettings, match="none with a label"):
        run_recipe(make_recipe(path, tiny_bert_folder), output=tmp_path / "run")


def test_blank_documents_are_scored_by_rule(runs):
    runtime = open_runtime(runs["interaction"] / "graphs")
    pairs = [Pair(query_id="q", query="red", doc_id=str(i), document=text) for i, text in enumerate(["red", " "])]
    assert score_pairs(pairs, runtime)[1].logit == -40.0


def test_the_logit_of_a_threshold():
    calibration = Calibration("platt", 2.0, -1.0)
    assert threshold_logit(calibration, OperatingPoint("p", 0.5)) == pytest.approx(0.5)
    assert threshold_logit(calibration, OperatingPoint("p", 0.0)) < -5.0


def test_a_licence_that_asks_to_be_handed_on_is(tmp_path):
    provenance = {"base": {"name": "base"}, "sources": [{"name": "news", "licence": "MIT"}]}
    apache = licence_text(BundleSettings(licence="Apache-2.0"), provenance)
    assert apache.startswith("SPDX-License-Identifier: Apache-2.0\n")
    assert "- news (licence: MIT)" in apache
    assert "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" in apache
    assert "TERMS" not in licence_text(BundleSettings(licence="../licences/Apache"), provenance)
