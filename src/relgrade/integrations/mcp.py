"""MCP: a server with one tool, for agents that retrieve by themselves and want to know what is worth reading.

It needs the official `mcp` package. `relgrade mcp` runs it.
"""

from typing import Any

from relgrade.errors import MissingExtra, RelgradeError
from relgrade.integrations.screened import Screened
from relgrade.integrations.screening import Compress, OnError, Screen
from relgrade.records import Document, KeepPolicy

try:
    from mcp.server import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
except ImportError as error:
    raise MissingExtra("mcp>=2.2", extra="mcp", purpose="serve a tool over MCP") from error
from pydantic import BaseModel, Field  # mcp requires it

TOOL = "grade_relevance"
MAX_DOCUMENTS = 256  # of one call: what an agent can read is far less

_INSTRUCTIONS = (
    "Call grade_relevance after retrieving documents and before reading them. Read the documents listed under `kept` "
    "alone. If `any_relevant` is false, nothing retrieved answers the query: search again or say so."
)


class ToolDocument(BaseModel):
    """A document of a call."""

    text: str
    title: str | None = None
    id: str | None = Field(default=None, description="Comes back with the verdict.")


class ToolSpan(BaseModel):
    """A sentence of a document."""

    start: int = Field(description="Position of its first character in the document's text.")
    end: int = Field(description="One past its last.")
    text: str
    probability: float = Field(description="P(relevant) of the sentence by itself.")


class ToolGrade(BaseModel):
    """The verdict on one document."""

    index: int = Field(description="Position of the document in the call, from 0.")
    id: str | None
    is_kept: bool
    probability: float | None = Field(description="P(relevant), calibrated; null when it was not judged.")
    verdict: str | None = Field(description="relevant, unsure or not relevant; null when it was not judged.")
    evidence: list[ToolSpan] | None = Field(
        default=None, description="Sentences that carry the verdict, the best first; null when not looked for."
    )
    text: str | None = Field(
        default=None, description="What is worth reading of a kept document; null when nothing was left out."
    )


class ToolReply(BaseModel):
    """What the tool returns."""

    any_relevant: bool
    kept: list[int] = Field(description="Positions of the documents worth reading, the best first.")
    results: list[ToolGrade] = Field(description="One for each document, in the order of the call.")
    operating_point: str | None
    bundle_hash: str | None = Field(description="Which grader said so.")
    error: str | None = Field(description="Why nothing was judged; null when all is well.")


def create_server(
    grader: Any = None,
    *,
    operating_point: str | None = None,
    policy: KeepPolicy | None = None,
    on_error: OnError = "raise",
    api_key: str | None = None,
    evidence: bool = False,
    compress: Compress = False,
) -> MCPServer:
    """A server with the tool `grade_relevance`; `run("stdio")` starts it.

    Args:
        grader: None for the embedded one, a bundle, the URL of `relgrade serve`, a `Grader` or a `Client`.
        operating_point: name of the threshold that decides; None: the grader's default.
        policy: how few and how many are kept.
        on_error: when the grader fails: the call fails ("raise"), or it says `error` and keeps or drops everything.
        api_key: of a `relgrade serve`.
        evidence: `results` tell the sentences that carry each verdict.
        compress: `results` hold, of each kept document, the sentences above a point: True, the name of a point, or a
            threshold in [0, 1].

    Raises:
        BundleError, InvalidInput, MissingExtra: the grader cannot be opened.
    """
    screen = Screen(
        grader,
        operating_point=operating_point,
        policy=policy,
        on_error=on_error,
        api_key=api_key,
        evidence=evidence,
        compress=compress,
    )
    server = MCPServer("relgrade", title="Relevance grader", instructions=_INSTRUCTIONS)

    @server.tool(name=TOOL, description="Decide which retrieved documents are relevant to a query.")
    async def grade_relevance(query: str, documents: list[str | ToolDocument]) -> ToolReply:
        if len(documents) > MAX_DOCUMENTS:
            raise ToolError(f"at most {MAX_DOCUMENTS} documents in one call, got {len(documents)}; make several calls")
        items = [_to_document(each) for each in documents]
        try:
            return _reply(items, await screen.run_async(query, items))
        except RelgradeError as error:  # its message is made to be read; others stay in the log of the server
            raise ToolError(str(error)) from error

    return server


def _to_document(value: str | ToolDocument) -> Document:
    return Document(value) if isinstance(value, str) else Document(value.text, value.title, value.id)


def _reply(documents: list[Document], screened: Screened) -> ToolReply:
    kept = set(screened.kept)
    results = [
        ToolGrade(
            index=i,
            id=document.id,
            is_kept=i in kept,
            probability=None if grade is None else grade.probability,
            verdict=None if grade is None else grade.verdict,
            evidence=_spans(screened, i) if screened.has_evidence else None,
            text=screened.text(i),
        )
        for i, (document, grade) in enumerate(zip(documents, screened.grades, strict=True))
    ]
    return ToolReply(
        any_relevant=screened.is_any_relevant,
        kept=list(screened.kept),
        results=results,
        operating_point=screened.operating_point,
        bundle_hash=screened.bundle_hash,
        error=screened.error,
    )


def _spans(screened: Screened, position: int) -> list[ToolSpan] | None:
    found = screened.evidence(position)
    return (
        None if found is None else [ToolSpan(**{name: span[name] for name in ToolSpan.model_fields}) for span in found]
    )
