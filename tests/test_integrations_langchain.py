import asyncio
import copy
import logging
import math

import pytest

pytest.importorskip("langchain_core")

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from pydantic import ValidationError

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
from relgrade.integrations.langchain import RelevanceCompressor, RelevanceCrossEncoder, relevance_runnable
from relgrade.records import KeepPolicy


def make_documents():
    return [
        Document(page_content=text, id=f"d{i}", metadata={"n": i, "tags": ["x", i], "source": "s"})
        for i, text in enumerate(TEXTS)
    ]


def identities(documents):
    return [document.id for document in documents]


class Events(BaseCallbackHandler):
    def __init__(self):
        self.found = []

    def on_custom_event(self, name, data, **_):
        self.found.append((name, data))


# --- the compressor


def test_the_compressor_keeps_the_relevant_ones_best_first():
    kept = RelevanceCompressor(grader=WordGrader()).compress_documents(make_documents(), QUERY)
    assert identities(kept) == [f"d{i}" for i in BEST_FIRST]
    scores = [document.metadata["relevance_score"] for document in kept]
    assert scores == sorted(scores, reverse=True)


def test_ids_and_metadata_are_kept_and_nothing_is_changed():
    documents = make_documents()
    before = copy.deepcopy(documents)
    kept = RelevanceCompressor(grader=WordGrader(), order="input").compress_documents(documents, QUERY)
    assert documents == before
    assert identities(kept) == [f"d{i}" for i in RELEVANT]
    for document, i in zip(kept, RELEVANT, strict=True):
        assert document is not documents[i]
        assert document.metadata.items() >= documents[i].metadata.items()
        assert document.metadata["relgrade_bundle"] == BUNDLE_HASH
    kept[0].metadata["n"] = "changed"
    assert documents == before


def test_no_documents_are_no_call():
    grader = WordGrader(fails=True)
    assert list(RelevanceCompressor(grader=grader).compress_documents([], QUERY)) == []
    assert not grader.calls


def test_duplicates_are_judged_each():
    documents = [make_documents()[1]] * 3
    assert len(RelevanceCompressor(grader=WordGrader()).compress_documents(documents, QUERY)) == 3


def test_a_subclass_of_document_stays_one():
    class Page(Document):
        page: int = 0

    kept = RelevanceCompressor(grader=WordGrader()).compress_documents([Page(page_content=TEXTS[1], page=7)], QUERY)
    assert isinstance(kept[0], Page)
    assert kept[0].page == 7


def test_the_title_is_read_from_the_metadata_that_is_named():
    documents = [Document(page_content="an apple", metadata={"title": "Red"})]
    assert not RelevanceCompressor(grader=WordGrader()).compress_documents(documents, QUERY)
    assert RelevanceCompressor(grader=WordGrader(), title_key="title").compress_documents(documents, QUERY)


def test_the_policy_and_the_point_are_obeyed():
    one = RelevanceCompressor(grader=WordGrader(), policy=KeepPolicy(max_keep=1))
    assert identities(one.compress_documents(make_documents(), QUERY)) == ["d3"]
    wide = RelevanceCompressor(grader=WordGrader(), operating_point="high-recall")
    assert identities(wide.compress_documents(make_documents(), QUERY)) == ["d3", "d1", "d2"]
    assert RelevanceCompressor(grader=WordGrader(), policy={"max_keep": 2}).policy == KeepPolicy(max_keep=2)


@pytest.mark.parametrize("grader", [WordGrader(), AsyncWordGrader()])
def test_asynchronous_calls_give_the_same(grader):
    documents = make_documents()
    kept = asyncio.run(RelevanceCompressor(grader=grader).acompress_documents(documents, QUERY))
    assert list(kept) == list(RelevanceCompressor(grader=WordGrader()).compress_documents(documents, QUERY))


@pytest.mark.parametrize(("on_error", "n_kept"), [("keep_all", 5), ("drop_all", 0)])
def test_a_failing_grader_is_never_silent(on_error, n_kept, caplog):
    compressor = RelevanceCompressor(grader=WordGrader(fails=True), on_error=on_error)
    with caplog.at_level(logging.WARNING, "relgrade.integrations"):
        kept = compressor.compress_documents(make_documents(), QUERY)
    assert identities(kept) == [f"d{i}" for i in range(n_kept)]
    assert all("nan" in document.metadata["relgrade_error"] for document in kept)
    assert "GradingError" in caplog.text


def test_a_failing_grader_raises_by_default():
    with pytest.raises(GradingError):
        RelevanceCompressor(grader=WordGrader(fails=True)).compress_documents(make_documents(), QUERY)


