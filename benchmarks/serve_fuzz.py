"""Sends many hostile bodies to an app in this process and counts what came of them; a 5xx ends it.

    python -m benchmarks.serve_fuzz [--n 100000] [--seed 0]

The model is the one of the tests, so that the bodies are what takes the time. The last line is JSON.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
from hypothesis import HealthCheck, given, seed, settings
from tests.serve_case import make_app

from benchmarks.fuzz_bodies import PATHS, bodies, raw_bodies

CHUNK = 10_000  # examples of one hypothesis run, which remembers every one of them


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    counts: Counter[str] = Counter()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        app = make_app(Path(folder) / "bundle", max_documents=50, max_body_bytes=200_000)
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app, raise_app_exceptions=False), base_url="http://127.0.0.1", timeout=60
        )

        def check(path: str, content: bytes) -> None:
            response = runner.run(client.post(path, content=content, headers={"content-type": "application/json"}))
            assert response.status_code < 500, (path, content, response.text)
            assert "Traceback" not in response.text, (path, content)
            response.json()
            counts[str(response.status_code)] += 1

        for number, n in enumerate([CHUNK] * (arguments.n // CHUNK) or [arguments.n]):
            options: dict[str, Any] = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
            as_json = seed(arguments.seed + number)(
                settings(max_examples=n * 4 // 5, **options)(
                    given(PATHS, bodies())(lambda path, body: check(path, json.dumps(body).encode()))
                )
            )
            as_bytes = seed(arguments.seed + number)(
                settings(max_examples=n // 5, **options)(given(PATHS, raw_bodies())(check))
            )
            as_json()
            as_bytes()
            print(f"{sum(counts.values())} bodies, {time.perf_counter() - start:.0f} s, {dict(counts)}", flush=True)
        runner.run(client.aclose())
    print(json.dumps({"bodies": sum(counts.values()), "statuses": dict(counts), "server_errors": 0}))


if __name__ == "__main__":
    main()
