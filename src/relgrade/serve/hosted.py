"""The bundles of a server by name, and how one takes the place of another while requests run.

A request holds the `HostedModel` it began with, so a reload changes nothing for it. A bundle that cannot be loaded, or
whose golden pairs come out differently, is refused, and the old one stays.
"""

import functools
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from relgrade.bundle import Bundle
from relgrade.errors import InvalidInput, InvalidSettings
from relgrade.grade.document_cache import DocumentCache
from relgrade.grade.grader import Grader, open_bundle
from relgrade.grade.long_documents import LongDocumentRuntime
from relgrade.grade.panel import Panel
from relgrade.grade.parts import MAX_PARTS
from relgrade.grade.runtime import Runtime
from relgrade.grade.runtimes import load_runtime
from relgrade.serve.refusals import Invalid

LoadGrader = Callable[[str | Path | None], tuple[Bundle, Runtime]]

_DEFAULT_LIMIT_TOKENS = 4096  # of a document, where the template does not say


@dataclass(frozen=True, eq=False)
class HostedModel:
    """One loaded bundle."""

    name: str
    bundle: Bundle
    runtime: Runtime
    loaded_s: float = field(default_factory=time.time)  # since the epoch

    @functools.cached_property
    def limit_tokens(self) -> int:
        """Tokens of a document that are read, about: what a longer one costs."""
        n_parts = MAX_PARTS if isinstance(self.runtime, LongDocumentRuntime) else 1
        return self._tokens_at_once * n_parts

    @functools.cached_property
    def _tokens_at_once(self) -> int:
        template = self.bundle.manifest.template
        window, n_windows = template.get("window_tokens"), template.get("max_windows")
        if isinstance(window, int) and isinstance(n_windows, int):
            return window * n_windows
        limit = template.get("max_tokens")
        return limit if isinstance(limit, int) else _DEFAULT_LIMIT_TOKENS

    @functools.cached_property
    def point_names(self) -> tuple[str, ...]:
        """Of the operating points."""
        return tuple(point.name for point in self.bundle.manifest.operating_points)

    def panel(self, operating_point: str | None = None, base_rate: float | None = None) -> Panel:
        """The judges at a point.

        Raises:
            Invalid: no such point, or a base rate that cannot be used.
        """
        key = (operating_point, base_rate)
        made = self._panels.get(key)
        if made is None:
            try:
                made = Panel.of(self.bundle.manifest, operating_point=operating_point, base_rate=base_rate)
            except InvalidInput as error:
                raise Invalid(str(error), place="operating_point") from error
            if base_rate is None:  # few; base rates are whatever callers send
                self._panels[key] = made
        return made

    @functools.cached_property
    def _panels(self) -> dict[tuple[str | None, float | None], Panel]:
        return {}


@dataclass(frozen=True, slots=True)
class Reload:
    """What became of one bundle."""

    name: str
    is_loaded: bool
    hash: str  # that serves now
    seconds: float
    message: str = ""  # why the new one was refused


class ModelRack:
    """Bundles by name; the first is the default.

    Args:
        sources: name -> folder, Hub id, or None for the embedded bundle.
        load: opens one; see `load_bundle_and_runtime`.

    Raises:
        InvalidSettings: no source.
        RelgradeError: a bundle cannot be loaded, or its golden pairs come out differently.
    """

    def __init__(self, sources: Mapping[str, str | Path | None], *, load: LoadGrader) -> None:
        if not sources:
            raise InvalidSettings("a server needs a bundle, none was named")
        self._sources = dict(sources)
        self._load = load
        self._lock = threading.Lock()  # one reload at a time
        self._models = {name: self._open(name) for name in self._sources}
        self.default_name = next(iter(self._sources))

    @property
    def models(self) -> tuple[HostedModel, ...]:
        """Those that serve now, the default first."""
        return tuple(self._models.values())

    def get(self, name: str | None) -> HostedModel:
        """The model of that name; the default one for None."""
        return self._models[self.default_name if name is None else name]

    def find(self, name: str | None) -> HostedModel | None:
        """The model of that name, None when there is none."""
        return self._models.get(self.default_name if name is None else name)

    def reload(self) -> list[Reload]:
        """Load every bundle again from its source and put those that are sound in place. Blocks; call it in a thread.

        Returns:
            One entry per bundle. Whatever is wrong with a new one, the old one stays and the entry says why.
        """
        with self._lock:
            return [self._reload(name) for name in self._sources]

    def _reload(self, name: str) -> Reload:
        start_s = time.perf_counter()
        try:
            fresh = self._open(name)
        except Exception as error:  # a bundle on its way here can be broken in ways that nobody foresaw
            old = self._models[name]
            seconds = time.perf_counter() - start_s
            return Reload(name, False, old.bundle.hash, seconds, f"{type(error).__name__}: {error}")
        self._models = {**self._models, name: fresh}  # a new mapping: readers hold the old one or this one
        return Reload(name, True, fresh.bundle.hash, time.perf_counter() - start_s)

    def _open(self, name: str) -> HostedModel:
        bundle, runtime = self._load(self._sources[name])
        Grader(bundle, runtime).verify_goldens()
        return HostedModel(name, bundle, runtime)


def load_bundle_and_runtime(
    source: str | Path | None, *, n_threads: int | None = None, document_cache: DocumentCache | None = None
) -> tuple[Bundle, Runtime]:
    """Open a bundle as `Grader.load` does.

    Args:
        source: None for the embedded bundle, the name of another embedded one, a folder, or a Hub id with its commit,
            `organisation/name@COMMIT`.
        n_threads: sequences read at once; None takes the cores of this process.
        document_cache: of documents that were read before; several bundles may share it.

    Raises:
        RelgradeError: as `Grader.load`.
    """
    bundle = open_bundle(source)
    return bundle, load_runtime(bundle, n_threads=n_threads, document_cache=document_cache)
