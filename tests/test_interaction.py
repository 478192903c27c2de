"""The interaction architecture from student to runtime: what a pair's logit may and may not depend on."""

import json
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from interaction_case import write_interaction_bundle  # noqa: E402
from relgrade.errors import BundleCorrupt, InvalidInput  # noqa: E402
from relgrade.export.interaction import export_interaction, measure_interaction  # noqa: E402
from relgrade.grade.interaction import InteractionRuntime  # noqa: E402
from relgrade.records import Pair  # noqa: E402
from relgrade.settings import ExportSettings, StudentSettings  # noqa: E402
from relgrade.student import evidence_cache  # noqa: E402
from relgrade.student.build import build_student, load_student  # noqa: E402
from relgrade.student.evidence_cache import EvidenceCache  # noqa: E402

TEXTS = [
    "red apple",
    "the cat is on the hill",
    "blue " * 40 + "river",
    "zzz",
    "fig",
    "where is the black horse of the lake one two three four green plum",
    "a sheep, a goat, a duck and a hen of the wood " * 3,
    "one two three four five what was the black horse of the lake it was a green plum of the wood",  # an echo
]
QUERIES = ["where is the cat", "red", "what was the black horse of the lake"]


def pairs():
    return [
        Pair(query_id=str(i), query=query, doc_id=str(j), document=text, label=float(i == j % 3), source=f"s{j % 2}")
        for i, query in enumerate(QUERIES)
        for j, text in enumerate(TEXTS)
    ]


def settings(base, **changes):
    values = {"max_tokens": 16, "max_query_tokens": 8, "max_windows": 4, "train_encoder": False, "hidden": 8} | changes
    return StudentSettings(architecture="interaction", base=str(base), **values)


@pytest.fixture(scope="module")
def student(tiny_bert_folder, tmp_path_factory):
    """Prepared on the pairs, with a head that has learned nothing but is not zero, and no cache."""
    made = build_student(settings(tiny_bert_folder), seed=3)
    made.prepare(pairs(), cache_folder=tmp_path_factory.mktemp("cache"))
    made._cache = None
    with torch.no_grad():
        made.head.network.free.linear.weight.normal_(0.0, 3.0, generator=torch.Generator().manual_seed(5))
        made.head.source_bias.copy_(torch.tensor([1.0, -2.0]))
    return made.eval()


@pytest.fixture(scope="module")
def graphs(student, tmp_path_factory):
    return export_interaction(student, tmp_path_factory.mktemp("graphs"), ExportSettings())


@pytest.fixture(scope="module")
def bundle(student, graphs, tmp_path_factory):
    return write_interaction_bundle(tmp_path_factory.mktemp("bundle") / "b", student, graphs)


def test_a_batch_scores_as_its_pairs_do_alone(student):
    together = student.score(pairs())
    alone = [student.score([pair])[0] for pair in pairs()]
    assert len({round(logit, 6) for logit in together}) > 5
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_cached_measures_give_the_same_logits_and_are_not_computed_twice(student, tmp_path, monkeypatch):
    cache = EvidenceCache(tmp_path, student._measure, fingerprint="x")
    cache.fill(pairs(), lengths=student._lengths(pairs()))
    expected = torch.cat([student._measure([pair]) for pair in pairs()]).numpy()
    np.testing.assert_allclose(cache.rows(pairs()), expected, atol=1e-5)

    def refuse(_):
        raise AssertionError("computed again")

    again = EvidenceCache(tmp_path, refuse, fingerprint="x")
    again.fill(pairs(), lengths=student._lengths(pairs()))
    np.testing.assert_array_equal(again.rows(pairs()), cache.rows(pairs()))
    with pytest.raises(AssertionError, match="computed again"):
        EvidenceCache(tmp_path, refuse, fingerprint="y").fill(pairs(), lengths=student._lengths(pairs()))


def test_a_document_is_read_once_for_all_its_queries(student, tmp_path, monkeypatch):
    documents, queries = ["one two three", "four five six"], [f"query {n}" for n in range(5)]
    crossed = [
        Pair(query_id=query, query=query, doc_id=document, document=document)
        for query in queries
        for document in documents
    ]
    read: list[str] = []
    encode = student._encode

    def counted(texts, *, kind):
        read.extend(texts if kind == "document" else [])
        return encode(texts, kind=kind)

    monkeypatch.setattr(student, "_encode", counted)
    cache = EvidenceCache(tmp_path, student._measure, fingerprint="x")
    cache.fill(crossed, lengths=student._lengths(crossed))
    assert sorted(read) == sorted(documents)


