"""Kills the labelling client with -9 again and again and checks that every pair is labelled once and paid once.

Run it with `python -m benchmarks.label_faults`; the last line is the result, which --output also writes.

A server on loopback fails 20 % of all calls before anything is paid: 429, 500, and connections that break. The client
is killed at random moments. After each kill, when the server has finished what it was answering, the requests that it
was paid for and that the journal does not have are counted: those were in flight. At the end

    paid requests == pairs + requests in flight at each kill

must hold exactly, no kill may lose more than `concurrency` requests, and every pair must have one label.
"""

import argparse
import json
import platform
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.label_throughput import SERVER, write_pairs_file

CONCURRENCY = 8
SHARE_FAILING = 0.2
LONGEST_REPLY_S = 0.05
_PATIENCE_S = 120.0


def run(n_pairs: int, *, n_kills: int, seed: int) -> dict[str, Any]:
    """Label with kills and return the counts; raises AssertionError where one is not as promised."""
    chance = random.Random(seed)
    kill_at = sorted(chance.sample(range(1, n_pairs - CONCURRENCY), n_kills))  # answers in the journal
    with tempfile.TemporaryDirectory() as folder:
        pairs, labels = Path(folder) / "pairs.jsonl", Path(folder) / "labels.jsonl"
        journal = Path(f"{labels}.journal")
        write_pairs_file(pairs, n_pairs=n_pairs, n_words=20)
        server = subprocess.Popen(
            [sys.executable, str(SERVER), str(SHARE_FAILING), str(LONGEST_REPLY_S), "1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            command = [sys.executable, "-m", "relgrade", "label", str(pairs), "-o", str(labels), "--teacher", url]
            command += ["--model", "scripted", "--concurrency", str(CONCURRENCY), "--retries", "9", "--no-progress"]
            in_flight = [_kill_at(command, journal, url, at) for at in kill_at]
            last = subprocess.run(command, capture_output=True, text=True, check=False)
            assert last.returncode == 0, last.stderr
            log = _log(url)
        finally:
            server.communicate()
        rows = [json.loads(line) for line in labels.read_text(encoding="utf-8").splitlines()]
    ids = [row["doc_id"] for row in rows]
    n_wrong = sum((row["label"] > 0.5) != row["document"].endswith("answer") for row in rows)
    assert sorted(ids) == sorted(f"d{i}" for i in range(n_pairs)), "not one label for each pair"
    assert n_wrong == 0, f"{n_wrong} labels are not what the server said"
    lost = [after - before for before, after in zip([0, *in_flight[:-1]], in_flight, strict=True)]
    assert max(lost, default=0) <= CONCURRENCY, f"a kill lost more than was in flight: {lost}"
    assert log["n_paid"] == n_pairs + sum(lost), f"paid {log['n_paid']} for {n_pairs} pairs, {sum(lost)} in flight"
    return {
        "n_pairs": n_pairs,
        "n_labels": len(rows),
        "n_kills": n_kills,
        "killed_after_answers": kill_at,
        "in_flight_and_paid_at_each_kill": lost,
        "n_paid_requests": log["n_paid"],
        "most_in_flight": log["most"],
    }


def _kill_at(command: list[str], journal: Path, url: str, at: int) -> int:
    """Start the client, kill it once the journal has `at` answers; returns how many paid requests were lost so far."""
    client = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline_s = time.monotonic() + _PATIENCE_S
    while _n_answers(journal) < at:
        assert client.poll() is None, "the client ended before it was killed"
        assert time.monotonic() < deadline_s, "the client makes no progress"
        time.sleep(0.002)
    client.send_signal(signal.SIGKILL)
    client.wait()
    while (log := _log(url))["open"]:  # what the server was answering is paid, and nobody takes it
        time.sleep(0.01)
    return int(log["n_paid"]) - _n_answers(journal)


def _n_answers(journal: Path) -> int:
    if not journal.exists():
        return 0
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True, timeout=10)) as db:
        try:
            return int(db.execute("select count(*) from answers").fetchone()[0])
        except sqlite3.OperationalError:  # its tables are not there yet
            return 0


def _log(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url.replace("/v1", "/log"), timeout=10) as reply:
        return dict(json.load(reply))


def main() -> None:
    """Run it and print the result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=2_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="file to write, as benchmarks/results/label_faults.json")
    options = parser.parse_args()
    started_s = time.monotonic()
    found = run(options.pairs, n_kills=options.kills, seed=options.seed)
    result = {
        "benchmark": "label_faults",
        "share_of_calls_that_fail": SHARE_FAILING,
        "concurrency": CONCURRENCY,
        **found,
        "seconds": round(time.monotonic() - started_s),
        "python": platform.python_version(),
    }
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