def test_wrong_settings_and_graders_are_refused_when_it_is_made():
    with pytest.raises(ValidationError, match="on_error"):
        RelevanceCompressor(grader=WordGrader(), on_error="ignore")
    with pytest.raises(ValidationError, match="top_n"):
        RelevanceCompressor(grader=WordGrader(), top_n=3)
    with pytest.raises(ValidationError, match="was expected, got an object of type int"):
        RelevanceCompressor(grader=3)
    with pytest.raises(InvalidInput, match="empty"):
        RelevanceCompressor(grader=WordGrader(), on_error="keep_all").compress_documents(make_documents(), "")


@pytest.mark.parametrize("grader", [WordGrader(), AsyncWordGrader()])
@pytest.mark.parametrize("compress", [False, True, 0.4, "high-recall"])
def test_evidence_and_compression_are_in_the_copies_alone(grader, compress):
    documents = [Document(page_content=text, id=str(i), metadata={"n": i}) for i, text in enumerate(PAGES)]
    before = copy.deepcopy(documents)
    compressor = RelevanceCompressor(grader=grader, evidence=True, compress=compress, order="input")
    kept = asyncio.run(compressor.acompress_documents(documents, QUERY))
    assert documents == before
    assert identities(kept) == ["0", "2"]
    for document in kept:
        i = document.metadata["n"]
        assert check_evidence(document.metadata["relgrade_evidence"], PAGES[i])
        assert document.page_content == (KEPT_TEXTS[i] if compress is not False else PAGES[i])
        assert document.metadata.get("relgrade_spans") == (KEPT_SPANS[i] if compress is not False else None)
    if isinstance(grader, WordGrader):
        assert list(compressor.compress_documents(documents, QUERY)) == list(kept)


def test_the_runnable_compresses_documents_and_texts():
    runnable = relevance_runnable(WordGrader(), compress=True, evidence=True, order="input")
    assert runnable.invoke({"query": QUERY, "documents": PAGES}) == list(KEPT_TEXTS.values())
    (kept, _) = runnable.invoke({"query": QUERY, "documents": [Document(page_content=text) for text in PAGES]})
    assert (kept.page_content, kept.metadata["relgrade_spans"]) == (KEPT_TEXTS[0], KEPT_SPANS[0])
    with pytest.raises(ValidationError, match="compress: a flag"):
        RelevanceCompressor(grader=WordGrader(), compress=2.0)


def test_a_url_is_a_client(monkeypatch):
    made = fake_client(monkeypatch)
    compressor = RelevanceCompressor(grader="https://grader.example", operating_point="high-recall")
    assert len(compressor.compress_documents(make_documents(), QUERY)) == 3
    assert (made[0].url, made[0].operating_point) == ("https://grader.example", "high-recall")


def test_a_retriever_that_compresses_tells_its_run_what_happened():
    classic = pytest.importorskip("langchain_classic.retrievers")
    from langchain_core.retrievers import BaseRetriever

    class Fixed(BaseRetriever):
        def _get_relevant_documents(self, query, *, run_manager):
            return make_documents()

    events = Events()
    retriever = classic.ContextualCompressionRetriever(
        base_compressor=RelevanceCompressor(grader=WordGrader()), base_retriever=Fixed()
    )
    kept = retriever.invoke(QUERY, config={"callbacks": [events]})
    assert identities(kept) == ["d3", "d1"]
    ((name, data),) = events.found
    assert name == "relgrade"
    assert (data["n_kept"], data["n_rejected"], data["error"]) == (2, 3, None)
    assert identities(asyncio.run(retriever.ainvoke(QUERY))) == ["d3", "d1"]


# --- the cross-encoder


def test_the_cross_encoder_gives_probabilities_in_the_order_of_the_pairs():
    grader = WordGrader()
    pairs = [(QUERY, TEXTS[1]), ("grey sea", TEXTS[0]), (QUERY, TEXTS[0]), (QUERY, TEXTS[1])]
    scores = RelevanceCrossEncoder(grader).score(pairs)
    assert len(grader.calls) == 2  # one for each query
    assert scores[0] == scores[3] > 0.5 > scores[2]
    assert scores[1] > 0.5
    assert not any(map(math.isnan, scores))
    assert RelevanceCrossEncoder(grader).score([]) == []


def test_the_cross_encoder_reranks():
    module = pytest.importorskip("langchain_classic.retrievers.document_compressors")
    if not issubclass(RelevanceCrossEncoder, module.CrossEncoderReranker.model_fields["model"].annotation):
        pytest.skip("this langchain-classic has a class of cross-encoders of its own")
    reranker = module.CrossEncoderReranker(model=RelevanceCrossEncoder(WordGrader()), top_n=2)
    assert identities(reranker.compress_documents(make_documents(), QUERY)) == ["d3", "d1"]


