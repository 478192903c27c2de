"""The page at `/`: paste a question and documents, see what would be kept. Rendered here, styled and moved by `page/`.

Everything a user or a document says goes through Jinja2's escaping; nothing of it is ever marked as safe.
"""

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs

import jinja2
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from relgrade.serve import grade_request
from relgrade.serve.body import read_bytes
from relgrade.serve.gate import address_of
from relgrade.serve.keys import sent_key
from relgrade.serve.page_examples import EXAMPLES
from relgrade.serve.refusals import Denied, Invalid, NoRoute, Refusal, WrongType
from relgrade.serve.service import Service

FOLDER = Path(__file__).parent / "page"
STATIC = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "htmx.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
ABOVE = "../"  # from the address of an answer without scripts to that of the page; links work under any mount
MAX_FORM_BYTES = 1_000_000  # read before the key is known, as the key is a part of it
_FORM_TYPE = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class _Form:
    """What was sent."""

    query: str
    documents: str
    operating_point: str | None
    key: str | None

    @property
    def texts(self) -> list[str]:
        """The documents: paragraphs with an empty line between them."""
        # Not splitlines: a form feed or a line separator belongs to the text, as it does in the other routes.
        lines = self.documents.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        parts = "\n".join(line.rstrip() for line in lines).split("\n\n")
        return [part.strip("\n") for part in parts if part.strip()]


def add_playground(app: FastAPI, service: Service) -> None:
    """Register the page and its files."""
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, undefined=jinja2.StrictUndefined, auto_reload=False
    )
    files = {name: (FOLDER / name).read_bytes() for name in STATIC}

    def show(template: str, *, status: int = 200, **values: Any) -> Response:
        html = pages.get_template(template).render(values)
        headers = {"Content-Security-Policy": POLICY, "Content-Type": "text/html; charset=utf-8"}
        return Response(html.encode("utf-8", "replace"), status_code=status, headers=headers)

    def show_page(form: _Form, *, status: int = 200, **values: Any) -> Response:
        model = service.rack.get(None)
        told = {
            "model": model,
            "points": model.bundle.manifest.operating_points,
            "needs_key": not service.keyring.is_open,
            "is_logged": service.settings.logs_documents,
            "examples": EXAMPLES,
            "query": form.query,
            "documents": form.documents,
            "chosen_point": form.operating_point or model.bundle.manifest.default_point,
        }
        return show(
            "page.html",
            status=status,
            **{"root": "", "chosen": None, "result": None, "problem": None, **told, **values},
        )

    async def page(request: Request) -> Response:
        """The page, perhaps with an example filled in."""
        wanted = request.query_params.get("example", EXAMPLES[0].name)
        example = next((each for each in EXAMPLES if each.name == wanted), EXAMPLES[0])
        form = _Form(example.query, "\n\n".join(example.documents), None, None)
        return show_page(form, chosen=example.name)

    async def file(request: Request) -> Response:
        """A file of the page, from a closed list."""
        name = request.path_params["name"]
        if name not in files:
            raise NoRoute("there is no such file")
        return Response(files[name], headers={"Content-Type": STATIC[name], "Cache-Control": "max-age=3600"})

    async def grade(request: Request) -> Response:
        """Grade what was pasted: the results alone for htmx, the whole page without scripts."""
        is_part = request.headers.get("hx-request") == "true"
        form = _Form("", "", None, None)
        try:
            form = await _read_form(request, service)
            service.keyring.admit(form.key or sent_key(request.headers), address=address_of(request.scope))
            values = await _grade(request, form, service)
        except Refusal as refusal:
            request.state.seen.kind = refusal.kind
            if is_part:
                return show("problem.html", status=refusal.status, problem=refusal)
            return show_page(form, status=refusal.status, problem=refusal, root=ABOVE)
        return show("results.html", **values) if is_part else show_page(form, root=ABOVE, **values)

    app.add_api_route("/", page, methods=["GET"], response_model=None)
    app.add_api_route("/page/grade", grade, methods=["POST"], response_model=None, include_in_schema=False)
    app.add_api_route("/page/{name}", file, methods=["GET"], response_model=None, include_in_schema=False)


async def _read_form(request: Request, service: Service) -> _Form:
    if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        raise Denied("this form takes requests of its own page alone")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM_TYPE:
        raise WrongType(f"Content-Type: {_FORM_TYPE} was expected")
    if "content-length" not in request.headers:  # every browser sends it; tiny chunks cost time to take apart
        raise Invalid("the form cannot be read")
    limit, deadline_s = min(service.settings.max_body_bytes, MAX_FORM_BYTES), service.deadline_s(request)
    content = await read_bytes(request, max_bytes=limit, deadline_s=deadline_s, room=service.room)
    try:
        text = content.decode("ascii")
        sent = {name: values[0] for name, values in parse_qs(text, max_num_fields=20, errors="replace").items()}
    except ValueError as error:  # bytes that no browser sends, or too many fields
        raise Invalid("the form cannot be read") from error
    return _Form(sent.get("query", ""), sent.get("documents", ""), sent.get("operating_point"), sent.get("key"))


async def _grade(request: Request, form: _Form, service: Service) -> dict[str, Any]:
    """The values of `results.html`; raises Refusal."""
    texts = form.texts
    if not texts:
        raise Invalid("paste at least one document")
    body = {
        "query": form.query,
        "documents": texts,
        "operating_point": form.operating_point or None,
        "evidence": True,
    }
    parsed = grade_request.read_grade_request(body, service.rack, service.settings)
    start_s = time.monotonic()
    answer = await service.answer(request, parsed.ask, dialect="playground")
    result = grade_request.reply(answer, is_single=True, request_id=request.state.seen.request_id)
    return {
        "result": result,
        "pieces": [pieces_of(text, row["evidence"]) for text, row in zip(texts, result["results"], strict=True)],
        "curl": curl_of(
            body, url=str(request.base_url).rstrip("/") + "/v1/grade", needs_key=not service.keyring.is_open
        ),
        "milliseconds": (time.monotonic() - start_s) * 1e3,
    }


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a document."""

    text: str
    kind: Literal["best", "evidence", "rest"]


def pieces_of(text: str, evidence: Sequence[Mapping[str, Any]]) -> list[Piece]:
    """A document cut at its evidence; joined, the pieces are the text again.

    Args:
        text: of the document.
        evidence: sentences with `start` and `end`, the best first.
    """
    pieces: list[Piece] = []
    position = 0
    for number, span in sorted(enumerate(evidence), key=lambda place: place[1]["start"]):
        pieces.append(Piece(text[position : span["start"]], "rest"))
        pieces.append(Piece(text[span["start"] : span["end"]], "evidence" if number else "best"))
        position = span["end"]
    return [piece for piece in (*pieces, Piece(text[position:], "rest")) if piece.text]


def curl_of(body: dict[str, Any], *, url: str, needs_key: bool) -> str:
    """The call as a shell would take it; every part is quoted."""
    sent = {name: value for name, value in body.items() if value is not None}
    key = ' \\\n  -H "Authorization: Bearer $RELGRADE_API_KEY"' if needs_key else ""
    return (
        f"curl {shlex.quote(url)}{key} \\\n  -H 'Content-Type: application/json' \\\n"
        f"  -d {shlex.quote(json.dumps(sent, ensure_ascii=False, indent=1))}"
    )
