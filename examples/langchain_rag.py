"""LangChain: a retriever over Qdrant, and the chain that keeps what answers the question.

    pip install 'relgrade[langchain,qdrant]'
    python examples/langchain_rag.py

It prints what a prompt would be made of; the language model is yours.
"""

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnablePassthrough
from pydantic import ConfigDict
from vector_store import QUERIES, CorpusStore, gold, read_jsonl

from relgrade.integrations.langchain import relevance_runnable


class StoreRetriever(BaseRetriever):
    """The nearest documents of the store."""

    store: CorpusStore
    k: int = 8

    model_config = ConfigDict(arbitrary_types_allowed=True)

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        return [
            Document(id=each.id, page_content=each.text, metadata={"title": each.title, "subject": each.subject})
            for each in self.store.search(query, k=self.k)
        ]


def main(n_questions: int | None = None) -> dict[str, list[str]]:
    """Ask the first questions of the corpus, or all; returns the ids that were kept for each."""
    retriever = StoreRetriever(store=CorpusStore())
    chain = {"query": RunnablePassthrough(), "documents": retriever} | relevance_runnable(title_key="title")
    kept = {}
    for query in read_jsonl(QUERIES)[:n_questions]:
        documents = chain.invoke(query["query"])
        kept[query["id"]] = [document.id for document in documents]
        print(f"\n{query['query']}\n  answered by: {gold(query)}")
        for document in documents:
            print(f"  kept {document.metadata['relevance_score']:.2f}  {document.metadata['title']}")
        if not documents:
            print("  nothing was kept: say so, or search elsewhere")
    retriever.store.close()
    return kept


if __name__ == "__main__":
    main()