@pytest.mark.parametrize(("n_tokens", "n_pairs"), [(40, 64), (10**6, 7)])
def test_a_batch_of_the_cache_holds_its_budget(monkeypatch, n_tokens, n_pairs):
    monkeypatch.setattr(evidence_cache, "BATCH_TOKENS", n_tokens)
    monkeypatch.setattr(evidence_cache, "BATCH_PAIRS", n_pairs)
    several = [
        Pair(query_id=f"{q}", query=f"q{q}", doc_id=f"{d}", document=f"d{d}") for d in range(6) for q in range(5)
    ]
    lengths = {f"q{n}": 2 + n for n in range(5)} | {f"d{n}": 5 * n + 3 for n in range(6)}
    batches = list(evidence_cache._batches(several, lengths))
    assert [pair for batch in batches for pair in batch] == several
    for batch in batches:
        kinds = ({p.query for p in batch}, {p.document for p in batch})
        padded = sum(len(texts) * max(lengths[text] for text in texts) for texts in kinds)
        assert len(batch) <= n_pairs
        assert padded <= n_tokens or len(batch) == 1
    assert len(batches) < len(several)


def test_the_bias_of_a_source_counts_in_training_alone(student):
    one = pairs()[0]
    values = [
        student.collate([Pair(query_id="q", query=one.query, doc_id="d", document=one.document, source=s)])
        for s in ("s0", "s1", None)
    ]
    student.head.train()
    student.head.network.eval()
    student.training = True
    first, second, unknown = (student(**dict(v)).item() for v in values)
    student.eval()
    quiet = [student(**dict(v)).item() for v in values]
    assert first - second == pytest.approx(3.0, abs=1e-4)
    assert unknown == pytest.approx(quiet[0], abs=1e-5)
    assert quiet[0] == pytest.approx(quiet[1], abs=1e-6)


@pytest.mark.parametrize("train_encoder", [False, True])
def test_parameters_to_train_follow_the_settings(tiny_bert_folder, train_encoder):
    groups = build_student(settings(tiny_bert_folder, train_encoder=train_encoder), seed=0).parameter_groups()
    assert bool(groups["encoder"]) == train_encoder
    assert groups["head"]


