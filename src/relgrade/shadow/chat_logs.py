"""Chat completions as proxies, gateways and batch files log them: a request with messages, and its response.

The pair is cut out of the prompt. The wording of the published LangGraph graders is known; for others there is
`pattern`.
"""

import re
from collections.abc import Mapping
from typing import Any

from relgrade.encoding import clean_text
from relgrade.errors import InvalidData
from relgrade.formats.lines import Row
from relgrade.formats.rows import document_id_of, query_id_of
from relgrade.shadow.fields import duration_of, number_of
from relgrade.shadow.verdicts import LoggedVerdict, parse_verdict

# How published graders lay out a prompt; the first that matches counts.
PATTERNS = (
    r"(?is)retrieved document:\s*(?P<document>.*?)\s*(?:here is the )?user question:\s*(?P<query>[^\n]+)",
    r"(?is)\bquestion:\s*(?P<query>[^\n]+?)\s*,?\s*\b(?:documents?|context|passage):\s*(?P<document>.+)\Z",
    r"(?is)\b(?:document|context|passage):\s*(?P<document>.*?)\s*\b(?:question|query):\s*(?P<query>[^\n]+)",
)
_NAMES = {"request": ("request", "input", "kwargs", "body"), "response": ("response", "output", "completion")}


def read_chat(
    row: Row, *, pattern: str | None, requests: Mapping[str, Mapping[str, Any]]
) -> LoggedVerdict | InvalidData:
    """The verdict of one logged call.

    Args:
        row: with `request` and `response`, or messages and `response`, or a line of a batch output.
        pattern: regular expression with the groups query and document; None: the known ones.
        requests: custom_id -> request, of a batch.
    """
    request = requests.get(str(row.values.get("custom_id"))) or _part(row.values, "request", "messages")
    if request is None:
        return InvalidData(
            "no messages; a request and its response were expected, or the batch input as `requests`",
            path=row.path,
            line=row.line,
        )
    prompt = _prompt(request)
    found = next((match for each in ([pattern] if pattern else PATTERNS) if (match := re.search(each, prompt))), None)
    if found is None or not found["query"].strip():
        return InvalidData(
            "no query and document were found in the prompt; name a `pattern` that fits it",
            path=row.path,
            line=row.line,
        )
    query, document = clean_text(found["query"].strip()), clean_text(found["document"].strip())
    response = _part(row.values, "response", "choices") or {}
    said = _said(response)
    verdict = parse_verdict(said)
    usage = response.get("usage") if isinstance(response.get("usage"), Mapping) else {}
    return LoggedVerdict(
        query=query,
        document=document,
        query_id=query_id_of(query),
        doc_id=document_id_of(document),
        is_relevant=verdict,
        reply=None if verdict is not None else str(said or row.values.get("error"))[:400],
        latency_s=duration_of(row.values),
        input_tokens=number_of(usage or {}, "prompt_tokens", "input_tokens", is_count=True),
        output_tokens=number_of(usage or {}, "completion_tokens", "output_tokens", is_count=True),
        cost=number_of(row.values, "cost", "total_cost", "response_cost"),
        model=response["model"] if isinstance(response.get("model"), str) else None,
        line=row.line,
    )


def _part(values: Mapping[str, Any], kind: str, mark: str) -> Mapping[str, Any] | None:
    """The request or response of a row, wherever it lies; `mark` is the key that it has."""
    candidates = [values, *(values.get(name) for name in _NAMES[kind])]
    for candidate in candidates:
        if not isinstance(candidate, Mapping):
            continue
        if mark in candidate:
            return candidate
        body = candidate.get("body")
        if isinstance(body, Mapping) and mark in body:
            return body
    return None


def _prompt(request: Mapping[str, Any]) -> str:
    """The texts of all messages, one below the other."""
    messages = request.get("messages")
    if not isinstance(messages, list):
        return ""
    return "\n".join(_text(message.get("content")) for message in messages if isinstance(message, Mapping))


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return ""


def _said(response: Mapping[str, Any]) -> Any:
    """The answer: the arguments of a tool call, or the text."""
    choices = response.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, Mapping) else None
    if not isinstance(message, Mapping):
        return None
    calls = message.get("tool_calls")
    if isinstance(calls, list) and calls and isinstance(calls[0], Mapping):
        function = calls[0].get("function")
        if isinstance(function, Mapping):
            return function.get("arguments")
    return _text(message.get("content"))
