"""What each unmodified client is asked to do, run inside that client's own environment: `client_checks.py SUITE URL`.

Needs nothing of relgrade. Prints one JSON object a line: client, version, call, ok, note.
"""

import importlib.metadata
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

QUERY = "When does the museum close on Sundays?"
BEST = "The museum is open from 10 to 18 on weekdays and closes at 20 on Sundays."
DOCUMENTS = ["Tickets cost 12, and 6 for students.", BEST, "Parking fines in the city rose to 25 this year."]
Check = tuple[str, str, Callable[[], Any]]  # package, call, and what returns True or a note


def best_first(indices: Sequence[int], scores: Sequence[float], *, n: int = 3) -> bool:
    """Document 1 leads, scores fall and are probabilities."""
    assert len(indices) == len(scores) == n, f"{len(indices)} results, {n} were expected"
    assert indices[0] == 1, f"document {indices[0]} leads"
    assert list(scores) == sorted(scores, reverse=True), "the scores do not fall"
    assert all(0.0 <= score <= 1.0 for score in scores), "a score is no probability"
    return True


def fails_with(words: str, call: Callable[[], Any]) -> bool:
    """The client's own error shows what the server said."""
    try:
        call()
    except Exception as error:
        if words not in str(error):
            raise AssertionError(f"{type(error).__name__}: {error}") from error
        return True
    raise AssertionError("no error came")


def cohere_checks(url: str) -> Iterator[Check]:
    """v1 and v2 of whatever major version is installed."""
    import cohere

    v2 = cohere.ClientV2(api_key="x", base_url=url)
    v1 = cohere.Client(api_key="x", base_url=url)

    def of(reply: Any, **wanted: int) -> bool:
        return best_first([r.index for r in reply.results], [r.relevance_score for r in reply.results], **wanted)

    yield "cohere", "ClientV2.rerank", lambda: of(v2.rerank(model="m", query=QUERY, documents=DOCUMENTS))
    yield (
        "cohere",
        "ClientV2.rerank top_n",
        lambda: of(v2.rerank(model="m", query=QUERY, documents=DOCUMENTS, top_n=2), n=2),
    )
    rows = [{"text": text, "k": "v"} for text in DOCUMENTS]

    def with_documents() -> bool:
        reply = v1.rerank(model="m", query=QUERY, documents=rows, return_documents=True)
        assert reply.results[0].document is not None
        assert reply.results[0].document.text == BEST
        return of(reply)

    yield "cohere", "Client.rerank return_documents", with_documents
    if hasattr(cohere, "RerankRelevantSpans"):  # from 7 on

        def with_spans() -> bool:
            wanted = cohere.RerankRelevantSpans(mode="enabled", threshold=0.2, max_spans=1)
            text = f"It rained all day. {BEST}"
            reply = v2.rerank(model="m", query=QUERY, documents=[text], relevant_spans=wanted)
            (span,) = reply.results[0].relevant_spans or ()
            return text[span.start : span.end] == BEST and 0.2 <= span.score <= 1.0

        yield "cohere", "ClientV2.rerank relevant_spans", with_spans
    yield (
        "cohere",
        "ClientV2.rerank, error",
        lambda: fails_with("422", lambda: v2.rerank(model="m", query=" ", documents=["a"])),
    )


def langchain_cohere_checks(url: str) -> Iterator[Check]:
    """The document compressor."""
    from langchain_cohere import CohereRerank
    from langchain_core.documents import Document

    ranker = CohereRerank(base_url=url, model="m", cohere_api_key="x", top_n=2)

    def compress() -> bool:
        found = ranker.compress_documents([Document(page_content=text) for text in DOCUMENTS], QUERY)
        assert found[0].page_content == BEST
        return best_first([1, 0], [document.metadata["relevance_score"] for document in found], n=2)

    yield "langchain-cohere", "CohereRerank.compress_documents", compress


