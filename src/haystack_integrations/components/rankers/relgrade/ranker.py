"""A ranker that drops what is not relevant, and hands on what it dropped through an output of its own."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

from relgrade.errors import InvalidInput, MissingExtra
from relgrade.integrations.screened import Screened
from relgrade.integrations.screening import (
    Compress,
    OnError,
    Order,
    Screen,
    as_document,
    read_compress,
    require_choice,
)
from relgrade.records import KeepPolicy

try:
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.utils import Secret, deserialize_secrets_inplace
except ImportError as error:
    raise MissingExtra("haystack-ai>=3", extra="haystack", purpose="grade documents of Haystack") from error


@component
class RelgradeRanker:
    """Divides documents into relevant ones and others.

    Copies carry the calibrated probability as their score and the grader's notes in `meta`; the score of the retriever
    stands there as `retrieval_score`. A document without text content is rejected: nothing in it can answer.

    Args:
        grader: None for the embedded one, the folder of a bundle or its Hub id `organisation/name@COMMIT`, or the URL
            of `relgrade serve`. A `Grader` or `Client` works too, but a pipeline with one cannot be written to a file.
        operating_point: name of the threshold that decides; None: the grader's default.
        policy: a `KeepPolicy`, or a mapping of its fields as in a pipeline file: how few and how many are kept.
        on_error: when the grader fails: "raise", "keep_all" or "drop_all". The latter two are logged and fill the
            output `error`; every document has `relgrade_error` in its meta then.
        order: of the documents kept: "score", best first, or "input".
        title_key: which meta is the title of a document; None: none is.
        api_key: of a server.
        evidence: tell the sentences that carry a verdict, in `meta` as `relgrade_evidence`.
        compress: replace the content of the documents kept by the sentences above a point: True, the name of a point,
            or a threshold in [0, 1]; `relgrade_spans` in `meta` says where they stood.

    Raises:
        InvalidInput: a value is not one of its choices.
    """

    def __init__(
        self,
        grader: Any = None,
        *,
        operating_point: str | None = None,
        policy: KeepPolicy | Mapping[str, Any] | None = None,
        on_error: OnError = "raise",
        order: Order = "score",
        title_key: str | None = None,
        api_key: Secret | None = None,
        evidence: bool = False,
        compress: Compress = False,
    ) -> None:
        self.grader = grader
        self.operating_point = operating_point
        self.policy = _read_policy(policy)
        self.on_error = require_choice("on_error", on_error, get_args(OnError))
        self.order = require_choice("order", order, get_args(Order))
        self.title_key = title_key
        self.api_key = api_key
        self.evidence = bool(evidence)
        read_compress(compress)  # says now what is wrong with it
        self.compress = compress
        self._screen: Screen | None = None

    def warm_up(self) -> None:
        """Open the grader; a pipeline does this before its first run.

        Raises:
            BundleError, InvalidInput, MissingExtra: it cannot be opened, whatever `on_error` says.
        """
        self._opened()

    def to_dict(self) -> dict[str, Any]:
        """What a pipeline file holds of this component.

        Raises:
            InvalidInput: the grader is an object.
        """
        if self.grader is not None and not isinstance(self.grader, str | Path):
            raise InvalidInput(
                f"grader: an object of type {type(self.grader).__name__} cannot stand in a pipeline file; name a "
                "bundle or a URL"
            )
        data: dict[str, Any] = default_to_dict(
            self,
            grader=None if self.grader is None else str(self.grader),
            operating_point=self.operating_point,
            policy=asdict(self.policy),
            on_error=self.on_error,
            order=self.order,
            title_key=self.title_key,
            api_key=None if self.api_key is None else self.api_key.to_dict(),
            evidence=self.evidence,
            compress=self.compress,
        )
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "RelgradeRanker":
        """The component that `to_dict` wrote; the grader is opened at `warm_up`."""
        parameters = dict(data.get("init_parameters", {}))
        if parameters.get("api_key") is not None:
            deserialize_secrets_inplace(parameters, keys=["api_key"])
        made: RelgradeRanker = default_from_dict(cls, {**data, "init_parameters": parameters})
        return made

    @component.output_types(documents=list[Document], rejected=list[Document], error=str | None)
    def run(self, query: str, documents: list[Document]) -> dict[str, Any]:
        """Judge and divide; nothing given is changed.

        Args:
            query: not empty.
            documents: any number, none too.

        Returns:
            `documents`, those kept; `rejected`, the others, in the order of the call; `error`, why nothing was judged,
            or None.

        Raises:
            InvalidInput: the query is empty.
            Exception: what the grader raised, with `on_error="raise"`.
        """
        return _outputs(documents, self._opened().run(query, self._read(documents)))

    @component.output_types(documents=list[Document], rejected=list[Document], error=str | None)
    async def run_async(self, query: str, documents: list[Document]) -> dict[str, Any]:
        """The same without blocking the loop."""
        return _outputs(documents, await self._opened().run_async(query, self._read(documents)))

    def _opened(self) -> Screen:
        if self._screen is None:
            self._screen = Screen(
                self.grader,
                operating_point=self.operating_point,
                policy=self.policy,
                on_error=self.on_error,
                order=self.order,
                api_key=None if self.api_key is None else self.api_key.resolve_value(),
                evidence=self.evidence,
                compress=self.compress,
            )
        return self._screen

    def _read(self, documents: list[Document]) -> list[Any]:
        return [as_document(each.content, each.meta, id=each.id, title_key=self.title_key) for each in documents]


def _read_policy(policy: KeepPolicy | Mapping[str, Any] | None) -> KeepPolicy:
    if policy is None or isinstance(policy, KeepPolicy):
        return policy or KeepPolicy()
    try:
        return KeepPolicy(**policy)
    except TypeError as error:
        known = ", ".join(asdict(KeepPolicy()))
        raise InvalidInput(f"policy: a KeepPolicy or a mapping of {known} was expected, got {policy!r}") from error


def _outputs(documents: list[Document], screened: Screened) -> dict[str, Any]:
    return {
        "documents": [_copy(documents[i], screened, i) for i in screened.kept],
        "rejected": [_copy(documents[i], screened, i) for i in screened.rejected],
        "error": screened.error,
    }


def _copy(document: Document, screened: Screened, position: int) -> Document:
    notes = screened.notes(position)
    if document.score is not None:
        notes["retrieval_score"] = document.score
    grade = screened.grades[position]
    score = document.score if grade is None else grade.probability
    # The id is handed on, or it would be made again from the new content.
    text = screened.text(position)
    content = document.content if text is None else text
    return replace(document, id=document.id, content=content, score=score, meta={**document.meta, **notes})
