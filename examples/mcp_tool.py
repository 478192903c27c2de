"""MCP: what an agent sees of the tool, in one process; `relgrade mcp` serves the same to real ones.

    pip install 'relgrade[mcp,qdrant]'
    python examples/mcp_tool.py

The agent is left out: the script searches and calls the tool itself.
"""

import asyncio

import mcp
from vector_store import QUERIES, CorpusStore, gold, read_jsonl

from relgrade.integrations.mcp import create_server


async def ask_all(store: CorpusStore, n_questions: int | None) -> dict[str, list[str]]:
    """Search for every question, then ask the tool what is worth reading."""
    kept = {}
    async with mcp.Client(create_server()) as client:
        for query in read_jsonl(QUERIES)[:n_questions]:
            found = store.search(query["query"])
            documents = [{"id": each.id, "title": each.title, "text": each.text} for each in found]
            arguments = {"query": query["query"], "documents": documents}
            reply = (await client.call_tool("grade_relevance", arguments)).structured_content
            kept[query["id"]] = [documents[position]["id"] for position in reply["kept"]]
            print(f"\n{query['query']}\n  answered by: {gold(query)}\n  to read: {kept[query['id']]}")
    return kept


def main(n_questions: int | None = None) -> dict[str, list[str]]:
    """Ask the first questions of the corpus, or all; returns the ids that were kept for each."""
    store = CorpusStore()
    try:
        return asyncio.run(ask_all(store, n_questions))
    finally:
        store.close()


if __name__ == "__main__":
    main()