def llama_index_checks(url: str) -> Iterator[Check]:
    """The three rerankers that speak a dialect of ours."""
    from llama_index.core.schema import NodeWithScore, TextNode
    from llama_index.postprocessor.cohere_rerank import CohereRerank
    from llama_index.postprocessor.jinaai_rerank import JinaRerank
    from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

    def ranks(ranker: Any) -> bool:
        nodes = [NodeWithScore(node=TextNode(text=text)) for text in DOCUMENTS]
        found = ranker.postprocess_nodes(nodes, query_str=QUERY)
        assert found[0].node.get_content() == BEST
        return best_first([1] * len(found), [node.score for node in found])

    tei = TextEmbeddingInference(base_url=url, top_n=3, model_name="m")
    many = [NodeWithScore(node=TextNode(text=f"text {i}")) for i in range(100)]
    yield "llama-index-postprocessor-tei-rerank", "postprocess_nodes", lambda: ranks(tei)
    yield (
        "llama-index-postprocessor-tei-rerank",
        "postprocess_nodes, 100 nodes",
        lambda: len(tei.postprocess_nodes(many, query_str=QUERY)) == 3,
    )
    jina = JinaRerank(base_url=f"{url}/v1", api_key="x", top_n=3, model="m")
    yield "llama-index-postprocessor-jinaai-rerank", "postprocess_nodes", lambda: ranks(jina)
    yield (
        "llama-index-postprocessor-jinaai-rerank",
        "postprocess_nodes, error",
        lambda: fails_with("query: empty", lambda: jina.postprocess_nodes(many[:2], query_str=" ")),
    )
    cohere = CohereRerank(base_url=url, api_key="x", top_n=3, model="m")
    yield "llama-index-postprocessor-cohere-rerank", "postprocess_nodes", lambda: ranks(cohere)


def haystack_checks(url: str) -> Iterator[Check]:
    """The three rankers that speak a dialect of ours."""
    from haystack import Document
    from haystack.utils import Secret
    from haystack_integrations.components.rankers.cohere import CohereRanker
    from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker
    from haystack_integrations.components.rankers.jina import JinaRanker

    def ranks(ranker: Any) -> bool:
        found = ranker.run(query=QUERY, documents=[Document(content=text) for text in DOCUMENTS])["documents"]
        assert found[0].content == BEST
        return best_first([1] * len(found), [document.score for document in found])

    token = Secret.from_token("x")
    yield (
        "huggingface-api-haystack",
        "HuggingFaceTEIRanker.run",
        lambda: ranks(HuggingFaceTEIRanker(url=url, top_k=3, token=token)),
    )
    jina = JinaRanker(base_url=f"{url}/v1/rerank", api_key=token, top_k=3, model="m")
    yield "jina-haystack", "JinaRanker.run", lambda: ranks(jina)
    yield (
        "jina-haystack",
        "JinaRanker.run, error",
        lambda: fails_with("query: empty", lambda: jina.run(query=" ", documents=[Document(content="a")])),
    )
    yield (
        "cohere-haystack",
        "CohereRanker.run",
        lambda: ranks(CohereRanker(api_base_url=url, api_key=token, top_k=3, model="m")),
    )


def voyage_checks(url: str) -> Iterator[Check]:
    """With and without top_k."""
    import voyageai

    client = voyageai.Client(api_key="x", base_url=f"{url}/v1")

    def ranks(**options: Any) -> bool:
        found = client.rerank(QUERY, DOCUMENTS, model="rerank-2", **options).results
        assert found[0].document == BEST
        return best_first([r.index for r in found], [r.relevance_score for r in found], n=options.get("top_k", 3))

    yield "voyageai", "Client.rerank", ranks
    yield "voyageai", "Client.rerank top_k", lambda: ranks(top_k=2)


def openai_checks(url: str) -> Iterator[Check]:
    """Decisions, and the list of models."""
    import openai

    client = openai.OpenAI(api_key="x", base_url=f"{url}/v1")

    def decide() -> bool:
        probabilities = []
        for text in DOCUMENTS:
            told = client.decisions.create(
                model="gpt-6-luna",
                input=[
                    {"role": "user", "content": [{"type": "input_json", "data": {"query": QUERY, "document": text}}]}
                ],
                questions=[{"type": "predicate", "name": "r", "instructions": "The document answers the query."}],
            )
            probabilities.append(told.answers[0].probability)
        return max(probabilities) == probabilities[1]

    def refuse() -> Any:
        question = {"type": "predicate", "instructions": "The text is in French."}
        return client.decisions.create(
            model="m", input=json.dumps({"query": "q", "document": "d"}), questions=[question]
        )

    yield "openai", "decisions.create", decide
    yield "openai", "decisions.create, another question", lambda: fails_with("relevant to the query", refuse)
    yield "openai", "models.list", lambda: client.models.list().data[0].id == "default"


