"""From a bundle to the runtime of its architecture. A runtime's module is imported when a bundle asks for it."""

from importlib import import_module

from relgrade.bundle import Bundle
from relgrade.errors import BundleError, InvalidInput
from relgrade.grade.document_cache import DocumentCache
from relgrade.grade.long_documents import LongDocumentRuntime, PartsCorrection
from relgrade.grade.runtime import Reader, Runtime

RUNTIMES = {
    "cross-encoder": ("relgrade.grade.cross_encoder", "CrossEncoderRuntime"),
    "interaction": ("relgrade.grade.interaction", "InteractionRuntime"),
}  # architecture -> module and class; each class has from_bundle(bundle, *, n_threads), and is a Reader or cuts
WITH_DOCUMENT_CACHE = frozenset({"interaction"})  # their from_bundle takes document_cache too


def load_runtime(
    bundle: Bundle, *, n_threads: int | None = None, document_cache: DocumentCache | None = None
) -> Runtime:
    """Open the graphs of a bundle, so that documents of any length are graded.

    Args:
        bundle: checked, see `load_bundle`.
        n_threads: sequences read at once; None takes the cores of this process.
        document_cache: of documents that were read before, for architectures that read them alone; None: all are read.

    Raises:
        BundleError: this relgrade does not know the architecture, a graph cannot be opened, or an option makes no
            sense.
        InvalidInput: a document cache for an architecture that has no use for it.
    """
    architecture = bundle.manifest.architecture
    if architecture not in RUNTIMES:
        raise BundleError(
            f"{bundle.folder}: the architecture {architecture!r} is unknown here; this relgrade grades with "
            f"{', '.join(sorted(RUNTIMES))}; run: pip install --upgrade relgrade"
        )
    module, name = RUNTIMES[architecture]
    correction = PartsCorrection.of_bundle(bundle)  # before the graphs are opened
    if document_cache is not None:
        require_document_cache(bundle)
    options = {} if document_cache is None else {"document_cache": document_cache}
    runtime: Runtime = getattr(import_module(module), name).from_bundle(bundle, n_threads=n_threads, **options)
    return LongDocumentRuntime(runtime, correction=correction) if isinstance(runtime, Reader) else runtime


def require_document_cache(bundle: Bundle) -> None:
    """Raise InvalidInput for a bundle of which no document can be kept."""
    architecture = bundle.manifest.architecture
    if architecture not in WITH_DOCUMENT_CACHE:
        raise InvalidInput(
            f"{bundle.folder}: architecture {architecture!r} reads query and document together, and nothing "
            "of a document can be used again; leave the document cache out, or use an interaction bundle"
        )
