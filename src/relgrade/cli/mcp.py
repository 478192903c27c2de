"""`relgrade mcp`: the options of the MCP server. It writes nothing to stdout, which belongs to the protocol."""

from __future__ import annotations

from typing import Any, get_args

import click

from relgrade.integrations.screening import OnError
from relgrade.records import KeepPolicy

_HELP = """Serve the tool grade_relevance to agents, over MCP.

\b
relgrade mcp                                        over stdin and stdout, with the embedded grader
relgrade mcp --grader http://localhost:8000         verdicts of a running `relgrade serve`
relgrade mcp --transport streamable-http --port N   over HTTP, on this machine alone unless --host says otherwise

\b
Exit codes:
  0  the client went away
  2  bad input or usage
"""  # \b keeps the lines of a paragraph as they are


@click.command(help=_HELP)
@click.option("--grader", metavar="FOLDER|HUB-ID@COMMIT|URL", help="Default: the embedded one.")
@click.option("--point", metavar="NAME", help="Operating point. Default: the grader's first choice.")
@click.option("--min-keep", type=click.IntRange(min=0), default=0, show_default=True, help="Keep at least so many.")
@click.option("--max-keep", type=click.IntRange(min=1), help="Keep at most so many.")
@click.option(
    "--on-error",
    type=click.Choice(get_args(OnError)),
    default="raise",
    show_default=True,
    help="When the grader fails: the call fails, or says so and keeps or drops everything.",
)
@click.option("--evidence", is_flag=True, help="Tell the sentences that carry each verdict.")
@click.option("--compress", is_flag=True, help="Return of each kept document the sentences worth reading.")
@click.option("--api-key", envvar="RELGRADE_API_KEY", help="Of a `relgrade serve`. Default: $RELGRADE_API_KEY.")
@click.option(
    "--transport", type=click.Choice(["stdio", "streamable-http"]), default="stdio", show_default=True, help="Protocol."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="For streamable-http.")
@click.option("--port", type=click.IntRange(1, 65535), default=8765, show_default=True, help="For streamable-http.")
def mcp(
    grader: str | None,
    point: str | None,
    min_keep: int,
    max_keep: int | None,
    on_error: OnError,
    evidence: bool,
    compress: bool,
    api_key: str | None,
    transport: str,
    host: str,
    port: int,
) -> None:
    """Open the grader and serve until the client goes away; `_HELP` is what the user reads."""
    from relgrade.integrations.mcp import create_server
    from relgrade.integrations.source import is_url

    server: Any = create_server(
        grader,
        operating_point=point,
        policy=KeepPolicy(min_keep=min_keep, max_keep=max_keep),
        on_error=on_error,
        api_key=api_key if is_url(grader) else None,  # the variable may be set for other commands
        evidence=evidence,
        compress=compress,
    )
    if transport == "stdio":
        server.run("stdio")
    else:
        server.run("streamable-http", host=host, port=port)