def hub_checks(url: str) -> Iterator[Check]:
    """Health and information of an endpoint."""
    from huggingface_hub import InferenceClient

    client = InferenceClient(model=url, provider="hf-inference")
    yield "huggingface_hub", "InferenceClient.health_check", lambda: client.health_check() is True
    yield (
        "huggingface_hub",
        "InferenceClient.get_endpoint_info",
        lambda: next(iter(client.get_endpoint_info()["model_type"])) == "reranker",
    )


def typesafe_checks(url: str) -> Iterator[Check]:
    """The SDK, and the rerankers built on it."""
    os.environ["TYPESAFE_BASE_URL"] = url
    os.environ["TYPESAFE_API_KEY"] = "x"
    from typesafe_sdk import Noul, Score, TypeSafeClient

    client = TypeSafeClient(api_key="x", base_url=url)

    def ask(question: Any) -> Any:
        state = {"query": QUERY, "passage": BEST}
        return client.system_one(state=state, questions={"relevance": question}, model="jev-latest").answers[
            "relevance"
        ]

    levels = ["off-topic", "related", "partly", "fully"]
    yield "typesafe-sdk", "system_one noul", lambda: ask(Noul(instructions="Does it answer the query?")).noul > 0.5
    yield (
        "typesafe-sdk",
        "system_one score",
        lambda: ask(Score(instructions="How well does it answer the query?", criteria=levels)).score > 1.5,
    )


def jev_checks(url: str) -> Iterator[Check]:
    """Rerankers that ask a decision model, pointed at ours."""
    os.environ["TYPESAFE_BASE_URL"] = url
    os.environ["TYPESAFE_API_KEY"] = "x"
    import hev_rerank
    import jev_reranker

    def hev() -> bool:
        found = hev_rerank.rerank(QUERY, DOCUMENTS)
        return best_first([r.index for r in found], [r.score for r in found])

    def jev(mode: str) -> bool:
        ranker = jev_reranker.JevReranker(api_key="x", endpoint=f"{url}/v1/systemone", mode=mode)
        rows = ranker.rerank(QUERY, DOCUMENTS)["results"]
        return best_first([row["document_index"] for row in rows], [row["score"] for row in rows])

    yield "hev-rerank", "rerank", hev
    yield "jev-reranker", "rerank, listwise", lambda: jev("listwise")
    yield "jev-reranker", "rerank, pointwise", lambda: jev("pointwise")


SUITES: dict[str, tuple[Callable[[str], Iterator[Check]], ...]] = {
    "cohere-5": (cohere_checks, langchain_cohere_checks),
    "cohere-6": (cohere_checks, llama_index_checks),
    "cohere-7": (cohere_checks, voyage_checks, openai_checks, hub_checks, typesafe_checks),
    "haystack": (haystack_checks,),
    "jev": (jev_checks,),
}


def run(suite: str, url: str) -> Iterator[dict[str, Any]]:
    """Every check of a suite; one that cannot start is a failure like any other."""
    for family in SUITES[suite]:
        try:
            checks = list(family(url))
        except Exception as error:
            yield {"client": family.__name__, "version": "?", "call": "start", "ok": False, "note": describe(error)}
            continue
        for package, call, check in checks:
            row = {"client": package, "version": importlib.metadata.version(package), "call": call}
            try:
                yield {**row, "ok": check() is True, "note": ""}
            except Exception as error:
                yield {**row, "ok": False, "note": describe(error)}


def describe(error: Exception) -> str:
    """One short line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:160]


if __name__ == "__main__":
    for row in run(sys.argv[1], sys.argv[2]):
        print(json.dumps(row), flush=True)
