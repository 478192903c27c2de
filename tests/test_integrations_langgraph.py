import asyncio
import copy
import logging
from typing import Any, TypedDict

import pytest

pytest.importorskip("langgraph")

from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import BaseModel

from integration_case import (
    KEPT_SPANS,
    KEPT_TEXTS,
    PAGES,
    QUERY,
    RELEVANT,
    TEXTS,
    WordGrader,
    check_evidence,
    fake_client,
)
from relgrade.errors import GradingError, InvalidInput
from relgrade.integrations.langgraph import decide_to_generate, grade_documents_node, route_on_relevance
from relgrade.records import KeepPolicy


class State(TypedDict, total=False):
    question: str
    documents: list[Any]
    web_search: str
    generation: str
    relgrade: dict[str, Any]


def make_documents():
    return [Document(page_content=text, id=f"d{i}", metadata={"n": i}) for i, text in enumerate(TEXTS)]


def corrective_graph(node, edge):
    """The graph of corrective RAG; only the grading node is ours."""
    graph = StateGraph(State)
    graph.add_node("retrieve", lambda state: {"documents": state["documents"]})
    graph.add_node("grade_documents", node)
    graph.add_node("transform_query", lambda state: {"generation": "searched the web"})
    graph.add_node("generate", lambda state: {"generation": f"from {len(state['documents'])}"})
    graph.add_edge(START, "retrieve")
    graph.add_edge("retrieve", "grade_documents")
    graph.add_conditional_edges("grade_documents", edge, ["transform_query", "generate"])
    graph.add_edge("transform_query", END)
    graph.add_edge("generate", END)
    return graph.compile()


# --- the node


@pytest.mark.parametrize("compress", [False, True, 0.4])
def test_the_node_hands_on_evidence_and_shorter_texts(compress):
    documents = [Document(page_content=text, id=str(i), metadata={"n": i}) for i, text in enumerate(PAGES)]
    before = copy.deepcopy(documents)
    node = grade_documents_node(WordGrader(), evidence=True, compress=compress)
    app = corrective_graph(node, decide_to_generate())
    state = app.invoke({"question": QUERY, "documents": documents})
    assert documents == before
    assert state["web_search"] == "No"
    assert [document.id for document in state["documents"]] == ["0", "2"]
    for document in state["documents"]:
        i = document.metadata["n"]
        assert check_evidence(document.metadata["relgrade_evidence"], PAGES[i])
        assert document.page_content == (KEPT_TEXTS[i] if compress is not False else PAGES[i])
        assert document.metadata.get("relgrade_spans") == (KEPT_SPANS[i] if compress is not False else None)
    assert asyncio.run(app.ainvoke({"question": QUERY, "documents": documents})) == state


def test_a_corrective_graph_generates_from_what_is_relevant():
    app = corrective_graph(grade_documents_node(WordGrader()), decide_to_generate())
    documents = make_documents()
    before = copy.deepcopy(documents)
    state = app.invoke({"question": QUERY, "documents": documents})
    assert [document.id for document in state["documents"]] == [f"d{i}" for i in RELEVANT]  # in their order
    assert (state["web_search"], state["generation"]) == ("No", "from 2")
    assert state["documents"][0].metadata["n"] == 1
    assert state["documents"][0].metadata["relevance_score"] > 0.5
    assert documents == before
    assert asyncio.run(app.ainvoke({"question": QUERY, "documents": documents})) == state


def test_a_corrective_graph_searches_when_nothing_is():
    app = corrective_graph(grade_documents_node(WordGrader()), decide_to_generate())
    for documents in (make_documents(), []):
        state = app.invoke({"question": "plum", "documents": documents})
        assert (state["documents"], state["web_search"], state["generation"]) == ([], "Yes", "searched the web")


def test_one_rejected_document_may_be_enough_to_search():
    app = corrective_graph(grade_documents_node(WordGrader(), search_when="any_irrelevant"), decide_to_generate())
    state = app.invoke({"question": QUERY, "documents": make_documents()})
    assert (len(state["documents"]), state["web_search"]) == (2, "Yes")
    state = app.invoke({"question": QUERY, "documents": [make_documents()[1]]})
    assert state["web_search"] == "No"


def test_documents_that_were_kept_to_fill_up_do_not_count_as_relevant():
    node = grade_documents_node(WordGrader(), policy=KeepPolicy(min_keep=1))
    state = node.invoke({"question": "plum", "documents": make_documents()})
    assert (len(state["documents"]), state["web_search"]) == (1, "Yes")


def test_a_self_rag_graph_has_no_key_for_the_search():
    node = grade_documents_node(WordGrader(), search_key=None)
    app = corrective_graph(node, decide_to_generate(search_key=None))
    state = app.invoke({"question": QUERY, "documents": make_documents()})
    assert "web_search" not in state
    assert state["generation"] == "from 2"
    assert app.invoke({"question": "plum", "documents": make_documents()})["generation"] == "searched the web"


def test_states_may_be_objects_and_hold_texts():
    class Typed(BaseModel):
        query: str
        context: list[str]

    node = grade_documents_node(WordGrader(), question_key="query", documents_key="context", search_key=None)
    assert node.invoke(Typed(query=QUERY, context=TEXTS)) == {"context": [TEXTS[i] for i in RELEVANT]}
    with pytest.raises(InvalidInput, match="the state has no 'query'; name the key it has instead, found: Object"):
        node.invoke(type("Object", (), {})())
    with pytest.raises(InvalidInput, match=r"the state has no 'query'.*\['question'\]"):
        node.invoke({"question": QUERY})


