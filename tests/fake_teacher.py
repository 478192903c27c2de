"""A scripted teacher on loopback: speaks the chat and decision protocols, and fails in the ways servers fail.

It runs in a thread of the test, or alone: `python tests/fake_teacher.py` prints its port, serves until stdin closes,
and answers `GET /log` with what it was paid for.
"""

import asyncio
import json
import random
import re
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlsplit

HELD = "held"  # of `Reply.fault`: the reply never comes
CUT = "cut"  # half the body, then the connection closes
RESET = "reset"  # the connection closes without a reply
DRIP = "drip"  # one byte now and then


@dataclass
class Reply:
    """What the server says to one request."""

    status: int = 200
    body: dict | list | str = field(default_factory=dict)
    headers: dict = field(default_factory=dict)
    delay_s: float = 0.0
    fault: str | None = None


def document_of(request):
    """The text of the pair's document, as a teacher finds it in the request."""
    if "state" in request:
        return request["state"]["document"]
    text = request["input"] if "input" in request else request["messages"][-1]["content"]
    found = re.search(r"<document (\w+)>\n(.*?)\n</document \1>", text, flags=re.DOTALL)
    return found.group(2) if found else text.partition("DOCUMENTS: ")[2]


def completion(text, *, logprobs=None, finish_reason="stop", refusal=None, usage=(50, 1), model="served"):
    """A chat completion; `logprobs` maps tokens to logprobs of the first position."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    if refusal:
        choice["message"]["refusal"] = refusal
    if logprobs is not None:
        listed = [{"token": token, "logprob": value, "bytes": None} for token, value in logprobs.items()]
        choice["logprobs"] = {"content": [{"token": text, "logprob": listed[0]["logprob"], "top_logprobs": listed}]}
    body = {"id": "x", "object": "chat.completion", "model": model, "choices": [choice]}
    if usage:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return body


def refusal_of_field(name, status=400):
    return Reply(status, {"error": {"message": f"Unsupported parameter: '{name}'", "param": name, "code": "x"}})


class Judge:
    """The usual script: relevant when `is_relevant(document)`; answers in whatever form is asked for.

    Args:
        is_relevant: of the document's text.
        refuses: fields that are answered with 400.
        ignores: fields that are passed over in silence.
    """

    def __init__(self, is_relevant=lambda document: "answer" in document, *, refuses=(), ignores=()):
        self.is_relevant = is_relevant
        self.refuses, self.ignores = set(refuses), set(ignores)

    def __call__(self, request, path):
        for name in sorted(self.refuses & request.keys()):
            return refusal_of_field(name)
        kind = request.get("response_format", {}).get("type")
        if kind in self.refuses:
            return Reply(400, {"error": {"message": f"response_format.type {kind} is not supported"}})
        if path.endswith("/systemone"):
            noul = 0.9 if self.is_relevant(document_of(request)) else 0.2
            answers = {"relevant": {"type": "noul", "noul": noul}}
            return Reply(body={"model": "jev", "answers": answers, "usage": {"input_tokens": 40, "output_tokens": 3}})
        if path.endswith("/decisions"):
            share = 0.8 if self.is_relevant(document_of(request)) else 0.1
            answers = [{"type": "predicate", "name": "relevant", "probability": share}]
            return Reply(body={"model": "luna", "answers": answers, "usage": {"input_tokens": 40, "output_tokens": 3}})
        system = request["messages"][0]["content"]
        yes, no = ("PASS", "FAIL") if "PASS" in system else ("3", "0") if "grade how well" in system else ("Yes", "No")
        word = yes if self.is_relevant(document_of(request)) else no
        if request.get("logprobs") and "logprobs" not in self.ignores:
            other = no if word == yes else yes
            return Reply(body=completion(word, logprobs={word: -0.1, other: -2.5, "The": -4.0}))
        if kind is not None and "response_format" not in self.ignores:
            return Reply(body=completion(json.dumps({"answer": word}), usage=(50, 5)))
        return Reply(body=completion(word))


class FakeTeacher:
    """The server. A context manager.

    Args:
        script: (request, path) -> Reply; may be a list of replies, used one after the other, the last one for ever.

    Attributes:
        requests: bodies received, in order.
        headers: of each of them.
        n_paid: replies of status 200 that were sent whole.
        paid: how often each document was paid for.
    """

    def __init__(self, script=None, *, port=0):
        self.script = Judge() if script is None else _listed(script) if isinstance(script, list) else script
        self.requests, self.headers = [], []
        self.is_logging = True
        self.n_paid = 0
        self.n_open = self.most_open = 0  # requests being answered
        self.paid = Counter()
        self._port = port
        self._ready = threading.Event()

    def __enter__(self):
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *error):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    @property
    def url(self):
        return f"http://127.0.0.1:{self._port}/v1"

    def _serve(self):
        asyncio.run(self._run())

    async def _run(self):
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await self._loop.create_server(lambda: _Connection(self), "127.0.0.1", self._port, backlog=512)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        try:
            await self._stop.wait()
        finally:
            server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

    def answer(self, path, body):
        if path == "/log":
            return Reply(body={"n_paid": self.n_paid, "paid": self.paid, "open": self.n_open, "most": self.most_open})
        request = json.loads(body)
        if self.is_logging:
            self.requests.append(request)
        return self.script(request, path)

    def pay(self, body):
        self.n_paid += 1
        if self.is_logging:
            self.paid[document_of(json.loads(body))] += 1


class _Connection(asyncio.Protocol):
    """HTTP/1.1 with content lengths and kept connections, as little of it as a client needs."""

    def __init__(self, teacher):
        self.teacher, self.buffer = teacher, b""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.buffer += data
        while True:
            head, separator, rest = self.buffer.partition(b"\r\n\r\n")
            if not separator:
                return
            found = re.search(rb"(?i)content-length: *(\d+)", head)
            length = int(found.group(1)) if found else 0
            if len(rest) < length:
                return
            self.buffer = rest[length:]
            self._respond(head, rest[:length])

    def _respond(self, head, body):
        path = urlsplit(head.split(b" ", 2)[1].decode()).path
        if self.teacher.is_logging:
            self.teacher.headers.append(head.decode("latin-1"))
        reply = self.teacher.answer(path, body)
        if reply.delay_s or reply.fault:
            self.teacher._loop.create_task(self._slowly(reply, path, body))
        else:
            self._send(reply, path, body)

    async def _slowly(self, reply, path, body):
        self.teacher.n_open += 1
        self.teacher.most_open = max(self.teacher.most_open, self.teacher.n_open)
        try:
            await asyncio.sleep(reply.delay_s)
            if reply.fault == RESET:
                self.transport.abort()
            elif reply.fault == CUT:
                raw = self._bytes(reply)
                self.transport.write(raw[: len(raw) - 10])
                self.transport.close()
            elif reply.fault == HELD:
                await asyncio.sleep(60)
            elif reply.fault == DRIP:
                for byte in self._bytes(reply):
                    self.transport.write(bytes([byte]))
                    await asyncio.sleep(0.05)
            else:
                self._send(reply, path, body)
        finally:
            self.teacher.n_open -= 1

    def _send(self, reply, path, body):
        if reply.status == 200 and path != "/log":
            self.teacher.pay(body)
        self.transport.write(self._bytes(reply))

    @staticmethod
    def _bytes(reply):
        body = (reply.body if isinstance(reply.body, str) else json.dumps(reply.body)).encode()
        headers = {"content-type": "application/json", "content-length": len(body), **reply.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"HTTP/1.1 {reply.status} X\r\n{lines}\r\n".encode() + body


def _listed(replies):
    rest = iter(replies)
    last = [None]

    def script(request, path):
        last[0] = next(rest, last[0])
        return last[0](request, path) if callable(last[0]) else last[0]

    return script


def unreliable(judge, *, share, seed, delay_s=0.0):
    """A script that fails a share of the calls, before anything is paid: 429, 500, a reset, each as often."""
    chance = random.Random(seed)

    def script(request, path):
        if chance.random() < share:
            kind = chance.randrange(3)
            if kind == 0:
                return Reply(429, {"error": {"message": "slow down"}}, headers={"retry-after-ms": 20})
            if kind == 1:
                return Reply(500, {"error": {"message": "boom"}}, headers={"retry-after-ms": 20})
            return Reply(fault=RESET)
        reply = judge(request, path)
        reply.delay_s = delay_s * chance.random()
        return reply

    return script


def main():
    """Serve alone. Arguments: share of failing calls, longest delay in seconds, 1 to log documents."""
    share, delay_s, is_logging = float(sys.argv[1]), float(sys.argv[2]), sys.argv[3] == "1"
    judge = Judge()
    with FakeTeacher(unreliable(judge, share=share, seed=0, delay_s=delay_s) if share else judge) as teacher:
        teacher.is_logging = is_logging
        sys.stdout.write(f"{teacher.url}\n")
        sys.stdout.flush()
        sys.stdin.read()
        time.sleep(0.05)


if __name__ == "__main__":
    main()
