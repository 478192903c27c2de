"""Hostile requests to the server, and what came of them; the first broken promise ends it.

    python -m benchmarks.serve_fuzz [--n 100000] [--real 3000] [--wire 5000] [--seed 0] [--output FILE.json]

Bodies go to apps in this process: `--n` to apps around a stub, a hash of the text, so that the bodies are what takes
the time, and `--real` to apps around the embedded grader. Malformed HTTP goes over sockets to a server in a process of
its own, around the stub, and keys are timed. Promised of every answer: a documented status, none of 5xx
but 503 and 504, JSON or a page, no trace and no folder of the server in it, and without the key nothing but a refusal.
The last line is JSON.
"""

import argparse
import json
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from tests.fake_runtime import fake_bundle
from tests.serve_case import make_app

from benchmarks import fuzz_app, key_timing, wire_attacks
from relgrade.serve import ModelRack, ServeSettings, create_app, load_bundle_and_runtime

LIMITS: dict[str, Any] = {"max_documents": 50, "max_body_bytes": 200_000}


def apps(rack: ModelRack) -> tuple[FastAPI, FastAPI]:
    """One without a key, one with."""
    opened = create_app(rack, ServeSettings(**LIMITS, admin_key=fuzz_app.KEY + "-of-the-admin"))
    return opened, create_app(rack, ServeSettings(**LIMITS, keys={"one": fuzz_app.KEY}))


def table(parts: dict[str, dict[str, Any]]) -> str:
    """A section a row."""
    lines = [f"{'requests':28}{'sent':>8}{'5xx':>5}{'slowest':>9}  statuses"]
    for name, row in parts.items():
        statuses = ", ".join(f"{status}: {n}" for status, n in row["statuses"].items())
        lines.append(f"{name:28}{row['requests']:>8}{row['server_errors']:>5}{row['slowest_s']:>8.2f}s  {statuses}")
    return "\n".join(lines)


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--real", type=int, default=3_000)
    parser.add_argument("--wire", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    logging.getLogger("relgrade.serve").setLevel(logging.CRITICAL)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        fake_bundle(bundle)
        stub = make_app(bundle).state.service.rack
        parts = wire_attacks.run(bundle, n=arguments.wire, seed=arguments.seed)
        parts |= fuzz_app.fuzz(*apps(stub), n=arguments.n, first_seed=arguments.seed)
        before_mb = fuzz_app.memory_mb()
        parts |= fuzz_app.deep_and_large(create_app(stub))
        real = ModelRack({"default": None}, load=load_bundle_and_runtime)
        parts |= fuzz_app.fuzz(*apps(real), n=arguments.real, first_seed=arguments.seed + 1000, prefix="real grader, ")
    keys = key_timing.measure(seed=arguments.seed)
    print(table(parts))
    print(key_timing.table(keys))
    result = {
        "seed": arguments.seed,
        "bodies": sum(row["requests"] for name, row in parts.items() if not name.startswith("wire")),
        "wire": sum(row["requests"] for name, row in parts.items() if name.startswith("wire")),
        "server_errors": sum(row["server_errors"] for row in parts.values()),
        "let_in": 0,  # a request that is ends the run
        "parts": parts,
        "memory_mb": {"after the stub's bodies": round(before_mb), "at the end": round(fuzz_app.memory_mb())},
        "key_timing": keys,
        "seconds": round(time.perf_counter() - start),
        "cores": os.cpu_count(),
    }
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
