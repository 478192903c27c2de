"""LangGraph: one graph of corrective RAG, run without grading, with a lenient grader, and with relgrade.

    pip install 'relgrade[langgraph,qdrant]'
    python examples/corrective_rag.py

The lenient grader stands in for the LLM of the published example, whose prompt says that a document with keywords of
the question is relevant: it counts them, so that the script needs no service. A real one goes into the same place, as
does ours: `build` takes the node, and nothing else of the graph changes.
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from langchain_core.documents import Document
from langgraph.graph import END, START, StateGraph
from vector_store import QUERIES, CorpusStore, read_jsonl

from relgrade.integrations.langgraph import decide_to_generate, grade_documents_node

SMALL_WORDS = "a an and are at be by can does for from in is it of off on or the to was were what which with"


class State(TypedDict, total=False):
    """As in the published example."""

    question: str
    documents: list[Document]
    web_search: str
    generation: str


@dataclass
class Score:
    """How a grading node did on the questions of the corpus."""

    name: str
    answerable: int = 0
    answer_kept: int = 0  # answerable questions for which a document that answers them was kept
    unanswerable: int = 0
    unanswerable_kept: int = 0  # questions without an answer for which documents were kept all the same
    documents: int = 0  # that went on to the generator
    seconds: float = 0.0  # of the grading node

    def row(self) -> str:
        """A line of the table."""
        return (
            f"{self.name:16} {self.answer_kept:>4} of {self.answerable:<6} {self.unanswerable_kept:>4} of "
            f"{self.unanswerable:<8} {self.documents:>9} {1000 * self.seconds:>12.0f}"
        )


def build(store: CorpusStore, grading: Any) -> Any:
    """The graph; only the node `grade_documents` is given."""
    graph = StateGraph(State)
    graph.add_node("retrieve", lambda state: {"documents": retrieve(store, state["question"])})
    graph.add_node("grade_documents", grading)
    graph.add_node("transform_query", lambda state: {"generation": ""})  # a search of the web would follow
    graph.add_node("generate", lambda state: {"generation": " / ".join(document.id for document in state["documents"])})
    graph.add_edge(START, "retrieve")
    graph.add_edge("retrieve", "grade_documents")
    graph.add_conditional_edges("grade_documents", decide_to_generate(), ["transform_query", "generate"])
    graph.add_edge("transform_query", END)
    graph.add_edge("generate", END)
    return graph.compile()


def retrieve(store: CorpusStore, question: str) -> list[Document]:
    """The nearest eight documents."""
    found = store.search(question, k=8)
    return [Document(id=each.id, page_content=each.text, metadata={"title": each.title}) for each in found]


def keep_everything(state: State) -> dict[str, Any]:
    """No grading: what was retrieved is read."""
    return {"documents": state["documents"], "web_search": "No"}


def keep_keywords(state: State) -> dict[str, Any]:
    """Two words in common are enough: as lenient as the published prompt."""
    wanted = words(state["question"])
    kept = [each for each in state["documents"] if len(wanted & words(each.page_content)) >= 2]
    return {"documents": kept, "web_search": "No" if kept else "Yes"}


def words(text: str) -> set[str]:
    """Words of a text, without the smallest."""
    return set(re.findall(r"[a-z]+", text.lower())) - set(SMALL_WORDS.split())


def timed(node: Any, score: Score) -> Callable[[State], dict[str, Any]]:
    """The same node, with its time added up."""
    call = node.invoke if hasattr(node, "invoke") else node

    def run(state: State) -> dict[str, Any]:
        start = time.perf_counter()
        update: dict[str, Any] = call(state)
        score.seconds += time.perf_counter() - start
        return update

    return run


def measure(store: CorpusStore, name: str, node: Any, queries: list[dict[str, Any]]) -> Score:
    """Run the graph with one node on the questions."""
    score = Score(name)
    app = build(store, timed(node, score))
    for query in queries:
        state: Mapping[str, Any] = app.invoke({"question": query["query"]})
        kept = {document.id for document in state["documents"]}
        score.documents += len(kept)
        if query["relevant"]:
            score.answerable += 1
            score.answer_kept += bool(kept & set(query["relevant"]))
        else:
            score.unanswerable += 1
            score.unanswerable_kept += bool(kept)
    return score


def main(n_questions: int | None = None) -> list[Score]:
    """Run the three and print the table."""
    store = CorpusStore()
    nodes = {
        "no grading": keep_everything,
        "keywords": keep_keywords,
        "relgrade": grade_documents_node(title_key="title"),
    }
    print("node             answer kept    kept for none     documents    grading, ms")
    scores = []
    for name, node in nodes.items():
        scores.append(measure(store, name, node, read_jsonl(QUERIES)[:n_questions]))
        print(scores[-1].row())
    store.close()
    return scores


if __name__ == "__main__":
    main()
