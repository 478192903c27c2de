"""LangGraph: the node and the edges that grade retrieved documents, in place of one LLM call for each of them.

    graph.add_node("grade_documents", grade_documents_node())
    graph.add_conditional_edges("grade_documents", decide_to_generate(), ["generate", "transform_query"])

Graphs of corrective RAG and self-RAG grade in a node; those of agentic RAG in an edge after the retriever's tool:

    graph.add_conditional_edges("retrieve", route_on_relevance(), ["generate_answer", "rewrite_question"])
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

from relgrade.errors import InvalidInput, MissingExtra
from relgrade.integrations.langchain_documents import screen_documents, screen_documents_async
from relgrade.integrations.screened import Screened
from relgrade.integrations.screening import Compress, OnError, Screen, require_choice
from relgrade.records import KeepPolicy

try:
    import langgraph  # noqa: F401 - the graphs; nodes and edges themselves are runnables of langchain-core
    from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage
    from langchain_core.runnables import Runnable, RunnableLambda
except ImportError as error:
    raise MissingExtra("langgraph", extra="langgraph", purpose="grade documents in a graph") from error

SearchWhen = Literal["none_relevant", "any_irrelevant"]


def grade_documents_node(
    grader: Any = None,
    *,
    question_key: str = "question",
    documents_key: str = "documents",
    search_key: str | None = "web_search",
    search_when: SearchWhen = "none_relevant",
    report_key: str | None = None,
    operating_point: str | None = None,
    policy: KeepPolicy | None = None,
    on_error: OnError = "raise",
    title_key: str | None = None,
    evidence: bool = False,
    compress: Compress = False,
) -> Runnable[Any, dict[str, Any]]:
    """A node that replaces `documents` by the relevant ones, in their order, and says whether to search further.

    Args:
        grader: None for the embedded one, a bundle, the URL of `relgrade serve`, a `Grader` or a `Client`.
        question_key: of the state: what the documents are graded against.
        documents_key: of the state: LangChain documents, which are copied, or texts.
        search_key: of the state: gets "Yes" or "No", as corrective RAG expects; None: the state has no such key, as in
            self-RAG.
        search_when: "Yes" when no relevant document is left; or as soon as one was rejected.
        report_key: of the state: gets counts, the operating point and the error if there was one; None: nothing.
        operating_point: name of the threshold that decides; None: the grader's default.
        policy: how few and how many are kept.
        on_error: when the grader fails: raise, or keep or drop everything. Either is logged, and stands in the report
            and in the metadata of documents that were kept (`relgrade_error`).
        title_key: which metadata is the title of a document; None: none is.
        evidence: tell the sentences that carry a verdict, in the metadata of documents as `relgrade_evidence`.
        compress: replace the text of the copies by the sentences above a point: True, the name of a point, or a
            threshold in [0, 1]; `relgrade_spans` in the metadata says where they stood.

    Raises:
        BundleError, MissingExtra: the grader cannot be opened.
        InvalidInput: a value is not one of its choices.
    """
    require_choice("search_when", search_when, get_args(SearchWhen))
    screen = Screen(
        grader,
        operating_point=operating_point,
        policy=policy,
        on_error=on_error,
        order="input",
        evidence=evidence,
        compress=compress,
    )

    def update(kept: list[Any], screened: Screened) -> dict[str, Any]:
        changes: dict[str, Any] = {documents_key: kept}
        if search_key is not None:
            is_thin = not screened.is_any_relevant or (search_when == "any_irrelevant" and bool(screened.rejected))
            changes[search_key] = "Yes" if is_thin else "No"
        if report_key is not None:
            changes[report_key] = screened.summary()
        return changes

    def run(state: Any) -> dict[str, Any]:
        query, documents = _read(state, question_key), _read(state, documents_key)
        return update(*screen_documents(screen, query, list(documents or ()), title_key=title_key))

    async def run_async(state: Any) -> dict[str, Any]:
        query, documents = _read(state, question_key), _read(state, documents_key)
        return update(*await screen_documents_async(screen, query, list(documents or ()), title_key=title_key))

    return RunnableLambda(run, afunc=run_async, name="grade_documents")


def decide_to_generate(
    *,
    yes: str = "generate",
    no: str = "transform_query",
    documents_key: str = "documents",
    search_key: str | None = "web_search",
) -> Callable[[Any], str]:
    """The conditional edge after `grade_documents_node`.

    Args:
        yes: next node when there is something to generate from.
        no: next node when there is not.
        documents_key: as the node's.
        search_key: as the node's; None: go by whether any document is left.
    """

    def decide(state: Any) -> str:
        if search_key is None:
            return yes if _read(state, documents_key) else no
        return no if _read(state, search_key) == "Yes" else yes

    return decide


def route_on_relevance(
    grader: Any = None,
    *,
    yes: str = "generate_answer",
    no: str = "rewrite_question",
    messages_key: str = "messages",
    question: Literal["first", "last"] = "first",
    separator: str | None = "\n\n",
    operating_point: str | None = None,
    on_error: OnError = "raise",
    title_key: str | None = None,
) -> Runnable[Any, str]:
    """The conditional edge after a retriever's tool: `yes` when anything that it returned is relevant.

    Documents in the `artifact` of a tool message are graded one by one. Without an artifact its text is cut at
    `separator`, which is what a retriever's tool puts between documents.

    Args:
        grader: as for `grade_documents_node`.
        yes: next node when something is relevant.
        no: next node when nothing is.
        messages_key: of the state.
        question: which of the person's messages is the question. A graph that rewrites it keeps grading against the
            first one unless told otherwise.
        separator: between documents in a tool's text; None takes the text as one.
        operating_point: as for `grade_documents_node`.
        on_error: when the grader fails: raise, or take `yes` ("keep_all") or `no` ("drop_all") and log it.
        title_key: as for `grade_documents_node`.

    Raises:
        BundleError, MissingExtra: the grader cannot be opened.
        InvalidInput: a value is not one of its choices; and when called, a state without a question or a tool message.
    """
    require_choice("question", question, ("first", "last"))
    screen = Screen(grader, operating_point=operating_point, on_error=on_error)

    def parts(state: Any) -> tuple[str, list[Any]]:
        messages = list(_read(state, messages_key))
        return _question(messages, is_last=question == "last"), _tool_documents(messages, separator)

    def run(state: Any) -> str:
        _, screened = screen_documents(screen, *parts(state), title_key=title_key)
        return yes if screened.is_any_relevant else no

    async def run_async(state: Any) -> str:
        _, screened = await screen_documents_async(screen, *parts(state), title_key=title_key)
        return yes if screened.is_any_relevant else no

    return RunnableLambda(run, afunc=run_async, name="route_on_relevance")


def _read(state: Any, key: str) -> Any:
    """A value of a state, which is a mapping, a dataclass or a pydantic model."""
    if isinstance(state, Mapping):
        if key in state:
            return state[key]
    elif hasattr(state, key):
        return getattr(state, key)
    found = sorted(state) if isinstance(state, Mapping) else type(state).__name__
    raise InvalidInput(f"the state has no {key!r}; name the key it has instead, found: {found}")


def _question(messages: Sequence[BaseMessage], *, is_last: bool) -> str:
    asked = [message for message in messages if isinstance(message, HumanMessage)]
    if not asked:
        raise InvalidInput(f"no message of a person is among the {len(messages)} of the state; one was expected")
    return _text(asked[-1 if is_last else 0])


def _tool_documents(messages: Sequence[BaseMessage], separator: str | None) -> list[Any]:
    """What the tools returned last: the run of tool messages at the end, as several may have been called at once."""
    last: list[ToolMessage] = []
    for message in reversed(messages):
        if not isinstance(message, ToolMessage):
            break
        last.append(message)
    if not last:
        raise InvalidInput("the last message of the state is of no tool; put this edge behind the retriever's tool")
    found: list[Any] = []
    for message in reversed(last):
        if isinstance(message.artifact, list | tuple) and message.artifact:
            found.extend(message.artifact)
        else:
            text = _text(message)
            pieces = [text] if separator is None else text.split(separator)
            found.extend(piece for piece in pieces if piece.strip())
    return found


def _text(message: BaseMessage) -> str:
    """The text of a message, whose content is a text or a list of blocks."""
    if isinstance(message.content, str):
        return message.content
    blocks = (block if isinstance(block, str) else block.get("text", "") for block in message.content)
    return "\n".join(str(block) for block in blocks if block)