@pytest.mark.parametrize(("on_error", "n_kept", "flag"), [("keep_all", 5, "No"), ("drop_all", 0, "Yes")])
def test_a_failing_grader_stands_in_the_report_and_the_log(on_error, n_kept, flag, caplog):
    node = grade_documents_node(WordGrader(fails=True), on_error=on_error, report_key="relgrade")
    with caplog.at_level(logging.WARNING, "relgrade.integrations"):
        state = corrective_graph(node, decide_to_generate()).invoke({"question": QUERY, "documents": make_documents()})
    assert (len(state["documents"]), state["web_search"]) == (n_kept, flag)
    assert "nan" in state["relgrade"]["error"]
    assert "nan" in caplog.text
    assert all("nan" in document.metadata["relgrade_error"] for document in state["documents"])


def test_a_failing_grader_raises_by_default():
    with pytest.raises(GradingError):
        grade_documents_node(WordGrader(fails=True)).invoke({"question": QUERY, "documents": make_documents()})


def test_the_report_says_what_decided():
    node = grade_documents_node(WordGrader(), operating_point="high-recall", report_key="relgrade")
    report = node.invoke({"question": QUERY, "documents": make_documents()})["relgrade"]
    assert (report["n_kept"], report["n_rejected"], report["operating_point"]) == (3, 2, "high-recall")


def test_a_url_is_a_client(monkeypatch):
    made = fake_client(monkeypatch)
    state = grade_documents_node("http://localhost:8000").invoke({"question": QUERY, "documents": make_documents()})
    assert len(state["documents"]) == 2
    assert made[0].url == "http://localhost:8000"


# --- the edge of agentic RAG


def agentic_graph(edge, *tool_messages):
    graph = StateGraph(MessagesState)
    graph.add_node("retrieve", lambda state: {"messages": list(tool_messages)})
    graph.add_node("generate_answer", lambda state: {"messages": [AIMessage("answer")]})
    graph.add_node("rewrite_question", lambda state: {"messages": [HumanMessage("rewritten")]})
    graph.add_edge(START, "retrieve")
    graph.add_conditional_edges("retrieve", edge, ["generate_answer", "rewrite_question"])
    graph.add_edge("generate_answer", END)
    graph.add_edge("rewrite_question", END)
    return graph.compile()


def asked(text=QUERY):
    return {"messages": [HumanMessage(text), AIMessage("", tool_calls=[{"name": "r", "args": {}, "id": "1"}])]}


def result(content="", **options):
    return ToolMessage(content=content, tool_call_id="1", **options)


@pytest.mark.parametrize(
    ("messages", "answer"),
    [
        ([result("\n\n".join(TEXTS))], "answer"),
        ([result("the sea is grey\n\ngreen apple")], "rewritten"),
        ([result("green apple\n\nthe sea is red")], "rewritten"),  # each document alone
        ([result("")], "rewritten"),
        ([result("red apple", artifact=[Document(page_content="sea")])], "rewritten"),  # documents go before text
        ([result("sea", artifact=[Document(page_content="red apple")])], "answer"),
        ([result("a red apple"), result("the sea")], "answer"),  # two tools at once
        ([result([{"type": "text", "text": "a red apple"}])], "answer"),
    ],
)
def test_an_agentic_graph_answers_or_rewrites(messages, answer):
    app = agentic_graph(route_on_relevance(WordGrader()), *messages)
    assert app.invoke(asked())["messages"][-1].content == answer
    assert asyncio.run(app.ainvoke(asked()))["messages"][-1].content == answer


def test_the_text_of_a_tool_may_be_one_document():
    app = agentic_graph(route_on_relevance(WordGrader(), separator=None), result("red sea\n\ngreen apple"))
    assert app.invoke(asked())["messages"][-1].content == "answer"


def test_the_question_is_the_first_one_unless_told_otherwise():
    state = {"messages": [HumanMessage("plum"), HumanMessage(QUERY), result("a red apple")]}
    assert route_on_relevance(WordGrader()).invoke(state) == "rewrite_question"
    assert route_on_relevance(WordGrader(), question="last").invoke(state) == "generate_answer"


def test_the_names_of_the_next_nodes_are_yours():
    edge = route_on_relevance(WordGrader(), yes="y", no="n")
    assert edge.invoke({"messages": [HumanMessage(QUERY), result("a red apple")]}) == "y"


@pytest.mark.parametrize(("on_error", "taken"), [("keep_all", "generate_answer"), ("drop_all", "rewrite_question")])
def test_a_failing_grader_takes_the_edge_it_is_told_to(on_error, taken, caplog):
    edge = route_on_relevance(WordGrader(fails=True), on_error=on_error)
    with caplog.at_level(logging.WARNING, "relgrade.integrations"):
        assert edge.invoke({"messages": [HumanMessage(QUERY), result("a red apple")]}) == taken
    assert "nan" in caplog.text


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([HumanMessage(QUERY), AIMessage("x")], "the last message of the state is of no tool"),
        ([AIMessage("x"), result("t")], "no message of a person is among the 2"),
    ],
)
def test_a_state_without_a_question_or_a_tool_is_refused(messages, message):
    with pytest.raises(InvalidInput, match=message):
        route_on_relevance(WordGrader()).invoke({"messages": messages})


def test_wrong_choices_are_refused_when_the_graph_is_made():
    with pytest.raises(InvalidInput, match="search_when is one of"):
        grade_documents_node(WordGrader(), search_when="always")
    with pytest.raises(InvalidInput, match="question is one of"):
        route_on_relevance(WordGrader(), question="second")