# --- the runnable


def test_the_runnable_stands_behind_a_retriever():
    retriever = RunnableLambda(lambda _: make_documents())
    chain = {"query": RunnablePassthrough(), "documents": retriever} | relevance_runnable(WordGrader())
    assert identities(chain.invoke(QUERY)) == ["d3", "d1"]
    assert identities(asyncio.run(chain.ainvoke(QUERY))) == ["d3", "d1"]


def test_a_batch_is_its_calls_one_by_one():
    runnable = relevance_runnable(WordGrader(), query_key="q", documents_key="docs")
    inputs = [{"q": query, "docs": make_documents()} for query in (QUERY, "grey sea", "plum")]
    found = runnable.batch(inputs)
    assert found == [runnable.invoke(each) for each in inputs] == asyncio.run(runnable.abatch(inputs))
    assert [identities(each) for each in found] == [["d3", "d1"], ["d0"], []]


def test_the_runnable_sends_its_counts_as_an_event():
    events = Events()
    value = {"query": QUERY, "documents": make_documents()}
    relevance_runnable(WordGrader(fails=True), on_error="drop_all").invoke(value, config={"callbacks": [events]})
    assert [(name, data["n_kept"], "nan" in data["error"]) for name, data in events.found] == [("relgrade", 0, True)]


def test_the_runnable_names_what_it_misses():
    with pytest.raises(InvalidInput, match="the input has no 'documents'"):
        relevance_runnable(WordGrader()).invoke({"query": QUERY})
    with pytest.raises(InvalidInput, match="document 0: a LangChain Document or a str was expected, got int"):
        relevance_runnable(WordGrader()).invoke({"query": QUERY, "documents": [3]})


# --- the decision model


@pytest.fixture
def decisions():
    pytest.importorskip("langchain_core.decisions", reason="langchain-core 1.8 brings decision models")
    from langchain_core import decisions

    return decisions


def make_model(**options):
    from relgrade.integrations.decisions import RelevanceDecisionModel

    return RelevanceDecisionModel(grader=WordGrader(**options))


def test_the_decision_model_answers_with_the_probability(decisions):
    question = decisions.Noul(instructions="Is the document relevant to the query?")
    request = {"state": {"query": QUERY, "document": TEXTS[1]}, "questions": {"relevant": question}}
    response = make_model().invoke(request)
    expected = RelevanceCrossEncoder(WordGrader()).score([(QUERY, TEXTS[1])])[0]
    assert response.nouls["relevant"].noul == expected
    assert response.model == "relgrade"
    assert asyncio.run(make_model().ainvoke(request)).answers == response.answers


def test_the_decision_model_judges_many_documents_in_one_call(decisions):
    question = decisions.Noul(instructions="Does it contain the answer?")
    documents = {f"d{i}": {"title": "t", "text": text} for i, text in enumerate(TEXTS)}
    questions = dict.fromkeys(["d3", "d0"], question)
    response = make_model().invoke({"state": {"question": QUERY, "documents": documents}, "questions": questions})
    assert response.nouls["d3"].noul > 0.5 > response.nouls["d0"].noul


@pytest.mark.parametrize(
    ("state", "kind", "told", "message"),
    [
        ({"query": QUERY, "document": "t"}, "Noul", "Is the document in French?", "does not ask whether"),
        ({"query": QUERY, "document": "t"}, "Choice", "Is it relevant?", "answers 'noul' alone"),
        ({"query": QUERY}, "Noul", "Is it relevant?", "a document under document, passage, context was expected"),
        ({"document": "t"}, "Noul", "Is it relevant?", "a text under query or question was expected"),
        ("red apple", "Noul", "Is it relevant?", "a mapping with a query and a document was expected, got str"),
        ({"query": QUERY, "documents": {"a": "t"}}, "Noul", "Is it relevant?", "no document is called 'x'"),
        ({"query": QUERY, "document": 3}, "Noul", "Is it relevant?", "a text or a mapping with text was expected"),
    ],
)
def test_the_decision_model_refuses_what_it_cannot_answer(decisions, state, kind, told, message):
    options = {"criteria": {"a": None, "b": None}} if kind == "Choice" else {}
    question = getattr(decisions, kind)(instructions=told, **options)
    with pytest.raises(InvalidInput, match=message):
        make_model().invoke({"state": state, "questions": {"x": question}})
