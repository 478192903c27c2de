import asyncio
import copy
import logging

import pytest

pytest.importorskip("llama_index.core")

from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.schema import Document, ImageNode, MetadataMode, NodeWithScore, QueryBundle, TextNode

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
from relgrade.errors import BundleError, GradingError, InvalidInput
from relgrade.integrations.llamaindex import RelevancePostprocessor
from relgrade.records import KeepPolicy


def make_nodes():
    return [
        NodeWithScore(node=TextNode(text=text, id_=f"d{i}", metadata={"n": i, "tags": ["x"]}), score=i / 10)
        for i, text in enumerate(TEXTS)
    ]


def identities(nodes):
    return [node.node.node_id for node in nodes]


@pytest.fixture
def events():
    found = []

    class Handler(BaseEventHandler):
        @classmethod
        def class_name(cls):
            return "Handler"

        def handle(self, event, **_):
            found.append(event)

    handler = Handler()
    root = get_dispatcher()
    root.add_event_handler(handler)
    yield found
    root.event_handlers.remove(handler)


def test_it_keeps_the_relevant_ones_best_first_with_the_probability_as_their_score():
    kept = RelevancePostprocessor(grader=WordGrader()).postprocess_nodes(make_nodes(), query_str=QUERY)
    assert identities(kept) == [f"d{i}" for i in BEST_FIRST]
    assert [node.score for node in kept] == sorted((node.score for node in kept), reverse=True)
    assert all(node.score == node.metadata["relevance_score"] > 0.5 for node in kept)


@pytest.mark.parametrize("kind", [TextNode, Document, ImageNode])
@pytest.mark.parametrize("compress", [False, True, 0.4])
def test_evidence_and_compression_are_in_the_copies_alone(kind, compress):
    nodes = [NodeWithScore(node=kind(text=text, id_=f"d{i}", metadata={"n": i})) for i, text in enumerate(PAGES)]
    before = copy.deepcopy(nodes)
    postprocessor = RelevancePostprocessor(grader=WordGrader(), evidence=True, compress=compress, order="input")
    kept = postprocessor.postprocess_nodes(nodes, query_str=QUERY)
    assert nodes == before
    assert [each.node.get_content(MetadataMode.NONE) for each in nodes] == PAGES
    assert identities(kept) == ["d0", "d2"]
    for each in kept:
        i = each.metadata["n"]
        assert type(each.node) is kind
        assert check_evidence(each.metadata["relgrade_evidence"], PAGES[i])
        assert each.metadata.get("relgrade_spans") == (KEPT_SPANS[i] if compress is not False else None)
        text = KEPT_TEXTS[i] if compress is not False else PAGES[i]
        assert each.node.get_content(MetadataMode.NONE) == text
        for mode in (MetadataMode.LLM, MetadataMode.EMBED):
            assert "relgrade" not in each.node.get_content(mode), "offsets are no reading for a model"
    again = asyncio.run(postprocessor.apostprocess_nodes(nodes, query_str=QUERY))
    assert [each.node.get_content(MetadataMode.NONE) for each in again] == [
        each.node.get_content(MetadataMode.NONE) for each in kept
    ]


def test_ids_and_metadata_are_kept_and_nothing_is_changed():
    nodes = make_nodes()
    before = copy.deepcopy(nodes)
    kept = RelevancePostprocessor(grader=WordGrader(), order="input").postprocess_nodes(nodes, QueryBundle(QUERY))
    assert nodes == before
    assert identities(kept) == [f"d{i}" for i in RELEVANT]
    for node, i in zip(kept, RELEVANT, strict=True):
        assert node.metadata.items() >= nodes[i].metadata.items()
        assert node.metadata["retrieval_score"] == i / 10
        assert node.metadata["relgrade_bundle"] == BUNDLE_HASH
    kept[0].node.metadata["n"] = "changed"
    assert nodes == before


def test_notes_are_hidden_from_the_llm_and_the_embedding():
    node = RelevancePostprocessor(grader=WordGrader()).postprocess_nodes(make_nodes(), query_str=QUERY)[0].node
    original = make_nodes()[3].node
    for mode in (MetadataMode.LLM, MetadataMode.EMBED):
        assert node.get_content(mode) == original.get_content(mode)


def test_no_nodes_are_no_call():
    grader = WordGrader(fails=True)
    assert RelevancePostprocessor(grader=grader).postprocess_nodes([], query_str=QUERY) == []
    assert not grader.calls


