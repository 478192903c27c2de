"""The first stage of a cascade: what it sees, what it may settle, and that nothing else changes."""

import json
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")

from interaction_case import write_interaction_bundle  # noqa: E402
from relgrade.bundle import load_bundle, write_bundle  # noqa: E402
from relgrade.cli.main import main  # noqa: E402
from relgrade.errors import GradingError, InvalidInput, InvalidSettings, NoSafeThreshold, OutputError  # noqa: E402
from relgrade.export.interaction import export_interaction  # noqa: E402
from relgrade.grade.cascade import Cascade  # noqa: E402
from relgrade.grade.cascade_runtime import CascadeRuntime, FirstReader  # noqa: E402
from relgrade.grade.first_measures import NAMES, Tables, Tokens, measure  # noqa: E402
from relgrade.grade.grader import Grader  # noqa: E402
from relgrade.grade.runtime import RuntimeOutput  # noqa: E402
from relgrade.pipeline.cascading import CascadeSettings, fit_cascade  # noqa: E402
from relgrade.records import OperatingPoint, Pair, Score  # noqa: E402
from relgrade.settings import ExportSettings, StudentSettings  # noqa: E402
from relgrade.student.build import build_student  # noqa: E402

THINGS = ["apple", "plum", "fig", "cat", "horse", "sheep", "goat", "duck", "hen", "river", "hill", "lake", "wood"]
SETTINGS = CascadeSettings(share=0.9, delta=0.2, n_dimensions=8)


