"""Documents of LangChain, and plain texts where a graph holds those, on their way to the grader and back as copies."""

from collections.abc import Sequence
from typing import Any, TypeVar

from relgrade.errors import InvalidInput, MissingExtra
from relgrade.integrations.screened import Screened
from relgrade.integrations.screening import Screen, as_document
from relgrade.records import Document

try:
    from langchain_core import documents as langchain
except ImportError as error:
    raise MissingExtra("langchain-core>=1.3", extra="langchain", purpose="grade documents of LangChain") from error

Item = TypeVar("Item")


def screen_documents(
    screen: Screen, query: str, documents: Sequence[Item], *, title_key: str | None
) -> tuple[list[Item], Screened]:
    """The kept documents, as copies with the grader's notes in their metadata, and what became of all.

    Raises:
        InvalidInput, Exception: as `Screen.run`.
    """
    screened = screen.run(query, to_documents(documents, title_key=title_key))
    return copies(documents, screened), screened


async def screen_documents_async(
    screen: Screen, query: str, documents: Sequence[Item], *, title_key: str | None
) -> tuple[list[Item], Screened]:
    """The same, awaited."""
    screened = await screen.run_async(query, to_documents(documents, title_key=title_key))
    return copies(documents, screened), screened


def to_documents(documents: Sequence[Any], *, title_key: str | None) -> list[Document]:
    """Documents or texts of the framework as ours.

    Raises:
        InvalidInput: something is neither; names its position.
    """
    return [_to_document(document, place, title_key) for place, document in enumerate(documents)]


def copies(documents: Sequence[Item], screened: Screened) -> list[Item]:
    """The kept ones in their order; a text has no metadata, and stays as it is unless it was compressed."""
    return [_copy(documents[i], screened, i) for i in screened.kept]


def _to_document(document: Any, place: int, title_key: str | None) -> Document:
    if isinstance(document, langchain.Document):
        return as_document(document.page_content, document.metadata, id=document.id, title_key=title_key)
    if isinstance(document, str):
        return Document(document)
    raise InvalidInput(f"document {place}: a LangChain Document or a str was expected, got {type(document).__name__}")


def _copy(document: Any, screened: Screened, position: int) -> Any:
    text = screened.text(position)
    if isinstance(document, str):
        return document if text is None else text
    changes: dict[str, Any] = {"metadata": {**document.metadata, **screened.notes(position)}}
    if text is not None:
        changes["page_content"] = text
    return document.model_copy(update=changes)
