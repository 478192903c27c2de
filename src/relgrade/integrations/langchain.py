"""LangChain: a document compressor, a cross-encoder and a runnable. It needs langchain-core alone.

    ContextualCompressionRetriever(base_compressor=RelevanceCompressor(), base_retriever=retriever)

For a decision model see `integrations.decisions`, for graphs `integrations.langgraph`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from relgrade.errors import InvalidInput, MissingExtra
from relgrade.integrations.langchain_documents import screen_documents, screen_documents_async
from relgrade.integrations.screened import Screened
from relgrade.integrations.screening import Compress, OnError, Order, Screen
from relgrade.integrations.source import open_grader, plain_source
from relgrade.records import Document, KeepPolicy

try:
    from langchain_core import documents as langchain
    from langchain_core.callbacks import (
        AsyncCallbackManager,
        BaseCallbackManager,
        CallbackManager,
        Callbacks,
        adispatch_custom_event,
        dispatch_custom_event,
    )
    from langchain_core.cross_encoders import BaseCrossEncoder
    from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
except ImportError as error:
    raise MissingExtra("langchain-core>=1.3", extra="langchain", purpose="grade documents in LangChain") from error
from pydantic import ConfigDict, PrivateAttr, field_serializer  # langchain-core requires it

EVENT = "relgrade"  # name of the custom event that carries the counts of a call, and the error if there was one


class RelevanceCompressor(langchain.BaseDocumentCompressor):
    """Keeps the relevant ones of retrieved documents, as copies with `relevance_score` and more in their metadata.

    Args:
        grader: None for the embedded one, a bundle, the URL of `relgrade serve`, a `Grader` or a `Client`.
        operating_point: name of the threshold that decides; None: the grader's default.
        policy: how few and how many are kept.
        on_error: when the grader fails: raise, or keep or drop everything. Either is logged and stands in the custom
            event `relgrade`; documents that were kept have `relgrade_error` in their metadata.
        order: "score", best first, or "input", as retrieved.
        title_key: which metadata is the title of a document; None: none is.
        evidence: tell the sentences that carry a verdict, in the metadata as `relgrade_evidence`.
        compress: replace the text of the copies by the sentences above a point: True, the name of a point, or a
            threshold in [0, 1]; `relgrade_spans` in the metadata says where they stood.

    Raises:
        pydantic.ValidationError: a value is none of these; a ValueError, as everywhere in LangChain.
        BundleError, MissingExtra: the grader cannot be opened.
    """

    grader: Any = None
    operating_point: str | None = None
    policy: KeepPolicy = KeepPolicy()
    on_error: OnError = "raise"
    order: Order = "score"
    title_key: str | None = None
    evidence: bool = False
    compress: Compress = False

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    _screen: Screen = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Open the grader; pydantic calls this."""
        self._screen = Screen(
            self.grader,
            operating_point=self.operating_point,
            policy=self.policy,
            on_error=self.on_error,
            order=self.order,
            evidence=self.evidence,
            compress=self.compress,
        )

    @field_serializer("grader")
    def _plain_grader(self, grader: Any) -> str | None:
        return plain_source(grader)

    def compress_documents(
        self, documents: Sequence[langchain.Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[langchain.Document]:
        """The documents that are kept; those given are untouched.

        Raises:
            InvalidInput: the query is empty, or something is no document.
            Exception: what the grader raised, with `on_error="raise"`.
        """
        kept, screened = screen_documents(self._screen, query, list(documents), title_key=self.title_key)
        config = _event_config(callbacks)
        if config is not None:
            dispatch_custom_event(EVENT, screened.summary(), config=config)
        return kept

    async def acompress_documents(
        self, documents: Sequence[langchain.Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[langchain.Document]:
        """The same without blocking the loop."""
        kept, screened = await screen_documents_async(self._screen, query, list(documents), title_key=self.title_key)
        config = _event_config(callbacks)
        if config is not None:
            await adispatch_custom_event(EVENT, screened.summary(), config=config)
        return kept


class RelevanceCrossEncoder(BaseCrossEncoder):
    """Gives calibrated probabilities of relevance, for `CrossEncoderReranker` and whatever else takes a cross-encoder.

    A score is a number and cannot say that the grader failed, so errors are always raised.

    Args:
        grader: as for `RelevanceCompressor`.

    Raises:
        BundleError, InvalidInput, MissingExtra: the grader cannot be opened.
    """

    def __init__(self, grader: Any = None) -> None:
        self._grader = open_grader(grader)

    def score(self, text_pairs: list[tuple[str, str]]) -> list[float]:
        """P(relevant) in [0, 1] of each (query, text) pair, in order; each query is one call of the grader.

        Raises:
            InvalidInput: a query is empty.
            GradingError: the model gave no number for a text.
        """
        places: dict[str, list[int]] = {}
        for place, (query, _) in enumerate(text_pairs):
            places.setdefault(query, []).append(place)
        scores = [float("nan")] * len(text_pairs)
        for query, positions in places.items():
            graded = self._grader.grade(query, [Document(text_pairs[i][1]) for i in positions])
            for grade in graded:
                scores[positions[grade.index]] = grade.probability
        return scores


def relevance_runnable(
    grader: Any = None,
    *,
    query_key: str = "query",
    documents_key: str = "documents",
    operating_point: str | None = None,
    policy: KeepPolicy | None = None,
    on_error: OnError = "raise",
    order: Order = "score",
    title_key: str | None = None,
    evidence: bool = False,
    compress: Compress = False,
) -> Runnable[Mapping[str, Any], list[langchain.Document]]:
    """A runnable from a mapping with a query and documents to the documents that are kept.

        {"query": RunnablePassthrough(), "documents": retriever} | relevance_runnable()

    Args:
        grader: as for `RelevanceCompressor`, as are the arguments below that are not told here.
        query_key: of the input.
        documents_key: of the input.
        operating_point: see there.
        policy: see there.
        on_error: see there.
        order: see there.
        title_key: see there.
        evidence: see there; a text without metadata cannot carry it.
        compress: see there.

    Raises:
        BundleError, InvalidInput, MissingExtra: the grader cannot be opened, or a value is not one of its choices.
    """
    screen = Screen(
        grader,
        operating_point=operating_point,
        policy=policy,
        on_error=on_error,
        order=order,
        evidence=evidence,
        compress=compress,
    )

    def parts(value: Mapping[str, Any]) -> tuple[Any, list[Any]]:
        missing = [key for key in (query_key, documents_key) if key not in value]
        if missing:
            raise InvalidInput(f"the input has no {missing[0]!r}; a mapping with it was expected, got {sorted(value)}")
        return value[query_key], list(value[documents_key])

    def run(value: Mapping[str, Any], config: RunnableConfig) -> list[langchain.Document]:
        query, documents = parts(value)
        kept, screened = screen_documents(screen, query, documents, title_key=title_key)
        _dispatch(screened, config)
        return kept

    async def run_async(value: Mapping[str, Any], config: RunnableConfig) -> list[langchain.Document]:
        query, documents = parts(value)
        kept, screened = await screen_documents_async(screen, query, documents, title_key=title_key)
        if _event_config(config.get("callbacks")) is not None:
            await adispatch_custom_event(EVENT, screened.summary(), config=config)
        return kept

    return RunnableLambda(run, afunc=run_async, name="relgrade")


def _dispatch(screened: Screened, config: RunnableConfig) -> None:
    if _event_config(config.get("callbacks")) is not None:
        dispatch_custom_event(EVENT, screened.summary(), config=config)


def _event_config(callbacks: Callbacks | None) -> RunnableConfig | None:
    """A configuration to send an event with; None where there is no run that it could belong to."""
    if isinstance(callbacks, CallbackManager | AsyncCallbackManager | BaseCallbackManager) and callbacks.parent_run_id:
        return {"callbacks": callbacks}
    return None
