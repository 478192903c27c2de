"""Which grader: the embedded one, a bundle, a server or an object of the caller's. The choice is made here alone.

It knows nothing of frameworks, and loads neither a model nor a client before it is asked to.
"""

import inspect
from pathlib import Path
from typing import Any

from relgrade.errors import InvalidInput

_SCHEMES = ("http://", "https://")
_EXPECTED = (
    "None for the embedded grader, the folder of a bundle or its organisation/name@COMMIT on the Hub, the URL of "
    "`relgrade serve`, or an object with grade() and filter() was expected"
)


def is_url(source: Any) -> bool:
    """Whether the source names a server; a folder is never called `http://...`."""
    return isinstance(source, str) and source.lower().startswith(_SCHEMES)


def open_grader(source: Any = None, *, operating_point: str | None = None, api_key: str | None = None) -> Any:
    """An object with `grade(query, documents)` and `filter(query, documents, policy=...)`.

    Args:
        source: None for the embedded grader; the folder of a bundle, or its Hub id `organisation/name@COMMIT`; the URL
            of `relgrade serve`; or a `Grader`, a `Client`, or any object with the two methods, which is used as it is.
        operating_point: name of the threshold that decides; None takes the default of the grader.
        api_key: of a server; nothing else has one.

    Raises:
        BundleError: the bundle cannot be loaded.
        InvalidInput: none of these; no such operating point; an object that cannot change its point; a key for a
            grader that is no server.
        MissingExtra: a Hub id or a server, and what reaches it is not installed.
    """
    if is_url(source):
        from relgrade.client import Client  # only who calls a server needs it

        return Client(source, api_key=api_key, operating_point=operating_point)
    if api_key is not None:
        raise InvalidInput("api_key belongs to the URL of a server; leave it out for other graders")
    if source is None or isinstance(source, str | Path):
        from relgrade.grade.grader import Grader  # onnxruntime comes with it

        return Grader.load(source, operating_point=operating_point)
    missing = [name for name in ("grade", "filter") if not callable(getattr(source, name, None))]
    if missing or isinstance(source, type):
        raise InvalidInput(f"grader: {_EXPECTED}, got {_describe(source)}")
    return source if operating_point is None else _with_point(source, operating_point)


def is_asynchronous(grader: Any) -> bool:
    """Whether the grader's methods are coroutines, as those of `AsyncClient`."""
    return inspect.iscoroutinefunction(grader.grade)


def grader_name(grader: Any) -> str:
    """What to call a grader in events: the name of its bundle where it tells one."""
    manifest = getattr(getattr(grader, "bundle", None), "manifest", None)
    name = getattr(manifest, "name", None)
    return name if isinstance(name, str) and name else "relgrade"


def plain_source(source: Any) -> str | None:
    """A source as JSON holds it. An object comes out as a name that opens nothing, so that loading it fails loudly."""
    if source is None or isinstance(source, str | Path):
        return None if source is None else str(source)
    return f"<{type(source).__name__}: name a bundle or a URL instead, to be loaded again>"


def _with_point(grader: Any, name: str) -> Any:
    change = getattr(grader, "with_point", None)
    if callable(change):
        return change(name)
    raise InvalidInput(
        f"operating_point: {type(grader).__name__} has no with_point(); name the point where it is made, as in "
        f"Client(url, operating_point={name!r}), and leave it out here"
    )


def _describe(source: Any) -> str:
    if isinstance(source, type):
        return f"the class {source.__name__}; make an object of it"
    return f"an object of type {type(source).__name__}"