def pairs():
    """Queries of two things; a document about both is kept by the grader below, others hardly ever are."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(160):
        one, two, *others = rng.permutation(THINGS)
        texts = [f"the {one} of the {two}", *(f"{other} one two three" for other in others[:5])]
        made += [
            Pair(query_id=f"q{number}", query=f"{one} {two}", doc_id=str(i), document=text, label=float(i == 0))
            for i, text in enumerate(texts)
        ]
    return made


def logits():
    """Of a grader that keeps what is relevant, and by chance very little else."""
    rng = np.random.default_rng(1)
    return np.array([3.0 if pair.label else -4.0 + 6.0 * (rng.random() < 0.004) for pair in pairs()])


@pytest.fixture(scope="module")
def bundle(tiny_bert_folder, tmp_path_factory):
    settings = StudentSettings(
        architecture="interaction",
        base=str(tiny_bert_folder),
        max_tokens=16,
        max_query_tokens=8,
        max_windows=2,
        train_encoder=False,
        hidden=8,
    )
    student = build_student(settings, seed=3)
    student.prepare(pairs()[:30], cache_folder=tmp_path_factory.mktemp("cache"))
    graphs = export_interaction(student.eval(), tmp_path_factory.mktemp("graphs"), ExportSettings())
    made = write_interaction_bundle(tmp_path_factory.mktemp("bundle") / "b", student, graphs)
    points = (OperatingPoint("balanced", 0.5), OperatingPoint("strict", 0.9))
    files = {name: made.path(name) for name in made.manifest.files if name != "README.md"}
    return write_bundle(made.folder, replace(made.manifest, operating_points=points), files, overwrite=True)


@pytest.fixture(scope="module")
def cascade(bundle):
    return fit_cascade(bundle, pairs(), SETTINGS, logits=logits())


class Full:
    """The full grader: reads and counts what it is given."""

    logit = 2.0

    def __init__(self, bad=None):
        self.read = []
        self.bad = bad  # a document that has no logit

    def score(self, given):
        self.read += given
        for row, (_, document) in enumerate(given):
            if document == self.bad:
                raise GradingError("no logit", index=row)
        return RuntimeOutput(
            np.full(len(given), self.logit),
            np.ones(len(given), np.bool_),
            np.full(len(given), 3),
            [(0, 1)] * len(given),
        )

    def count_tokens(self, texts):
        return [1] * len(texts)


def tables(n_vocabulary=10):
    vectors = np.eye(n_vocabulary, dtype=np.float32)
    return Tables(np.linspace(0.5, 2.0, n_vocabulary, dtype=np.float32), vectors)


def measured(query, document):
    looked_up = [Tokens.of(np.asarray(ids), tables()) for ids in (query, document)]
    return dict(zip(NAMES, measure(*looked_up).tolist(), strict=True))


def test_a_document_of_the_querys_tokens_has_it_all():
    found = measured([1, 2, 3], [0, 1, 2, 3])
    for name in ("coverage", "bigrams", "coverage_span", "vector_idf", "vector_mean", "vector_min", "vector_span"):
        assert found[name] == pytest.approx(1.0), name
    assert found["idf_missed"] == found["vector_missed"] == 0.0
    assert found["document_covered"] == pytest.approx(found["document_near"])
    assert 0.0 < found["document_covered"] < 1.0


def test_a_document_of_other_tokens_has_nothing_and_spans_see_what_stands_together():
    found = measured([1, 2, 3], [4, 5])
    for name in ("coverage", "bm25", "bigrams", "coverage_span", "document_covered", "vector_idf", "cosine"):
        assert found[name] == pytest.approx(0.0), name
    together, apart = measured([1, 2], [1, 2, *[5] * 100]), measured([1, 2], [1, *[5] * 100, 2])
    assert together["coverage_span"] == pytest.approx(1.0)
    assert apart["coverage_span"] < 0.7
    assert measured([1], [1])["bigrams"] == 0.0


def test_the_promise_holds_on_the_queries_that_tested_it(cascade):
    assert [point.name for point in cascade.points] == ["balanced", "strict"]
    for point in cascade.points:
        assert point.evidence["settled"] > 0.5
        assert point.evidence["lost"] <= 1 - SETTINGS.share
        assert point.evidence["bound"] >= SETTINGS.share
        assert point.evidence["n_queries"] == 80
        json.dumps(point.evidence)


def test_a_promise_that_no_threshold_keeps_is_refused(bundle):
    unlike = np.random.default_rng(0).permutation(logits())  # a grader that keeps what the first stage cannot foresee
    with pytest.raises(NoSafeThreshold):
        fit_cascade(bundle, pairs(), replace(SETTINGS, share=0.999, delta=0.001), logits=unlike)
    with pytest.raises(InvalidInput, match="keeps"):
        fit_cascade(bundle, pairs(), SETTINGS, logits=np.full(len(pairs()), -9.0))


def test_a_point_that_keeps_nothing_costs_the_others_nothing(bundle):
    # the grader is as sure of what it keeps as 0.95: at 0.9 it keeps it, at 0.999 nothing
    points = (*bundle.manifest.operating_points, OperatingPoint("never", 0.9999))
    wider = replace(bundle, manifest=replace(bundle.manifest, operating_points=points))
    fitted = fit_cascade(wider, pairs(), SETTINGS, logits=logits())
    assert [point.name for point in fitted.points] == ["balanced", "strict"]


@pytest.mark.parametrize(("turn", "match"), [(lambda label: 0.0, "0 of the"), (lambda label: 1.0 - label, "turned")])
def test_labels_that_calibrate_nothing_are_refused(bundle, turn, match):
    turned = [replace(pair, label=turn(pair.label)) for pair in pairs()]
    with pytest.raises(InvalidInput, match=match):
        fit_cascade(bundle, turned, SETTINGS, logits=logits())


@pytest.mark.parametrize("change", [{"share": 1.0}, {"delta": 0.0}, {"n_dimensions": 0}, {"ridge": 0.0}, {"seed": -1}])
def test_settings_out_of_range_are_refused(change):
    with pytest.raises(InvalidSettings):
        CascadeSettings(**change)


def test_a_cascade_comes_back_from_its_file(cascade, bundle, tmp_path):
    cascade.save(tmp_path / "c")
    again = Cascade.load(tmp_path / "c")
    assert again.points == cascade.points
    reader = FirstReader(bundle, cascade.tables), FirstReader(bundle, again.tables)
    query, document = "apple plum", "the apple of the hill"
    scores = [
        each.score(read.queries([query])[query], read.documents([document])[document])
        for each, read in zip((cascade, again), reader, strict=True)
    ]
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)  # rounded before it is tested, not when it is written


def test_a_full_disk_leaves_the_earlier_file(cascade, tmp_path, monkeypatch):
    cascade.save(tmp_path / "c")
    before = (tmp_path / "c").read_bytes()

    def full(file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OutputError, match="no space left"):
        cascade.save(tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


CHANGES = {
    "weights not finite": {"weights": lambda a: a * np.nan},
    "mean too short": {"mean": lambda a: a[:3]},
    "deviation 0": {"deviation": lambda a: a * 0},
    "tables of two lengths": {"idf": lambda a: a[:5]},
    "codes of floats": {"codes": lambda a: a.astype(np.float32)},
    "slope below 0": {"about": lambda a: {**a, "calibration": [-1.0, 0.0]}},
    "no hash": {"about": lambda a: {**a, "bundle_hash": 3}},
    "no points": {"about": lambda a: {**a, "points": []}},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_file_whose_parts_do_not_fit_is_refused(name, cascade, tmp_path):
    cascade.save(tmp_path / "c")
    with np.load(tmp_path / "c") as file:
        parts = dict(file)
    for part, change in CHANGES[name].items():
        if part == "about":
            about = change(json.loads(parts[part].tobytes()))
            parts[part] = np.frombuffer(json.dumps(about).encode(), np.uint8)
        else:
            parts[part] = change(parts[part])
    with (tmp_path / "c").open("wb") as file:
        np.savez(file, **parts)
    with pytest.raises(InvalidInput, match="it lacks"):
        Cascade.load(tmp_path / "c")


def test_any_changed_byte_is_refused_or_read_as_a_whole(cascade, tmp_path):
    cascade.save(tmp_path / "c")
    whole = (tmp_path / "c").read_bytes()
    random = np.random.default_rng(0)
    for place in random.integers(0, len(whole), 150).tolist():
        changed = bytearray(whole)
        changed[place] ^= 1 << int(random.integers(8))
        (tmp_path / "c").write_bytes(bytes(changed) if place % 3 else whole[:place])
        with suppress(InvalidInput):  # whatever else it raises fails the test
            Cascade.load(tmp_path / "c")


def test_a_cascade_of_another_tokenizer_is_refused(cascade, bundle):
    short = Tables(cascade.tables.idf[:-1], cascade.tables.vectors[:-1])
    with pytest.raises(InvalidInput, match="fit it again"):
        FirstReader(bundle, short)


def test_a_file_that_is_no_cascade_is_refused(tmp_path):
    for content in (b"", b"PK\x03\x04 and no more", b'{"format": 1}'):
        (tmp_path / "c").write_bytes(content)
        with pytest.raises(InvalidInput, match="relgrade cascade"):
            Cascade.load(tmp_path / "c")
    with pytest.raises(InvalidInput, match="relgrade cascade"):
        Cascade.load(tmp_path / "none")
    np.savez(tmp_path / "c.npz", about=np.array([object()], dtype=object))
    with pytest.raises(InvalidInput, match="relgrade cascade"):
        Cascade.load(tmp_path / "c.npz")


def test_what_is_settled_is_not_read_and_the_rest_is_read_as_ever(cascade, bundle):
    full = Full()
    runtime = CascadeRuntime(full, cascade, bundle=bundle, operating_point="balanced")
    given = [(pair.query, pair.document) for pair in pairs()[:60]]
    output = runtime.score(given)
    settled = np.asarray(output.settled)
    assert 0.5 < settled.mean() < 1.0
    assert full.read == [pair for pair, is_settled in zip(given, settled, strict=True) if not is_settled]
    assert set(output.windows[settled]) == {0}
    assert (output.logits[~settled] == full.logit).all()
    assert output.truncated[~settled].all()
    assert output.span(int(np.flatnonzero(~settled)[0])) == (0, 1)
    assert output.span(int(np.flatnonzero(settled)[0])) is None
    for row in (0, 1, 7):  # neighbours have no say
        alone = runtime.score([given[row]])
        assert alone.logits[0] == output.logits[row]
        assert alone.is_settled(0) == settled[row]


def test_an_error_of_the_full_grader_names_the_pair(cascade, bundle):
    bad = "the apple of the plum"
    runtime = CascadeRuntime(Full(bad), cascade, bundle=bundle, operating_point="balanced")
    given = [("apple plum", "hen one two three")] * 3 + [("apple plum", bad)]
    with pytest.raises(GradingError) as caught:
        runtime.score(given)
    assert caught.value.index == 3


def test_a_text_that_is_not_seen_whole_is_passed_on(cascade, bundle):
    full = Full()
    runtime = CascadeRuntime(full, cascade, bundle=bundle, operating_point="balanced")
    given = [("apple plum", "hen " * 200), ("apple plum", "\u200b"), ("apple " * 20, "hen one two three")]
    runtime.score(given)
    assert full.read == given


@pytest.fixture(scope="module")
def graders(cascade, bundle, tmp_path_factory):
    path = tmp_path_factory.mktemp("cascade") / "c.npz"
    cascade.save(path)
    return Grader.load(bundle.folder, n_threads=1), Grader.load(bundle.folder, n_threads=1, cascade=path)


def test_a_grade_says_which_stage_decided_and_is_honest(graders, cascade):
    plain, early = graders
    query, documents = "apple plum", ["the apple of the plum", "hen one two three", "goat one two three", " "]
    whole, found = plain.grade(query, documents), early.grade(query, documents)
    assert {grade.stage for grade in whole} == {"full"}
    assert [grade.stage for grade in found] == ["full", "first", "first", "full"]
    assert found[0].logit == whole[0].logit
    assert not any(grade.relevant for grade in found[1:])
    assert found.any_relevant_probability is None  # it is calibrated on logits of the full grader
    reader = early._runtime._reader
    score = early._runtime.cascade.score(reader.queries([query])[query], reader.documents(documents[1:2])[documents[1]])
    assert found[1].probability == pytest.approx(float(cascade.probability(np.array([score]))[0]), abs=1e-3)
    assert next(early.grade_pairs([(query, documents[1])])).stage == "first"


def test_evidence_goldens_and_other_points_are_those_of_the_full_grader(graders, cascade, bundle):
    plain, early = graders
    query, document = "apple plum", "the apple of the plum. hen one two three. goat one two three."
    expected, found = (each.grade(query, [document], evidence=True)[0] for each in graders)
    assert found.evidence == expected.evidence
    assert early.verify_goldens(tolerance=99.0) == plain.verify_goldens(tolerance=99.0)
    strict = early.with_point("strict")
    assert strict._runtime._threshold == cascade.point("strict").threshold
    assert strict._runtime.full is early._runtime.full
    by_hand = Grader(bundle, early._runtime, operating_point="strict")  # not that of its runtime
    assert by_hand._runtime._threshold == cascade.point("strict").threshold
    with pytest.raises(InvalidInput, match="no promise"):
        CascadeRuntime(Full(), replace(cascade, points=cascade.points[:1]), bundle=bundle, operating_point="strict")


def test_a_cascade_of_another_bundle_is_refused(cascade, bundle):
    with pytest.raises(InvalidInput, match="fitted on the bundle"):
        CascadeRuntime(Full(), replace(cascade, bundle_hash="0" * 64), bundle=bundle, operating_point="balanced")
    with pytest.raises(InvalidInput, match="a file or a Cascade"):
        Grader.load(bundle.folder, cascade=7)


@pytest.fixture
def command(bundle, tmp_path, monkeypatch):
    """Calls the command on the pairs above, graded with the logits that it is given."""
    file, output = tmp_path / "pairs.jsonl", tmp_path / "c"
    rows = [
        {"query_id": p.query_id, "query": p.query, "doc_id": p.doc_id, "document": p.document, "label": p.label}
        for p in pairs()
    ]
    file.write_text("\n".join(map(json.dumps, rows)))

    def call(given, *options):
        scores = [
            Score(query_id=p.query_id, doc_id=p.doc_id, logit=float(logit))
            for p, logit in zip(pairs(), given, strict=True)
        ]
        monkeypatch.setattr("relgrade.pipeline.cascading.score_pairs", lambda *_, **__: scores)
        base = ["cascade", str(file), "-o", str(output), "--bundle", str(bundle.folder), "--no-progress"]
        return CliRunner().invoke(main, [*base, *options]), output

    return call


def test_the_command_fits_and_tells_the_promise(command, bundle):
    done, output = command(logits(), "--share", "0.9", "--delta", "0.2")
    assert done.exit_code == 0, done.output
    fitted = Cascade.load(output)
    assert fitted.bundle_hash == load_bundle(bundle.folder).hash
    for point in fitted.points:
        told = next(line for line in done.output.splitlines() if f"{point.name}: " in line)
        assert f"{point.evidence['settled']:.1%} of the documents" in told
        assert "at most 10% at delta 0.2" in told, done.output


def test_the_command_looks_for_its_folder_before_it_grades(command, monkeypatch, tmp_path):
    done, _ = command(logits(), "-o", str(tmp_path / "none" / "c"))
    assert done.exit_code == 2
    assert f"there is no folder {tmp_path / 'none'}; make it" in done.output


def test_the_command_ends_with_1_and_writes_nothing_where_no_promise_holds(command):
    by_chance = np.random.default_rng(0).permutation(np.where(np.arange(len(pairs())) % 2, 3.0, -4.0))
    done, output = command(by_chance, "--share", "0.999", "--delta", "0.01")
    assert done.exit_code == 1, done.output
    assert not output.exists()
