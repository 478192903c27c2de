"""A teacher for the story: a server on loopback that answers in the OpenAI chat format, with logprobs, from a script.

It knows the gold judgements and is wrong now and then, in the way of real teachers: mostly about near misses. Which
pairs it gets wrong follows from their ids, so that every run of the story has the same errors. It is no model.
"""

import hashlib
import json
import math
import re
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from scripted_person import Gold

# Share of pairs that are answered wrongly. A teacher that erred as often about everything would be easier to find out.
WRONG_ANSWER = 0.10  # an answering document taken for none
WRONG_NEAR_MISS = 0.25  # a close document taken for an answer
WRONG_OTHER = 0.02  # any other document taken for an answer
SURE, UNSURE = (
    (0.85, 0.99),
    (0.55, 0.95),
)  # P(what it says) of right and of wrong answers: wrong ones are often sure too

_PROMPT = re.compile(r"Query:\n(.*?)\n\nDocument:\n<document (\w+)>\n(.*)\n</document \2>", flags=re.DOTALL)


def teacher_probability(gold: Gold, query_id: str, doc_id: str) -> float:
    """P(relevant) as the teacher sees it; in (0, 1)."""
    is_relevant = doc_id in gold.relevant[query_id]
    share = WRONG_ANSWER if is_relevant else WRONG_NEAR_MISS if doc_id in gold.near_misses[query_id] else WRONG_OTHER
    is_wrong = _chance("wrong", query_id, doc_id) < share
    low, high = UNSURE if is_wrong else SURE
    sureness = low + (high - low) * _chance("sure", query_id, doc_id)
    return sureness if is_relevant != is_wrong else 1.0 - sureness


def _chance(*names: str) -> float:
    """A number in [0, 1) that follows from the names."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


class ScriptedTeacher:
    """The server, in a thread. A context manager.

    Args:
        gold: what is right.
        answer_s: seconds that an answer takes.

    Attributes:
        n_answered: requests that were answered with a label.
    """

    def __init__(self, gold: Gold, *, answer_s: float = 0.0) -> None:
        self._gold, self._answer_s = gold, answer_s
        self._lock = threading.Lock()
        self.n_answered = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self._answer))

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """What `--teacher` takes."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def _answer(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and body of the reply."""
        found = _PROMPT.search(request["messages"][-1]["content"])
        pair = self._gold.find(found.group(1), found.group(3)) if found else None
        if pair is None:
            return 400, {"error": {"message": "this teacher knows the pairs of the story alone, in its default rubric"}}
        time.sleep(self._answer_s)
        with self._lock:
            self.n_answered += 1
        return 200, completion(teacher_probability(self._gold, *pair), model=str(request.get("model")))


def completion(probability: float, *, model: str) -> dict[str, Any]:
    """A chat completion of one token, with the log-probabilities of both answers."""
    logprobs = {"Yes": math.log(probability), "No": math.log1p(-probability)}
    listed = [
        {"token": word, "logprob": value, "bytes": list(word.encode())}
        for word, value in sorted(logprobs.items(), key=lambda item: -item[1])
    ]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": listed[0]["token"]},
        "logprobs": {"content": [{**listed[0], "top_logprobs": listed}]},
        "finish_reason": "stop",
    }
    usage = {"prompt_tokens": 300, "completion_tokens": 1, "total_tokens": 301}
    return {"id": "story", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage}


def _handler(answer: Callable[[dict[str, Any]], tuple[int, dict[str, Any]]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Chat completions, and nothing else."""

        protocol_version = "HTTP/1.1"  # keeps connections

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            known = self.path == "/v1/chat/completions"
            status, reply = answer(json.loads(body)) if known else (404, {"error": {"message": "no such route"}})
            raw = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *values: object) -> None:
            """Say nothing: the story prints a line a step."""

    return Handler