def test_a_trained_encoder_receives_gradients(tiny_bert_folder, tmp_path):
    student = build_student(settings(tiny_bert_folder, train_encoder=True), seed=0)
    student.prepare(pairs(), cache_folder=tmp_path)
    student.train()
    student(**student.collate(pairs()[:4])).sum().backward()
    gradients = [weight.grad for weight in student.parameter_groups()["encoder"] if weight.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert sum(float(gradient.abs().sum()) for gradient in gradients) > 0


def test_a_saved_student_comes_back(student, tmp_path):
    student.save(tmp_path / "s")
    np.testing.assert_allclose(load_student(tmp_path / "s").score(pairs()), student.score(pairs()), atol=1e-6)
    (tmp_path / "s" / "interaction.safetensors").unlink()
    with pytest.raises(InvalidInput, match="not a whole interaction student"):
        load_student(tmp_path / "s")


def test_graphs_say_what_the_student_says(student, graphs):
    report = measure_interaction(student, pairs(), graphs=graphs, threshold=0.0)
    assert report.max_logit_error < 1e-4
    assert graphs.fusion.is_fused


def test_a_logit_does_not_depend_on_neighbours_order_or_threads(bundle):
    texts = [(pair.query, pair.document) for pair in pairs()]
    one, two = (InteractionRuntime.from_bundle(bundle, n_threads=n) for n in (1, 2))
    whole = one.score(texts)
    assert len(set(whole.logits)) > 5
    np.testing.assert_array_equal(two.score(texts).logits, whole.logits)
    np.testing.assert_array_equal(one.score(texts[::-1]).logits[::-1], whole.logits)
    for row, text in enumerate(texts):
        assert one.score([text]).logits[0] == whole.logits[row]


def test_a_bundle_without_a_list_head_says_the_same(bundle, student, graphs, tmp_path):
    older = write_interaction_bundle(tmp_path / "b", student, graphs, has_list_head=False)
    assert set(older.manifest.graphs) == {"encoder", "head"}
    texts = [(pair.query, pair.document) for pair in pairs()]
    now, before = (InteractionRuntime.from_bundle(each, n_threads=1).score(texts) for each in (bundle, older))
    np.testing.assert_allclose(now.logits, before.logits, atol=1e-5)
    np.testing.assert_array_equal(now.windows, before.windows)


def test_a_query_takes_few_runs_and_an_echo_one_of_its_own(bundle, monkeypatch):
    runtime = InteractionRuntime.from_bundle(bundle, n_threads=1)
    sizes = {runtime._list_head: [], runtime._head: []}
    run_each = runtime._pool.run_each

    def counting(session, feeds):
        if session in sizes:
            sizes[session].extend(len(feed["document_ids"]) for feed in feeds)
        return run_each(session, feeds)

    monkeypatch.setattr(runtime._pool, "run_each", counting)
    question, echo = QUERIES[2], TEXTS[7]
    fruit = [f"{colour} {fruit}" for colour in ("red", "blue", "green") for fruit in ("apple", "plum", "fig")]
    runtime.score([(question, text) for text in fruit])
    assert sizes == {runtime._list_head: [9], runtime._head: []}
    runtime.score([(question, text) for text in (*fruit, echo)] + [(QUERIES[0], text) for text in fruit])
    assert sum(sizes[runtime._list_head]) == 9 + 19
    assert len(sizes[runtime._list_head]) <= 1 + 3  # those of another number of windows stand alone
    assert sizes[runtime._head] == [1]


@pytest.mark.parametrize("spoiled", [slice(0, 1), slice(None)])
def test_states_that_are_not_finite_spoil_their_own_document_alone(bundle, spoiled):
    runtime = InteractionRuntime.from_bundle(bundle, n_threads=1)
    documents = runtime._read(["red apple", "blue plum"], kind="document")
    query = runtime._read(["red"], kind="query")["red"]
    whole = runtime._judge([(query, documents["red apple"]), (query, documents["blue plum"])])
    documents["red apple"].states[spoiled] = np.nan
    found = runtime._judge([(query, documents["red apple"]), (query, documents["blue plum"])])
    assert np.isnan(found[0])
    assert found[1] == whole[1]


def test_many_documents_are_read_in_chunks_with_the_same_result(bundle, monkeypatch):
    texts = [(pair.query, pair.document) for pair in pairs()]
    runtime = InteractionRuntime.from_bundle(bundle, n_threads=1)
    whole = runtime.score(texts)
    monkeypatch.setattr("relgrade.grade.interaction.CHUNK_DOCUMENTS", 2)
    chunked = runtime.score(texts)
    np.testing.assert_array_equal(chunked.logits, whole.logits)
    np.testing.assert_array_equal(chunked.windows, whole.windows)


def test_windows_and_cuts_are_reported(bundle):
    runtime = InteractionRuntime.from_bundle(bundle, n_threads=1)
    found = runtime.score([("red", "red"), ("red", "blue " * 15), ("red", "blue " * 56), ("red", "blue " * 57)])
    assert found.windows.tolist() == [1, 2, 4, 4]
    assert found.truncated.tolist() == [False, False, False, True]
    assert runtime.score([("red " * 9, "red")]).truncated.tolist() == [True]


@pytest.mark.parametrize(
    ("query", "document"), [("\u200b", "red"), ("red", "\u200b"), ("\u200b", "\u200b"), ("a", "a")]
)
def test_texts_of_no_or_one_token_get_a_finite_logit(bundle, student, query, document):
    found = InteractionRuntime.from_bundle(bundle, n_threads=1).score([(query, document)])
    expected = student.score([Pair(query_id="q", query=query, doc_id="d", document=document)])
    assert np.isfinite(found.logits).all()
    assert found.logits[0] == pytest.approx(expected[0], abs=0.2)


def test_a_head_with_other_inputs_is_refused(bundle, tmp_path):
    folder = tmp_path / "b"
    shutil.copytree(bundle.folder, folder)
    content = json.loads((folder / "bundle.json").read_text())
    content["graphs"]["head"] = content["graphs"]["encoder"]
    (folder / "bundle.json").write_text(json.dumps(content))
    from relgrade.bundle import load_bundle

    with pytest.raises(BundleCorrupt, match="head reads"):
        InteractionRuntime.from_bundle(load_bundle(folder), n_threads=1)
