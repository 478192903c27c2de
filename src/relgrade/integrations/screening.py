"""What every adapter does: grade the documents of a query, keep some, and say so when the grader failed.

It takes and returns positions, so that an adapter copies its own framework's objects and nobody changes them.
"""

import asyncio
import inspect
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from relgrade.errors import GradingError, InvalidInput
from relgrade.grade import keep
from relgrade.grade.compress import CompressedList
from relgrade.integrations.screened import Screened
from relgrade.integrations.source import is_asynchronous, open_grader
from relgrade.records import Document, Grade, GradedList, KeepPolicy

OnError = Literal["raise", "keep_all", "drop_all"]
Order = Literal["score", "input"]
Compress = bool | float | str

log = logging.getLogger("relgrade.integrations")

_DEFAULT_POLICY = KeepPolicy()


class Screen:
    """A grader with a policy and a rule for failures. Safe to share between threads.

    Args:
        grader: as for `open_grader`.
        operating_point: as for `open_grader`.
        policy: how few and how many are kept. With `max_tokens` the grader chooses itself, as it alone counts tokens,
            and the rejected ones come back without a grade.
        on_error: when the grader fails: raise; keep everything; or drop everything. An empty query and a document of
            the wrong type always raise, as no grader could do better with them.
        order: of the kept ones: best first, ties as in the call; or as in the call.
        api_key: of a server.
        evidence: find the sentences that carry each verdict; one more reading of each sentence of what is kept.
        compress: keep of each document the sentences above a point: True takes the grader's choice, a name is that of
            an operating point, a number in [0, 1] a threshold. See docs/evidence.md.

    Raises:
        InvalidInput: a value is none of these, or the grader cannot do it.
        BundleError, MissingExtra: as `open_grader`; `on_error` is about grading, not about opening.
    """

    def __init__(
        self,
        grader: Any = None,
        *,
        operating_point: str | None = None,
        policy: KeepPolicy | None = None,
        on_error: OnError = "raise",
        order: Order = "score",
        api_key: str | None = None,
        evidence: bool = False,
        compress: Compress = False,
    ) -> None:
        self.policy = _DEFAULT_POLICY if policy is None else policy
        if not isinstance(self.policy, KeepPolicy):
            raise InvalidInput(f"policy: a KeepPolicy was expected, got {type(policy).__name__}")
        self.on_error = require_choice("on_error", on_error, get_args(OnError))
        self.order = require_choice("order", order, get_args(Order))
        self.evidence = bool(evidence)
        self._compression = read_compress(compress)
        self.grader = open_grader(grader, operating_point=operating_point, api_key=api_key)
        _require_able(self.grader, evidence=self.evidence, compress=self._compression is not None)

    def run(self, query: str, documents: Sequence[Document]) -> Screened:
        """Judge and choose.

        Raises:
            InvalidInput: the query is empty, or the grader answers in coroutines.
            Exception: what the grader raised, with `on_error="raise"`.
        """
        if not documents:
            return Screened((), (), ())
        if is_asynchronous(self.grader):
            raise InvalidInput(f"{type(self.grader).__name__} answers asynchronous calls alone; take a Client here")
        try:
            return self._screened(self._ask(query, documents), len(documents))
        except InvalidInput:
            raise
        except Exception as error:  # of whatever grader this is: a server, a runtime, an object of the caller's
            return self._failed(error, len(documents))

    async def run_async(self, query: str, documents: Sequence[Document]) -> Screened:
        """The same without blocking the loop: an `AsyncClient` is awaited, other graders work in a thread."""
        if not documents or not is_asynchronous(self.grader):
            return await asyncio.to_thread(self.run, query, documents)
        try:
            return self._screened(await self._ask(query, documents), len(documents))
        except InvalidInput:
            raise
        except Exception as error:  # as in `run`
            return self._failed(error, len(documents))

    def _ask(self, query: str, documents: Sequence[Document]) -> Any:
        if self._compression is not None:
            return self.grader.compress(query, documents, policy=self.policy, **self._compression)
        options = {"evidence": True} if self.evidence else {}
        if self.policy.max_tokens is None:
            return self.grader.grade(query, documents, **options)
        return self.grader.filter(query, documents, policy=self.policy, **options)

    def _screened(self, found: GradedList | CompressedList, n_documents: int) -> Screened:
        failure = getattr(found, "failure", None)  # of a client that was told what to do when its server fails
        unjudged = set() if failure is None else set(failure.documents)
        judged = [grade for grade in found.grades if grade.index not in unjudged]
        grades: list[Grade | None] = [None] * n_documents
        for grade in judged:
            grades[grade.index] = grade
        compressed = None
        if isinstance(found, CompressedList):
            _require_all(grades, unjudged)
            compressed = {item.grade.index: item for item in found}
            kept = list(compressed)
        else:
            if self.policy.max_tokens is None:
                _require_all(grades, unjudged)
                judged = [judged[i] for i in keep.choose(judged, self.policy)]
            kept = [grade.index for grade in judged]
            kept += [grade.index for grade in found.grades if grade.index in unjudged and grade.relevant]
        rejected = tuple(sorted(set(range(n_documents)) - set(kept)))
        if self.order == "score":
            kept.sort(key=lambda i: (-_logit(grades[i]), i))
        else:
            kept.sort()
        error = None if failure is None else str(failure.message)
        if error is not None and unjudged:
            log.warning("%d of %d documents were not judged: %s", len(unjudged), n_documents, error)
        elif error is not None:
            log.warning("sentences of %d documents were not judged: %s", n_documents, error)
        return Screened(
            tuple(kept),
            rejected,
            tuple(grades),
            error,
            found.bundle_hash or None,
            found.operating_point.name,
            self.evidence,
            compressed,
        )

    def _failed(self, error: Exception, n_documents: int) -> Screened:
        if self.on_error == "raise":
            raise error
        what = f"{type(error).__name__}: {error}"
        done = "kept" if self.on_error == "keep_all" else "dropped"
        log.warning("the grader failed, all %d documents were %s: %s", n_documents, done, what)
        everything = tuple(range(n_documents))
        kept, rejected = (everything, ()) if done == "kept" else ((), everything)
        return Screened(kept, rejected, (None,) * n_documents, what)


