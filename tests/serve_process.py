"""A real server in a process of its own, around a fake model: `python -m tests.serve_process FOLDER PORT DELAY_S`.

A document that holds "dieword" ends the process on the spot, as a worker that is killed does.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parent.parent
ADMIN = "admin-key-of-a-test-server"


class Server:
    """Started and ready; ended with the block."""

    def __init__(self, folder, *, delay_s=0.0, port=0, log=None, **settings):
        self.folder = folder
        self.port = port or free_port()
        arguments = [str(folder), str(self.port), str(delay_s), json.dumps(settings)]
        self.log = (folder.parent / f"server-{time.monotonic_ns()}.log").open("w+b")
        where = self.log if log is None else log
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.serve_process", *arguments], cwd=ROOT, stderr=where, stdout=where
        )

    def __enter__(self):
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended: {self.text()}")
            try:
                with urllib.request.urlopen(f"{self.url}/ready", timeout=2):
                    return self
            except (OSError, urllib.error.URLError):
                time.sleep(0.05)
        raise RuntimeError(f"the server is not ready: {self.text()}")

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self.log.close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def text(self):
        return Path(self.log.name).read_text(encoding="utf-8")

    def signal(self, number):
        self.process.send_signal(number)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def main():
    from tests.serve_case import SlowRuntime

    from relgrade.bundle import load_bundle
    from relgrade.serve import ModelRack, ServeSettings, create_app, log_as_json, open_socket, run_server

    class DyingRuntime(SlowRuntime):
        def score(self, pairs):
            if any("dieword" in document for _, document in pairs):
                os.kill(os.getpid(), signal.SIGKILL)
            return super().score(pairs)

    folder, port, delay_s, fields = sys.argv[1:]
    settings = ServeSettings(port=int(port), admin_key=ADMIN, **json.loads(fields))
    runtime = DyingRuntime(delay_s=float(delay_s))
    rack = ModelRack({"default": folder}, load=lambda source: (load_bundle(source), runtime))
    log_as_json()
    run_server(create_app(rack, settings), bound=open_socket(settings))


if __name__ == "__main__":
    main()