def test_duplicates_and_nodes_without_text_or_score():
    twice = [make_nodes()[1], make_nodes()[1], NodeWithScore(node=ImageNode(image="aaaa"))]
    kept = RelevancePostprocessor(grader=WordGrader()).postprocess_nodes(twice, query_str=QUERY)
    assert identities(kept) == ["d1", "d1"]
    kept = RelevancePostprocessor(grader=WordGrader(), policy=KeepPolicy(min_keep=3)).postprocess_nodes(
        twice, query_str=QUERY
    )
    assert isinstance(kept[2].node, ImageNode)
    assert "retrieval_score" not in kept[2].metadata


def test_the_policy_the_point_and_the_title():
    one = RelevancePostprocessor(grader=WordGrader(), policy=KeepPolicy(max_keep=1))
    assert identities(one.postprocess_nodes(make_nodes(), query_str=QUERY)) == ["d3"]
    wide = RelevancePostprocessor(grader=WordGrader(), operating_point="high-recall")
    assert identities(wide.postprocess_nodes(make_nodes(), query_str=QUERY)) == ["d3", "d1", "d2"]
    titled = [NodeWithScore(node=TextNode(text="an apple", metadata={"title": "Red"}))]
    assert RelevancePostprocessor(grader=WordGrader(), title_key="title").postprocess_nodes(titled, query_str=QUERY)


@pytest.mark.parametrize("grader", [WordGrader(), AsyncWordGrader()])
def test_asynchronous_calls_give_the_same(grader):
    nodes = make_nodes()
    kept = asyncio.run(RelevancePostprocessor(grader=grader).apostprocess_nodes(nodes, query_str=QUERY))
    assert kept == RelevancePostprocessor(grader=WordGrader()).postprocess_nodes(nodes, query_str=QUERY)


def test_observers_hear_of_the_start_the_counts_and_the_end(events):
    RelevancePostprocessor(grader=WordGrader(), policy=KeepPolicy(max_keep=4)).postprocess_nodes(
        make_nodes(), query_str=QUERY
    )
    start, counts, end = (event for event in events if "Span" not in event.class_name())
    assert (start.class_name(), start.top_n, len(start.nodes)) == ("ReRankStartEvent", 4, 5)
    assert (counts.class_name(), counts.n_kept, counts.n_rejected, counts.error) == ("RelevanceEvent", 2, 3, None)
    assert (end.class_name(), identities(end.nodes)) == ("ReRankEndEvent", ["d3", "d1"])


@pytest.mark.parametrize(("on_error", "n_kept"), [("keep_all", 5), ("drop_all", 0)])
def test_a_failing_grader_is_never_silent(on_error, n_kept, caplog, events):
    processor = RelevancePostprocessor(grader=WordGrader(fails=True), on_error=on_error)
    with caplog.at_level(logging.WARNING, "relgrade.integrations"):
        kept = processor.postprocess_nodes(make_nodes(), query_str=QUERY)
    assert identities(kept) == [f"d{i}" for i in range(n_kept)]
    assert [node.score for node in kept] == [i / 10 for i in range(n_kept)]  # the retriever's
    assert all("nan" in node.metadata["relgrade_error"] for node in kept)
    assert "nan" in caplog.text
    assert [event.error for event in events if event.class_name() == "RelevanceEvent"] == [
        "GradingError: the model gave nan"
    ]


def test_a_failing_grader_raises_by_default():
    with pytest.raises(GradingError):
        RelevancePostprocessor(grader=WordGrader(fails=True)).postprocess_nodes(make_nodes(), query_str=QUERY)


def test_a_missing_query_is_refused():
    with pytest.raises(InvalidInput, match="pass query_bundle or query_str"):
        RelevancePostprocessor(grader=WordGrader()).postprocess_nodes(make_nodes())


def test_a_url_is_a_client_and_survives_a_round_trip(monkeypatch):
    made = fake_client(monkeypatch)
    processor = RelevancePostprocessor(grader="http://localhost:1", policy=KeepPolicy(max_keep=3), order="input")
    again = RelevancePostprocessor.from_dict(processor.to_dict())
    assert again.postprocess_nodes(make_nodes(), query_str=QUERY) == processor.postprocess_nodes(
        make_nodes(), query_str=QUERY
    )
    assert (again.policy, again.order, again.class_name()) == (
        KeepPolicy(max_keep=3),
        "input",
        "RelevancePostprocessor",
    )
    assert [each.url for each in made] == ["http://localhost:1"] * 2


def test_an_object_is_not_written_and_says_so_when_it_is_read():
    data = RelevancePostprocessor(grader=WordGrader()).to_dict()
    with pytest.raises(BundleError, match="WordGrader"):
        RelevancePostprocessor.from_dict(data)
