"""LlamaIndex: a node postprocessor that keeps relevant nodes, with the events that observers listen to.

index.as_query_engine(node_postprocessors=[RelevancePostprocessor()])
"""

from collections.abc import Sequence
from typing import Any

from relgrade.errors import InvalidInput, MissingExtra
from relgrade.integrations.screened import Screened
from relgrade.integrations.screening import Compress, OnError, Order, Screen, as_document
from relgrade.integrations.source import grader_name, plain_source
from relgrade.records import Document, KeepPolicy

try:
    from llama_index.core.bridge.pydantic import ConfigDict, Field, PrivateAttr, field_serializer
    from llama_index.core.instrumentation import get_dispatcher
    from llama_index.core.instrumentation.events import BaseEvent
    from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle
except ImportError as error:
    raise MissingExtra("llama-index-core>=0.14", extra="llamaindex", purpose="grade nodes of LlamaIndex") from error

dispatcher = get_dispatcher(__name__)


class RelevanceEvent(BaseEvent):
    """Sent after every call: counts, what decided, and the error if the grader failed."""

    n_kept: int
    n_rejected: int
    any_relevant: bool
    operating_point: str | None
    bundle_hash: str | None
    error: str | None

    @classmethod
    def class_name(cls) -> str:
        """Name under which LlamaIndex knows the event."""
        return "RelevanceEvent"


class RelevancePostprocessor(BaseNodePostprocessor):
    """Keeps the relevant ones of retrieved nodes, as copies that carry the calibrated probability as their score.

    The grader's notes are in the metadata of the copies, hidden from the embedding and the LLM; the score of the
    retriever stands there as `retrieval_score`.

    Args:
        grader: None for the embedded one, a bundle, the URL of `relgrade serve`, a `Grader` or a `Client`.
        operating_point: name of the threshold that decides; None: the grader's default.
        policy: how few and how many are kept.
        on_error: when the grader fails: raise, or keep or drop everything. Either is logged and stands in the
            `RelevanceEvent`; nodes that were kept have `relgrade_error` in their metadata and their score of before.
        order: "score", best first, or "input", as retrieved.
        title_key: which metadata is the title of a node; None: none is.
        evidence: tell the sentences that carry a verdict, in the metadata as `relgrade_evidence`.
        compress: replace the text of the copies by the sentences above a point: True, the name of a point, or a
            threshold in [0, 1]; `relgrade_spans` in the metadata says where they stood.

    Raises:
        pydantic.ValidationError: a value is none of these; a ValueError, as everywhere in LlamaIndex.
        BundleError, MissingExtra: the grader cannot be opened.
    """

    grader: Any = None
    operating_point: str | None = None
    policy: KeepPolicy = Field(default_factory=KeepPolicy)
    on_error: OnError = "raise"
    order: Order = "score"
    title_key: str | None = None
    evidence: bool = False
    compress: Compress = False

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    _screen: Screen = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Open the grader; pydantic calls this."""
        super().model_post_init(context)
        self._screen = Screen(
            self.grader,
            operating_point=self.operating_point,
            policy=self.policy,
            on_error=self.on_error,
            order=self.order,
            evidence=self.evidence,
            compress=self.compress,
        )

    @classmethod
    def class_name(cls) -> str:
        """Name under which LlamaIndex knows the component."""
        return "RelevancePostprocessor"

    @field_serializer("grader")
    def _plain_grader(self, grader: Any) -> str | None:
        return plain_source(grader)

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query, documents = self._start(nodes, query_bundle)
        return self._end(nodes, self._screen.run(query, documents))

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query, documents = self._start(nodes, query_bundle)
        return self._end(nodes, await self._screen.run_async(query, documents))

    def _start(self, nodes: Sequence[NodeWithScore], query_bundle: QueryBundle | None) -> tuple[str, list[Document]]:
        if query_bundle is None:
            raise InvalidInput("query_bundle: None; nodes are relevant to a query, pass query_bundle or query_str")
        limit = self.policy.max_keep or len(nodes)
        dispatcher.event(
            ReRankStartEvent(
                query=query_bundle, nodes=list(nodes), top_n=limit, model_name=grader_name(self._screen.grader)
            )
        )
        return query_bundle.query_str, [_to_document(each, self.title_key) for each in nodes]

    def _end(self, nodes: Sequence[NodeWithScore], screened: Screened) -> list[NodeWithScore]:
        kept = [_copy(nodes[i], screened, i) for i in screened.kept]
        dispatcher.event(RelevanceEvent(**screened.summary()))
        dispatcher.event(ReRankEndEvent(nodes=kept))
        return kept


def _to_document(each: NodeWithScore, title_key: str | None) -> Document:
    node = each.node
    text = node.get_content(metadata_mode=MetadataMode.NONE)
    return as_document(text, node.metadata, id=node.node_id, title_key=title_key)


def _copy(each: NodeWithScore, screened: Screened, position: int) -> NodeWithScore:
    notes = screened.notes(position)
    if each.score is not None:
        notes["retrieval_score"] = each.score
    node = each.node
    changes = {
        "metadata": {**node.metadata, **notes},
        # A number between the lines would be read by the LLM, and change what is embedded.
        "excluded_embed_metadata_keys": _with_names(node.excluded_embed_metadata_keys, notes),
        "excluded_llm_metadata_keys": _with_names(node.excluded_llm_metadata_keys, notes),
    }
    copied = node.model_copy(update=changes)
    text = screened.text(position)
    if text is not None:
        copied.set_content(text)  # gives the copy a text of its own; the caller's node keeps what it has
    grade = screened.grades[position]
    score = each.score if grade is None else grade.probability
    return each.model_copy(update={"node": copied, "score": score})


def _with_names(names: Sequence[str], more: dict[str, Any]) -> list[str]:
    return [*names, *(name for name in more if name not in names)]