def as_document(text: str | None, metadata: Mapping[str, Any], *, id: str | None, title_key: str | None) -> Document:
    """A document for the grader from the parts that a framework has.

    Args:
        text: None stands for no text, which is not relevant by rule.
        metadata: only plain values go on: the grader may tell collections by them, and a server takes JSON.
        id: the framework's.
        title_key: which metadata is the title; None: the document has none.

    Raises:
        InvalidInput: the text is no str.
    """
    if text is not None and not isinstance(text, str):
        raise InvalidInput(f"document {id or ''}: a str was expected as its text, got {type(text).__name__}")
    title = metadata.get(title_key) if title_key is not None else None
    plain = {str(name): value for name, value in metadata.items() if isinstance(value, str | bool | int | float)}
    return Document(text or "", title if isinstance(title, str) else None, id, plain)


def require_choice(name: str, value: Any, choices: tuple[str, ...]) -> Any:
    """The value, if it is one of the choices.

    Raises:
        InvalidInput: it is not.
    """
    if value not in choices:
        raise InvalidInput(f"{name} is one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def read_compress(value: Any) -> dict[str, Any] | None:
    """The arguments of a grader's `compress`; None: nothing is compressed.

    Raises:
        InvalidInput: neither a flag, nor a name, nor a probability.
    """
    if isinstance(value, bool):
        return {} if value else None
    if isinstance(value, str) and value:
        return {"point": value}
    if isinstance(value, int | float) and 0.0 <= value <= 1.0:
        return {"threshold": float(value)}
    raise InvalidInput(f"compress: a flag, the name of a point or a probability in [0, 1] was expected, got {value!r}")


def _require_able(grader: Any, *, evidence: bool, compress: bool) -> None:
    """Raise InvalidInput where an object of the caller's has not what an option needs."""
    name = type(grader).__name__
    if compress and not callable(getattr(grader, "compress", None)):
        raise InvalidInput(f"compress: {name} has no compress(); take a Grader, a Client, a bundle or a URL")
    if not evidence or compress:
        return
    taken = inspect.signature(grader.grade).parameters.values()
    if not any(each.name == "evidence" or each.kind is each.VAR_KEYWORD for each in taken):
        raise InvalidInput(f"evidence: grade() of {name} does not take it; take a Grader, a Client, a bundle or a URL")


def _require_all(grades: Sequence[Grade | None], unjudged: set[int]) -> None:
    """An error is a third state, never "not relevant": a document that is missing is one that nobody judged."""
    for index, grade in enumerate(grades):
        if grade is None and index not in unjudged:
            raise GradingError(f"the grader returned no grade for document {index} of {len(grades)}", index=index)


def _logit(grade: Grade | None) -> float:
    return float("-inf") if grade is None else grade.logit
