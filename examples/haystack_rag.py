"""Haystack: a pipeline over Qdrant, a prompt from what was kept, and another way where nothing was.

    pip install 'relgrade[haystack,qdrant]'
    python examples/haystack_rag.py

It ends at the prompt; the generator is yours.
"""

from haystack import Document, Pipeline, component
from haystack.components.builders import PromptBuilder
from haystack.components.routers import ConditionalRouter
from vector_store import QUERIES, CorpusStore, gold, read_jsonl

from haystack_integrations.components.rankers.relgrade import RelgradeRanker

ROUTES = [
    {
        "condition": "{{ documents|length > 0 }}",
        "output": "{{ documents }}",
        "output_name": "found",
        "output_type": list[Document],
    },
    {
        "condition": "{{ documents|length == 0 }}",
        "output": "{{ query }}",
        "output_name": "search_elsewhere",
        "output_type": str,
    },
]
PROMPT = "{% for each in documents %}{{ each.content }}\n{% endfor %}Question: {{ query }}"


@component
class StoreRetriever:
    """The nearest documents of the store."""

    def __init__(self, store: CorpusStore, k: int = 8) -> None:
        self.store, self.k = store, k

    @component.output_types(documents=list[Document])
    def run(self, query: str) -> dict[str, list[Document]]:
        """Search."""
        found = self.store.search(query, k=self.k)
        return {
            "documents": [
                Document(id=each.id, content=each.text, meta={"title": each.title}, score=each.score) for each in found
            ]
        }


def build(store: CorpusStore) -> Pipeline:
    """Retriever, grader, router, prompt."""
    pipeline = Pipeline()
    pipeline.add_component("retriever", StoreRetriever(store))
    pipeline.add_component("grader", RelgradeRanker(title_key="title"))
    pipeline.add_component("router", ConditionalRouter(ROUTES, unsafe=True))  # documents are no literals
    pipeline.add_component("prompt", PromptBuilder(PROMPT, required_variables=["documents", "query"]))
    pipeline.connect("retriever.documents", "grader.documents")
    pipeline.connect("grader.documents", "router.documents")
    pipeline.connect("router.found", "prompt.documents")
    return pipeline


def main(n_questions: int | None = None) -> dict[str, list[str]]:
    """Ask the first questions of the corpus, or all; returns the ids that were kept for each."""
    store = CorpusStore()
    pipeline = build(store)
    kept = {}
    for query in read_jsonl(QUERIES)[:n_questions]:
        text = query["query"]
        inputs = {name: {"query": text} for name in ("retriever", "grader", "router", "prompt")}
        result = pipeline.run(inputs, include_outputs_from={"grader"})
        documents = result["grader"]["documents"]
        kept[query["id"]] = [document.id for document in documents]
        print(f"\n{text}\n  answered by: {gold(query)}")
        for document in documents:
            print(f"  kept {document.score:.2f}  {document.meta['title']}")
        print(f"  {len(result['grader']['rejected'])} rejected")
        if "prompt" in result:
            print(f"  a prompt of {len(result['prompt']['prompt']):,} characters")
        else:
            print(f"  to search elsewhere: {result['router']['search_elsewhere']}")
    store.close()
    return kept


if __name__ == "__main__":
    main()
