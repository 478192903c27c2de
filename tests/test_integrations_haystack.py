import asyncio
import copy
import logging
import os

import pytest

os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")  # it would call home at exit
pytest.importorskip("haystack")

from haystack import Document, Pipeline
from haystack.dataclasses import ByteStream
from haystack.utils import Secret

from haystack_integrations.components.rankers.relgrade import RelgradeRanker
from integration_case import (
    BEST_FIRST,
    BUNDLE_HASH,
    KEPT_SPANS,
    KEPT_TEXTS,
    PAGES,
    QUERY,
    RELEVANT,
    TEXTS,
    AsyncWordGrader,
    WordGrader,
    check_evidence,
    fake_client,
)
from relgrade.errors import GradingError, InvalidInput
from relgrade.records import KeepPolicy


def make_documents():
    return [
        Document(id=f"d{i}", content=text, meta={"n": i, "tags": ["x"]}, score=i / 10, embedding=[0.1, 0.2])
        for i, text in enumerate(TEXTS)
    ]


def identities(documents):
    return [document.id for document in documents]


def test_documents_and_rejected_divide_the_input():
    found = RelgradeRanker(WordGrader()).run(query=QUERY, documents=make_documents())
    assert identities(found["documents"]) == [f"d{i}" for i in BEST_FIRST]
    assert identities(found["rejected"]) == ["d0", "d2", "d4"]
    assert found["error"] is None
    assert all(document.score == document.meta["relevance_score"] > 0.5 for document in found["documents"])
    assert all(document.meta["relevance_verdict"] == "not relevant" for document in found["rejected"])


def test_ids_and_meta_are_kept_and_nothing_is_changed():
    documents = make_documents()
    before = copy.deepcopy(documents)
    found = RelgradeRanker(WordGrader(), order="input").run(query=QUERY, documents=documents)
    assert documents == before
    for document, i in zip(found["documents"], RELEVANT, strict=True):
        assert document.id == f"d{i}"
        assert document.embedding == [0.1, 0.2]
        assert document.meta.items() >= documents[i].meta.items()
        assert (document.meta["retrieval_score"], document.meta["relgrade_bundle"]) == (i / 10, BUNDLE_HASH)
    found["documents"][0].meta["n"] = "changed"
    assert documents == before


def test_an_id_made_from_the_content_stays_the_one_it_was():
    document = Document(content=TEXTS[1])
    found = RelgradeRanker(WordGrader()).run(query=QUERY, documents=[document])
    assert identities(found["documents"]) == [document.id]


def test_no_documents_are_no_call():
    grader = WordGrader(fails=True)
    assert RelgradeRanker(grader).run(query=QUERY, documents=[]) == {"documents": [], "rejected": [], "error": None}
    assert not grader.calls


def test_duplicates_are_judged_each_and_no_content_is_not_relevant():
    documents = [make_documents()[1]] * 2 + [Document(blob=ByteStream(b"x"))]
    found = RelgradeRanker(WordGrader()).run(query=QUERY, documents=documents)
    assert (len(found["documents"]), len(found["rejected"])) == (2, 1)
    assert found["rejected"][0].content is None


def test_the_policy_the_point_and_the_title():
    one = RelgradeRanker(WordGrader(), policy={"max_keep": 1})
    assert identities(one.run(query=QUERY, documents=make_documents())["documents"]) == ["d3"]
    wide = RelgradeRanker(WordGrader(), operating_point="high-recall")
    assert identities(wide.run(query=QUERY, documents=make_documents())["documents"]) == ["d3", "d1", "d2"]
    titled = RelgradeRanker(WordGrader(), title_key="title")
    assert titled.run(query=QUERY, documents=[Document(content="an apple", meta={"title": "Red"})])["documents"]
    with pytest.raises(InvalidInput, match="a KeepPolicy or a mapping of min_keep, max_keep, max_tokens was expected"):
        RelgradeRanker(policy={"top_k": 1})


@pytest.mark.parametrize("grader", [WordGrader(), AsyncWordGrader()])
def test_asynchronous_calls_give_the_same(grader):
    found = asyncio.run(RelgradeRanker(grader).run_async(query=QUERY, documents=make_documents()))
    assert found == RelgradeRanker(WordGrader()).run(query=QUERY, documents=make_documents())


@pytest.mark.parametrize(("on_error", "n_kept"), [("keep_all", 5), ("drop_all", 0)])
def test_a_failing_grader_fills_the_output_error(on_error, n_kept, caplog):
    ranker = RelgradeRanker(WordGrader(fails=True), on_error=on_error)
    with caplog.at_level(logging.WARNING, "relgrade.integrations"):
        found = ranker.run(query=QUERY, documents=make_documents())
    assert (len(found["documents"]), len(found["rejected"])) == (n_kept, 5 - n_kept)
    assert found["error"] == "GradingError: the model gave nan"
    assert all("nan" in document.meta["relgrade_error"] for document in found["documents"] + found["rejected"])
    assert [document.score for document in found["documents"]] == [i / 10 for i in range(n_kept)]
    assert "nan" in caplog.text


