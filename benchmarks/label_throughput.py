"""How fast the labelling client is against a server that answers at once, and whether its memory stays flat.

Run it with `python -m benchmarks.label_throughput`; the last line is the result, which --output also writes.
The server runs in a process of its own on the same machine. The clock includes everything of `relgrade label`: the
start of Python, reading and claiming pairs, requests, the journal, and writing the labels.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

SERVER = Path(__file__).parent.parent / "tests" / "fake_teacher.py"
_SAMPLE_EVERY_S = 0.2


def write_pairs_file(path: Path, *, n_pairs: int, n_words: int = 100) -> None:
    """Pairs with documents of `n_words` words, four to a query; every fourth document holds the answer."""
    with path.open("w", encoding="utf-8") as file:
        for i in range(n_pairs):
            words = " ".join(f"word{(i * 7 + j) % 997}" for j in range(n_words))
            text = f"document {i}: {words}{' and the answer' if i % 4 == 0 else ''}"
            row = {"query_id": f"q{i // 4}", "query": f"what is the {i // 4}", "doc_id": f"d{i}", "document": text}
            file.write(json.dumps(row) + "\n")


def run(n_pairs: int, *, concurrency: int) -> dict[str, Any]:
    """Label `n_pairs` and measure."""
    with tempfile.TemporaryDirectory() as folder:
        pairs, labels = Path(folder) / "pairs.jsonl", Path(folder) / "labels.jsonl"
        write_pairs_file(pairs, n_pairs=n_pairs)
        server = subprocess.Popen(
            [sys.executable, str(SERVER), "0", "0", "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            command = [sys.executable, "-m", "relgrade", "label", str(pairs), "-o", str(labels), "--teacher", url]
            command += ["--model", "instant", "--concurrency", str(concurrency)]
            started_s = time.perf_counter()
            client = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            memory_mb: list[float] = []
            watcher = threading.Thread(target=_watch, args=(client, memory_mb))
            watcher.start()
            _, status, usage = os.wait4(client.pid, 0)
            elapsed_s = time.perf_counter() - started_s
            client.returncode = os.waitstatus_to_exitcode(status)
            watcher.join()
        finally:
            server.communicate()
        n_labels = labels.read_bytes().count(b"\n")
    assert client.returncode == 0, f"exit code {client.returncode}"
    assert n_labels == n_pairs, f"{n_labels} labels"
    return {
        "n_pairs": n_pairs,
        "seconds": round(elapsed_s, 1),
        "labels_per_s": round(n_pairs / elapsed_s),
        # What a busy machine does not change; the server has the other core.
        "labels_per_s_of_client_cpu": round(n_pairs / (usage.ru_utime + usage.ru_stime)),
        **_memory(memory_mb),
    }


def _watch(process: "subprocess.Popen[bytes]", memory_mb: list[float]) -> None:
    """Resident memory of a process over its life, in MB; Linux only."""
    while process.returncode is None:
        try:
            pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
            memory_mb.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
        except (OSError, IndexError):
            pass
        time.sleep(_SAMPLE_EVERY_S)


def _memory(memory_mb: list[float]) -> dict[str, float]:
    """After the first quarter of the run, and the peak."""
    early = memory_mb[len(memory_mb) // 4] if memory_mb else 0.0
    return {"memory_mb_at_a_quarter": round(early, 1), "memory_mb_peak": round(max(memory_mb, default=0.0), 1)}


def main() -> None:
    """Measure two sizes, so that growth of memory would show, and print the result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--output", type=Path, help="file to write, as benchmarks/results/label_throughput.json")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    runs = [run(n, concurrency=options.concurrency) for n in (options.pairs // 4, options.pairs)]
    result = {
        "benchmark": "label_throughput",
        "concurrency": options.concurrency,
        "runs": runs,
        "cores": os.cpu_count(),
        "load_before": round(load, 1),
        "python": platform.python_version(),
    }
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
