"""Answers as responses: JSON that carries any text, and one shape of error for each family of clients."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from relgrade.serve.refusals import Invalid, Refusal


class JsonResponse(Response):
    """JSON in ASCII: lone surrogates of a document travel as escapes."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The body."""
        return to_bytes(content)


def to_bytes(content: Any) -> bytes:
    """JSON without spaces; NaN is an error of ours and never sent."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode("ascii")


def refusal_response(refusal: Refusal, *, path: str, request_id: str) -> JsonResponse:
    """What a client is told, in the shape that the clients of that route read."""
    return JsonResponse(
        refusal_body(refusal, path=path, request_id=request_id), status_code=refusal.status, headers=refusal.headers
    )


def refusal_body(refusal: Refusal, *, path: str, request_id: str) -> Mapping[str, Any]:
    """The body of `refusal_response`."""
    message, kind = refusal.message, refusal.kind
    if path == "/v1/systemone":
        if isinstance(refusal, Invalid):
            return {"detail": [{"loc": ["body", *refusal.place.split(".")], "msg": message, "type": "value_error"}]}
        return {"detail": {"error_type": kind, "message": message}}
    if path == "/v1/decisions":
        param = refusal.place if isinstance(refusal, Invalid) else None
        type_ = "invalid_request_error" if refusal.status < 429 else "server_error"
        return {"error": {"message": message, "type": type_, "param": param, "code": kind}}
    # TEI's clients read error and error_type, Cohere's message, Jina's detail.
    return {"error": message, "error_type": kind, "message": message, "detail": message, "request_id": request_id}
