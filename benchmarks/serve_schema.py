"""schemathesis against the server: what docs/openapi.json says, and requests beside it.

    python -m benchmarks.serve_schema --environments FOLDER [--examples 200] [--seed 0] [--output FILE.json]

Installs schemathesis into FOLDER/schemathesis, once. It sends requests that fit the description and requests that do
not to a real server, without keys and with them, and checks statuses, content types and bodies of the answers, other
methods, and that no request is let in without its key. The grader is a stub, a hash of the text: the requests are the
point. Left out is the check that whatever fits the description is accepted: names of bundles and operating points, and
which questions are about relevance, cannot be written as a schema; such requests get their documented 422.
The last line is JSON.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.fake_runtime import fake_bundle
from tests.serve_process import Server

from benchmarks.clients import make_environment

PACKAGES = ["schemathesis>=4.32,<5"]
PAGE = Path(__file__).parent.parent / "docs" / "openapi.json"
KEY = "a-key-of-sixteen-characters"
LEFT_OUT = "positive_data_acceptance"
TIMEOUT_S = 3600


def run(command: Path, url: str, *, n_examples: int, seed: int, key: str | None) -> dict[str, Any]:
    """One run of schemathesis; its own report, condensed."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        options = ["--url", url, "--max-examples", str(n_examples), "--seed", str(seed), "--continue-on-failure"]
        options += ["--checks", "all", "--exclude-checks", LEFT_OUT, "--report", "json"]
        options += ["--report-json-path", str(report), "--generation-database", "none", "--no-color"]
        options += [] if key is None else ["--header", f"Authorization: Bearer {key}"]
        done = subprocess.run(
            [str(command), "run", str(PAGE), *options], cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S
        )
        if not report.exists():
            raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
        found = json.loads(report.read_text(encoding="utf-8"))
    return {
        "operations": found["operations"]["tested"],
        "cases": found["test_cases"]["generated"],
        "errored": found["test_cases"]["errored"],
        "failures": {each["title"]: each["operations"] for each in found["failures"]},
        "schemathesis": found["schemathesis_version"],
    }


def main() -> int:
    """0 when nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environments", required=True, type=Path)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    command = make_environment(arguments.environments / "schemathesis", PACKAGES).parent / "st"
    rows: dict[str, Any] = {}
    for name, key in (("open", None), ("keys", KEY)):
        with tempfile.TemporaryDirectory() as folder:
            bundle = Path(folder) / "bundle"
            fake_bundle(bundle)
            with Server(bundle, **({} if key is None else {"keys": {"one": key}})) as server:
                rows[name] = run(command, server.url, n_examples=arguments.examples, seed=arguments.seed, key=key)
    print(f"{'server':8}{'operations':>12}{'cases':>8}{'errored':>9}  found")
    for name, row in rows.items():
        told = "; ".join(f"{title}: {', '.join(where)}" for title, where in row["failures"].items()) or "nothing"
        print(f"{name:8}{row['operations']:>12}{row['cases']:>8}{row['errored']:>9}  {told}")
    result = {"examples": arguments.examples, "seed": arguments.seed, "left_out": [LEFT_OUT], "runs": rows}
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))
    return 1 if any(row["failures"] or row["errored"] for row in rows.values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
