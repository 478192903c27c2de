"""Pairs a second and latency of relgrade and its peers, in one run, in turns, on the same pairs.

    python -m benchmarks.speed --base FOLDER [--data FOLDER] [--peers PYTHON] [--infinity PYTHON] [--output FILE.json]

`--base` is a MiniLM-like encoder (all-MiniLM-L6-v2); all contenders but relgrade's own graders run it under one random
logit. Peers live in environments of their own; without them they are left out:

    python -m venv peers    && peers/bin/pip install sentence-transformers optimum-onnx flashrank fastembed
    python -m venv infinity && infinity/bin/pip install "infinity-emb[torch,optimum]" "transformers<4.49" \
        "optimum<2" "click<8.2" "pyarrow<20" "numpy<2"

On a shared machine read the ratios and CPU seconds: both are taken list by list against the reference contender.
The last line is JSON.
"""

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from benchmarks.speed.contenders import INFINITY, OURS, PEERS, race, start_all
from benchmarks.speed.growth import measure_growth
from benchmarks.speed.limits import FLOP_PER_TOKEN, encoder_rate, product_rates
from benchmarks.speed.lists import KINDS, draw_lists
from benchmarks.speed.starting import measure_start
from benchmarks.speed.weights import make_model
from relgrade.grade.grader import DEFAULT_BUNDLE

REFERENCE = "sentence-transformers torch"


def hardware() -> dict[str, Any]:
    """What ran this, in words that identify no one machine."""
    flags: set[str] = set()
    model = platform.processor()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                flags |= set(line.split(":", 1)[1].split())
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
    except OSError:
        pass
    known = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "instructions": [name for name in known if name in flags],
        "python": platform.python_version(),
        "load": [round(each, 1) for each in os.getloadavg()],
    }


def share_of_limit(folder: Path) -> dict[str, Any]:
    """The encoder's rate beside that of matrix products alone, one thread, CPU time."""
    rates = product_rates()
    found: dict[str, Any] = {f"{name}_gops": round(rate, 1) for name, rate in rates.items()}
    floats, digits = folder / "model/onnx/model_float.onnx", next(DEFAULT_BUNDLE.glob("encoder*.onnx"))
    for name, graph, kind, passes in (("float", floats, "fp32", 1), ("two-digit", digits, "int8", 2)):
        tokens = encoder_rate(graph)
        done = tokens * FLOP_PER_TOKEN * passes / 1e9
        found[name] = {"tokens_a_second": round(tokens), "share_of_limit": round(done / rates[kind], 3)}
    return found


def table(found: dict[str, Any], *, n_threads: int) -> str:
    """One contender a row, a kind of list a group of columns."""
    lines = [f"\n{n_threads} thread(s){'':36}pairs/s   p50 ms   p95 ms   x by CPU [quartiles]"]
    for name, row in found.items():
        for kind, cell in row.items():
            if isinstance(cell, dict):
                middle, low, high = cell["cpu_ratio"]
                lines.append(
                    f"{name:36}{kind:8}{cell['pairs_a_second']:13.1f}{cell['p50_ms']:9.0f}{cell['p95_ms']:9.0f}"
                    f"{middle:8.2f} [{low:.2f}, {high:.2f}]"
                )
        lines.append(f"{'':36}peak {row['peak_mb']:.0f} MB, loaded in {row['load_s']:.1f} s")
    return "\n".join(lines)


def _write(found: dict[str, Any], path: Path | None) -> None:
    if path:
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Measure, print, and perhaps write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--peers", help="python of the peers' environment")
    parser.add_argument("--infinity", help="python of infinity's environment")
    parser.add_argument("--work", type=Path, default=Path("runs/speed"), help="folder for graphs; kept")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", nargs="+", help="names of contenders")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--lists", type=int, default=8, help="of each kind")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--growth", type=int, nargs="*", default=[10, 100, 1000, 10000], help="pairs streamed")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    make_model(arguments.base, arguments.work)
    found: dict[str, Any] = {"benchmark": "speed", "hardware": hardware()}
    found["start"] = measure_start(repeats=arguments.rounds)
    found["limit"] = share_of_limit(arguments.work)
    print(json.dumps(found, indent=1), flush=True)
    pythons = dict.fromkeys(OURS, sys.executable)
    pythons |= dict.fromkeys(PEERS if arguments.peers else (), str(arguments.peers))
    pythons |= dict.fromkeys(INFINITY if arguments.infinity else (), str(arguments.infinity))
    pythons = {name: pythons[name] for name in arguments.only or pythons}
    drawn = draw_lists(arguments.data, n_lists=arguments.lists)
    lists = {kind: drawn[kind] for kind in arguments.kinds}
    reference = REFERENCE if REFERENCE in pythons else next(iter(pythons))
    for n_threads in arguments.threads:
        contenders, failed = start_all(pythons, folder=arguments.work, n_threads=n_threads)
        try:
            raced = race(contenders, lists, rounds=arguments.rounds, reference=reference)
        finally:
            for each in contenders:
                each.stop()
        found[f"threads_{n_threads}"] = {"reference": reference, "contenders": raced, "not_started": failed}
        print(table(raced, n_threads=n_threads), *failed.items(), sep="\n", flush=True)
        _write(found, arguments.output)
    found["growth"] = measure_growth(arguments.growth)
    _write(found, arguments.output)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