def test_a_failing_grader_raises_by_default():
    with pytest.raises(GradingError):
        RelgradeRanker(WordGrader(fails=True)).run(query=QUERY, documents=make_documents())


@pytest.mark.parametrize("compress", [False, True, 0.4])
def test_evidence_and_compression_are_in_the_copies_alone(compress):
    documents = [Document(id=f"d{i}", content=text, meta={"n": i}) for i, text in enumerate(PAGES)]
    before = copy.deepcopy(documents)
    ranker = RelgradeRanker(WordGrader(), evidence=True, compress=compress, order="input")
    found = ranker.run(query=QUERY, documents=documents)
    assert documents == before
    assert identities(found["documents"]) == ["d0", "d2"], "the id is not made again from what is left"
    for document in found["documents"]:
        i = document.meta["n"]
        assert check_evidence(document.meta["relgrade_evidence"], PAGES[i])
        assert document.content == (KEPT_TEXTS[i] if compress is not False else PAGES[i])
        assert document.meta.get("relgrade_spans") == (KEPT_SPANS[i] if compress is not False else None)
    (rejected,) = found["rejected"]
    assert (rejected.content, rejected.meta["relgrade_evidence"]) == (PAGES[1], [])
    assert rejected.score < 0.5
    assert asyncio.run(ranker.run_async(query=QUERY, documents=documents)) == found
    with pytest.raises(InvalidInput, match="compress: a flag"):
        RelgradeRanker(WordGrader(), compress=7)


@pytest.mark.parametrize("compress", [False, True, 0.4, "high-recall"])
def test_a_pipeline_file_holds_both_options(compress):
    pipeline = Pipeline()
    pipeline.add_component("ranker", RelgradeRanker("http://localhost:1", evidence=True, compress=compress))
    again = Pipeline.loads(pipeline.dumps()).get_component("ranker")
    assert (again.evidence, again.compress) == (True, compress)
    assert type(again.compress) is type(compress)


# --- pipelines


def test_a_pipeline_is_written_and_read_without_being_allowed_to(monkeypatch):
    made = fake_client(monkeypatch)
    monkeypatch.setenv("GRADER_KEY", "k")
    pipeline = Pipeline()
    ranker = RelgradeRanker(
        "http://localhost:1",
        operating_point="high-recall",
        policy=KeepPolicy(min_keep=1, max_keep=2),
        on_error="keep_all",
        order="input",
        title_key="title",
        api_key=Secret.from_env_var("GRADER_KEY"),
    )
    pipeline.add_component("ranker", ranker)
    text = pipeline.dumps()
    assert "haystack_integrations.components.rankers.relgrade.ranker.RelgradeRanker" in text
    again = Pipeline.loads(text)
    assert again.dumps() == text
    assert made == []  # a file is read without a server
    found = again.run({"ranker": {"query": QUERY, "documents": make_documents()}})["ranker"]
    assert identities(found["documents"]) == ["d1", "d3"]
    assert (made[0].url, made[0].api_key, made[0].operating_point) == ("http://localhost:1", "k", "high-recall")


def test_a_file_that_says_little_gets_the_defaults():
    data = {"type": "haystack_integrations.components.rankers.relgrade.ranker.RelgradeRanker", "init_parameters": {}}
    ranker = RelgradeRanker.from_dict(data)
    assert (ranker.grader, ranker.policy, ranker.on_error, ranker.order) == (None, KeepPolicy(), "raise", "score")


def test_a_grader_object_cannot_be_written():
    with pytest.raises(InvalidInput, match="an object of type WordGrader cannot stand in a pipeline file"):
        RelgradeRanker(WordGrader()).to_dict()


def test_what_is_dropped_takes_another_way_through_the_pipeline():
    from haystack import component

    @component
    class Count:
        @component.output_types(n=int)
        def run(self, documents: list[Document]):
            return {"n": len(documents)}

    pipeline = Pipeline()
    pipeline.add_component("ranker", RelgradeRanker(WordGrader()))
    pipeline.add_component("kept", Count())
    pipeline.add_component("dropped", Count())
    pipeline.connect("ranker.documents", "kept.documents")
    pipeline.connect("ranker.rejected", "dropped.documents")
    found = pipeline.run({"ranker": {"query": QUERY, "documents": make_documents()}})
    assert (found["kept"]["n"], found["dropped"]["n"]) == (2, 3)


def test_warming_up_opens_the_grader_once(monkeypatch):
    made = fake_client(monkeypatch)
    ranker = RelgradeRanker("http://localhost:1")
    ranker.warm_up()
    ranker.warm_up()
    assert len(made) == 1


def test_the_other_name_is_the_same_class():
    from relgrade.integrations import haystack

    assert haystack.RelgradeRanker is RelgradeRanker
