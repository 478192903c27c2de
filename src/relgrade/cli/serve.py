"""`relgrade serve`: graders behind HTTP.

It knows options, the environment and key files; what is served stands in `relgrade.serve`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from relgrade.cli import outcome
from relgrade.errors import InvalidSettings

if TYPE_CHECKING:
    from relgrade.grade.document_cache import DocumentCache
    from relgrade.serve.cache import ResultCache

KEYS_VARIABLE = "RELGRADE_API_KEYS"
ADMIN_VARIABLE = "RELGRADE_ADMIN_KEY"

_HELP = f"""Serve graders over HTTP, in the dialects that clients of rerankers speak.

POST /v1/grade, /rerank, /v1/rerank, /v2/rerank (Cohere, Jina, Voyage, vLLM, TEI), /v1/systemone, /v1/decisions;
GET /health, /ready, /info, /v1/models, /metrics, /version; a playground at /.

Keys come from {KEYS_VARIABLE} (KEY or NAME=KEY, by commas) and --key-file (the same, one a line). {ADMIN_VARIABLE}
opens POST /admin/reload. SIGHUP loads the bundles again; SIGTERM lets running requests end.

\b
Exit codes:
  0  stopped by SIGTERM or SIGINT, with nothing cut off
  2  bad input or usage: no such bundle, the port is taken, no key where one is needed
"""  # \b keeps the lines of a paragraph as they are


@click.command(help=_HELP)
@click.option(
    "--bundle",
    "bundles",
    multiple=True,
    metavar="[NAME=]PATH",
    help="Folder, or HUB-ID@COMMIT; several by name, the first is the default.  [default: embedded]",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to bind.")
@click.option("--port", type=click.IntRange(0, 65535), default=8321, show_default=True, help="0 takes a free one.")
@click.option("--key-file", type=click.Path(), help="File of API keys.")
@click.option("--open", "is_open", is_flag=True, help="Bind beyond this machine without a key.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Requests a minute of each key.")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=30.0, show_default=True, help="Seconds."
)
@click.option("--threads", type=click.IntRange(min=1), help="Sequences read at once; default: the cores.")
@click.option("--batch-tokens", type=click.IntRange(min=1), default=1024, show_default=True, help="Of a micro-batch.")
@click.option(
    "--max-queue", type=click.IntRange(min=1), default=2000, show_default=True, help="Documents that wait or run."
)
@click.option("--max-documents", type=click.IntRange(min=1), default=1000, show_default=True, help="Of one request.")
@click.option("--cache", "cache_entries", type=click.IntRange(min=0), default=0, show_default=True, help="Pairs kept.")
@click.option(
    "--document-cache",
    type=click.Path(file_okay=False),
    help="Folder that keeps what the models read of documents: see relgrade cache.",
)
@click.option("--document-cache-bytes", type=click.IntRange(min=1_000_000), help="Bound of it; default: its own.")
@click.option("--redis", "redis_url", help="Keep them in Redis instead: redis://host:port/number.")
@click.option("--no-playground", is_flag=True, help="Serve no page at /.")
@click.option("--log-documents", is_flag=True, help="Write queries and documents into the log.")
def serve(
    bundles: tuple[str, ...], key_file: str | None, redis_url: str | None, no_playground: bool, **options: Any
) -> None:
    """Load, bind, serve; `_HELP` is what the user reads."""
    from relgrade import serve as server

    settings = server.ServeSettings(
        host=options["host"],
        port=options["port"],
        keys=read_keys(os.environ.get(KEYS_VARIABLE, ""), key_file),
        admin_key=os.environ.get(ADMIN_VARIABLE) or None,
        is_open=options["is_open"],
        requests_per_minute=options["rate"],
        timeout_s=options["timeout"],
        batch_tokens=options["batch_tokens"],
        n_threads=options["threads"],
        max_queue_documents=options["max_queue"],
        max_documents=options["max_documents"],
        cache_entries=options["cache_entries"],
        has_playground=not no_playground,
        logs_documents=options["log_documents"],
    )
    documents = _document_cache(options["document_cache"], options["document_cache_bytes"])
    load = partial(server.load_bundle_and_runtime, n_threads=settings.n_threads)
    if documents is not None:
        load = partial(load, document_cache=documents)
    rack = server.ModelRack(read_sources(bundles), load=load)
    app = server.create_app(rack, settings, cache=_redis(redis_url))
    if documents is not None:
        app.state.service.measures.watch_documents(documents)
    server.log_as_json()
    bound = server.open_socket(settings)
    host, port = bound.getsockname()[:2]
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    with contextlib.suppress(OSError):  # a full disk under the log is no reason not to serve
        outcome.warn(f"serving {', '.join(model.name for model in rack.models)} on http://{where}")
    server.run_server(app, bound=bound)
    if documents is not None:
        documents.close()


def read_sources(bundles: Sequence[str]) -> dict[str, str | Path | None]:
    """Name -> source; a source without a name is called after its last part.

    Raises:
        InvalidSettings: two of one name.
    """
    if not bundles:
        return {"default": None}
    sources: dict[str, str | Path | None] = {}
    for text in bundles:
        name, equals, source = text.partition("=")
        if not equals or "/" in name:
            name, source = Path(text.partition("@")[0]).name, text
        if not name or not source:
            raise InvalidSettings(f"--bundle: NAME=PATH or PATH was expected, got {text!r}")
        if name in sources:
            raise InvalidSettings(f"--bundle: two bundles are called {name!r}; say NAME=PATH")
        sources[name] = source
    return sources


def read_keys(listed: str, key_file: str | None) -> dict[str, str]:
    """Name -> key, from a list by commas and a file with one a line; lines with # at their start are left out.

    Raises:
        InvalidSettings: two keys of one name, or a file without a key.
        OSError: the file cannot be read.
    """
    rows = [row.strip() for row in listed.split(",") if row.strip()]
    if key_file is not None:
        lines = [line.strip() for line in Path(key_file).read_text(encoding="utf-8").splitlines()]
        from_file = [line for line in lines if line and not line.startswith("#")]
        if not from_file:
            raise InvalidSettings(f"{key_file}: no key in it; one a line was expected")
        rows += from_file
    keys: dict[str, str] = {}
    for number, row in enumerate(rows, start=1):
        name, equals, key = row.partition("=")
        # A bare key may hold "=" itself, as base64 does at its end.
        if not equals or not key.strip("=") or not name.replace("-", "").replace("_", "").isalnum():
            name, key = f"key-{number}", row
        if name in keys:
            raise InvalidSettings(f"two keys are called {name!r}")
        keys[name] = key
    return keys


def _document_cache(folder: str | None, n_bytes: int | None) -> DocumentCache | None:
    if folder is None:
        if n_bytes is not None:
            raise click.UsageError("--document-cache-bytes needs --document-cache")
        return None
    from relgrade.grade.document_cache import DocumentCache

    return DocumentCache(folder, disk_bytes=n_bytes)


def _redis(url: str | None) -> ResultCache | None:
    if url is None:
        return None
    from relgrade.serve.redis_cache import RedisCache

    return RedisCache.connect(url)
