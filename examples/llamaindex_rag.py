"""LlamaIndex: a query engine over Qdrant whose postprocessor keeps what answers the question.

    pip install 'relgrade[llamaindex,qdrant]'
    python examples/llamaindex_rag.py

The engine stops before the language model, which needs a service or weights; what it would read is printed.
"""

from llama_index.core import Settings
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from vector_store import QUERIES, CorpusStore, gold, read_jsonl

from relgrade.integrations.llamaindex import RelevancePostprocessor


class StoreRetriever(BaseRetriever):
    """The nearest documents of the store."""

    def __init__(self, store: CorpusStore, k: int = 8) -> None:
        self._store, self._k = store, k
        super().__init__()

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [
            NodeWithScore(node=TextNode(id_=each.id, text=each.text, metadata={"title": each.title}), score=each.score)
            for each in self._store.search(query_bundle.query_str, k=self._k)
        ]


def main(n_questions: int | None = None) -> dict[str, list[str]]:
    """Ask the first questions of the corpus, or all; returns the ids that were kept for each."""
    store = CorpusStore()
    Settings.llm = MockLLM()  # the engine wants one even where it writes no answer
    engine = RetrieverQueryEngine.from_args(
        StoreRetriever(store),
        node_postprocessors=[RelevancePostprocessor(title_key="title")],
        response_mode="no_text",
    )
    kept = {}
    for query in read_jsonl(QUERIES)[:n_questions]:
        nodes = engine.query(query["query"]).source_nodes
        kept[query["id"]] = [node.node_id for node in nodes]
        print(f"\n{query['query']}\n  answered by: {gold(query)}")
        for node in nodes:
            nearness = node.metadata["retrieval_score"]
            print(f"  kept {node.score:.2f} (cosine {nearness:.2f})  {node.metadata['title']}")
        if not nodes:
            print("  nothing was kept: say so, or search elsewhere")
    store.close()
    return kept


if __name__ == "__main__":
    main()
