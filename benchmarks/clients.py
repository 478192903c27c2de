"""Unmodified clients of other rerankers against `relgrade serve`: one command, a table.

    python -m benchmarks.clients --environments FOLDER [--output FILE.md]

Makes an environment for each group of clients whose pins agree (FOLDER/NAME, kept for the next time), starts a server
with the embedded grader, and runs `client_checks.py` in each. The last line is JSON.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PACKAGES = {
    "cohere-5": ["cohere>=5,<6", "langchain-cohere"],
    "cohere-6": [
        "cohere>=6,<7",
        "llama-index-postprocessor-cohere-rerank",
        "llama-index-postprocessor-jinaai-rerank",
        "llama-index-postprocessor-tei-rerank",
    ],
    "cohere-7": ["cohere>=7,<8", "huggingface_hub", "openai>=3", "typesafe-sdk", "voyageai"],
    "haystack": ["cohere-haystack", "haystack-ai>=3", "huggingface-api-haystack", "jina-haystack"],
    "jev": ["hev-rerank", "jev-reranker"],
}
CHECKS = Path(__file__).with_name("client_checks.py")
START_S = 120


def python_of(folder: Path) -> Path:
    """The interpreter of an environment."""
    return folder / ("Scripts" if os.name == "nt" else "bin") / "python"


def make_environment(folder: Path, packages: list[str]) -> Path:
    """Its interpreter, with the packages installed; made once."""
    python = python_of(folder)
    if not python.exists():
        venv.create(folder, with_pip=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
        subprocess.run(command, check=True)
    return python


@contextmanager
def serving(*options: str) -> Iterator[str]:
    """The URL of a server with the embedded grader."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "relgrade", "serve", "--port", str(port), *options]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + START_S
        while True:
            try:
                with urllib.request.urlopen(f"{url}/ready", timeout=5):
                    break
            except (OSError, urllib.error.URLError):
                if time.monotonic() > end or process.poll() is not None:
                    raise RuntimeError("the server did not start") from None
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = ["| client | version | call | result |", "|---|---|---|---|"]
    for row in rows:
        result = "ok" if row["ok"] else f"**failed**: {row['note']}"
        lines.append(f"| {row['client']} | {row['version']} | `{row['call']}` | {result} |")
    return "\n".join(lines)


def main() -> int:
    """0 when every check passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environments", required=True, type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--only", choices=sorted(PACKAGES), action="append")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    names = arguments.only or list(PACKAGES)
    pythons = {name: make_environment(arguments.environments / name, PACKAGES[name]) for name in names}
    environment = {**os.environ, "HAYSTACK_TELEMETRY_ENABLED": "False", "TOKENIZERS_PARALLELISM": "false"}
    with serving() as url:
        for name, python in pythons.items():
            done = subprocess.run(
                [str(python), str(CHECKS), name, url], capture_output=True, text=True, env=environment, timeout=600
            )
            found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
            if done.returncode != 0:
                note = done.stderr.strip().splitlines()[-1:] or ["it ended"]
                found.append({"client": name, "version": "?", "call": "all", "ok": False, "note": note[0][:160]})
            rows += found
    page = "# Unmodified clients\n\nWritten by `python -m benchmarks.clients`.\n\n" + table(rows) + "\n"
    if arguments.output:
        arguments.output.write_text(page, encoding="utf-8")
    print(table(rows))
    n_ok = sum(row["ok"] for row in rows)
    print(json.dumps({"checks": len(rows), "passed": n_ok}))
    return 0 if n_ok == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
